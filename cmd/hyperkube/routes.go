package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"hyperkube/apiserver/endpoints"
	"hyperkube/component"
)

const routesUsage = "usage: hyperkube routes [PART-OF-A-PATH] [-o json]"

// runRoutes lists the routes of the API that go-restful dispatches, with the function
// that answers each.
func runRoutes(ctx context.Context, args []string) error {
	o := &reader{}
	parts, err := parseReader("routes", routesUsage, o, args)
	if err != nil {
		return err
	}
	if len(parts) > 1 {
		return &component.UsageError{Err: errors.New(routesUsage)}
	}
	_, set, err := o.connect("routes")
	if err != nil {
		return err
	}
	var all, routes []endpoints.Route
	if err := ask(ctx, set, "/debug/routes", nil, &all); err != nil {
		return err
	}
	for _, r := range all {
		if len(parts) == 0 || strings.Contains(r.Path, parts[0]) {
			routes = append(routes, r)
		}
	}
	if o.Output == "json" {
		return printJSON(routes)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "METHOD\tPATH\tHANDLER")
	for _, r := range routes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Method, r.Path, r.Handler)
	}
	return w.Flush()
}
