package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hyperkube/component"
	"hyperkube/controllers"
)

// controllersPath is where the controller manager's socket lists its controllers.
const controllersPath = "/controllers"

// runControllers prints a row a controller (S0-05): hyperkube controllers [NAME...] [-o json].
func runControllers(ctx context.Context, args []string) error {
	dataDir, rest, err := dataDirFlag(args)
	if err != nil {
		return err
	}
	asJSON, names := false, []string(nil)
	for i := 0; i < len(rest); i++ {
		switch {
		case rest[i] == "-o" && i+1 < len(rest) && rest[i+1] == "json":
			asJSON, i = true, i+1
		case rest[i] == "-ojson" || rest[i] == "-o=json" || rest[i] == "--output=json":
			asJSON = true
		case strings.HasPrefix(rest[i], "-"):
			return &component.UsageError{Err: fmt.Errorf("usage: hyperkube controllers [NAME...] [-o json] [--data-dir DIR]")}
		default:
			names = append(names, rest[i])
		}
	}
	list, err := askControllers(ctx, dataDir)
	if err != nil {
		return err
	}
	if list, err = namedControllers(list, names); err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(list)
	}
	printControllers(os.Stdout, list, time.Now())
	return nil
}

// askControllers asks the controller manager of the data directory.
func askControllers(ctx context.Context, dataDir string) ([]controllers.ControllerStatus, error) {
	registrations, err := component.Registrations(dataDir)
	if err != nil {
		return nil, err
	}
	for _, r := range registrations {
		if r.Component == "controller-manager" {
			var list []controllers.ControllerStatus
			err := askComponent(ctx, r, controllersPath, &list)
			return list, err
		}
	}
	return nil, fmt.Errorf("no controller-manager of ours runs under %s: start it, or give its --data-dir", dataDir)
}

// namedControllers keeps those that are asked for, by our name or upstream's; all without names.
func namedControllers(list []controllers.ControllerStatus, names []string) ([]controllers.ControllerStatus, error) {
	if len(names) == 0 {
		return list, nil
	}
	var chosen []controllers.ControllerStatus
	for _, name := range names {
		i := slices.IndexFunc(list, func(c controllers.ControllerStatus) bool { return c.Name == name || c.Upstream == name })
		if i < 0 {
			return nil, &component.UsageError{Err: fmt.Errorf("%q is not a controller; there are: %s", name, strings.Join(controllers.Names(), ", "))}
		}
		chosen = append(chosen, list[i])
	}
	return chosen, nil
}

func printControllers(out io.Writer, list []controllers.ControllerStatus, now time.Time) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CONTROLLER\tSTATE\tQUEUE\tRUNS\tERRORS\tLAST KEY\tAGO\tLAST ERROR")
	for _, c := range list {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", c.Name, controllerState(c), c.QueueLength, c.Syncs, c.Errors,
			orDash(c.LastKey), age(now, c.LastTime), lastError(c, now))
	}
	// A tab writer on a buffer or a terminal has nothing that could fail halfway.
	_ = w.Flush()
	for _, c := range list {
		for _, timer := range c.Timers {
			fmt.Fprintf(out, "%s waits: %s\n", c.Name, timer)
		}
	}
}

func controllerState(c controllers.ControllerStatus) string {
	switch {
	case !c.Enabled:
		return "off"
	case !c.Running:
		return "idle" // another manager leads, or there is nothing here for it
	case !c.Synced:
		return "listing"
	case len(c.Held) > 0:
		return "held: " + strings.Join(c.Held, ",")
	case len(c.Status.Running) > 0:
		return "at " + strings.Join(c.Status.Running, ",")
	}
	return "waiting"
}

func age(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return max(now.Sub(then), 0).Round(100 * time.Millisecond).String()
}

// lastError is a line's worth of the newest failure, with its key and age: it stays after the
// key has succeeded.
func lastError(c controllers.ControllerStatus, now time.Time) string {
	if c.LastError == "" {
		return "-"
	}
	text, _, _ := strings.Cut(c.LastError, "\n")
	if runes := []rune(text); len(runes) > 100 {
		text = string(runes[:100]) + "…"
	}
	return fmt.Sprintf("%s, %s ago: %s", c.LastErrorKey, age(now, c.LastErrorTime), text)
}
