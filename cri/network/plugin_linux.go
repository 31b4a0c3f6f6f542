package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// plugin is one CNI plugin. del may be repeated, also without a namespace.
type plugin interface {
	add(ctx context.Context, args *pluginArgs) (*current.Result, error)
	del(ctx context.Context, args *pluginArgs) error
	check(ctx context.Context, args *pluginArgs) error
}

// pluginArgs is a plugin's call, taken from its environment and standard input.
type pluginArgs struct {
	Command, ContainerID, NetNS, IfName string
	Conf                                []byte
	Prev                                *current.Result // of the plugin before it in the list
	CNIVersion                          string
}

// supported are the versions of the specification whose calls we answer.
var supported = version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")

// call performs one CNI command, and returns what belongs on standard output.
func call(ctx context.Context, p plugin, conf []byte, environ []string) ([]byte, error) {
	args := &pluginArgs{Conf: conf}
	for _, e := range environ {
		key, value, _ := strings.Cut(e, "=")
		switch key {
		case "CNI_COMMAND":
			args.Command = value
		case "CNI_CONTAINERID":
			args.ContainerID = value
		case "CNI_NETNS":
			args.NetNS = value
		case "CNI_IFNAME":
			args.IfName = value
		}
	}
	var out bytes.Buffer
	if args.Command == "VERSION" {
		err := supported.Encode(&out)
		return out.Bytes(), err
	}
	if err := args.readPrev(); err != nil {
		return nil, err
	}
	switch args.Command {
	case "ADD":
		result, err := p.add(ctx, args)
		if err != nil {
			return nil, err
		}
		converted, err := result.GetAsVersion(args.CNIVersion)
		if err != nil {
			return nil, err
		}
		err = converted.PrintTo(&out)
		return out.Bytes(), err
	case "DEL":
		return nil, p.del(ctx, args)
	case "CHECK":
		return nil, p.check(ctx, args)
	case "STATUS", "GC":
		return nil, nil
	}
	return nil, fmt.Errorf("unknown CNI_COMMAND %q", args.Command)
}

func (a *pluginArgs) readPrev() error {
	var conf types.PluginConf
	if err := json.Unmarshal(a.Conf, &conf); err != nil {
		return fmt.Errorf("network configuration: %w", err)
	}
	a.CNIVersion = conf.CNIVersion
	if conf.RawPrevResult == nil {
		return nil
	}
	if err := version.ParsePrevResult(&conf); err != nil {
		return err
	}
	prev, err := current.NewResultFromResult(conf.PrevResult)
	a.Prev = prev
	return err
}

// cniError is the form in which a plugin reports a failure.
func cniError(err error) *types.Error {
	var known *types.Error
	if errors.As(err, &known) {
		return known
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}
