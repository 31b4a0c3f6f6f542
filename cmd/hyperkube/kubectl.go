package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// runKubectl is kubectl itself, set on this cluster's admin.kubeconfig unless the caller names another, or runs in a pod, where
// the pod's own credentials count. argv[0] "kubectl" comes here too.
func runKubectl(_ context.Context, args []string) error {
	dataDir, rest, err := dataDirFlag(args)
	if err != nil {
		return err
	}
	if os.Getenv("KUBECONFIG") == "" && !slices.ContainsFunc(rest, namesAnotherCluster) {
		file := filepath.Join(dataDir, "admin.kubeconfig")
		_, err := os.Stat(file)
		switch missing := errors.Is(err, os.ErrNotExist); {
		case !missing:
			os.Setenv("KUBECONFIG", file)
		case os.Getenv("KUBERNETES_SERVICE_HOST") == "": // the variable by which client-go too knows a pod
			return fmt.Errorf("%s does not exist: start the cluster with `hyperkube all --data-dir %s`, or name another with --kubeconfig", file, dataDir)
		}
	}
	os.Args = append([]string{"kubectl"}, rest...)
	// -v and --vmodule: in upstream's binary, kubectl's main adds them.
	klog.ClearLogger() // ours has levels of its own
	klogFlags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(klogFlags)
	// Before the flags are parsed too: .kuberc and plugins are read while the command is made.
	klogFlags.Set("v", cmd.GetLogVerbosity(os.Args))
	command := cmd.NewDefaultKubectlCommand()
	for _, name := range []string{"v", "vmodule"} {
		command.PersistentFlags().AddGoFlag(klogFlags.Lookup(name))
	}
	command.SilenceErrors = true
	util.CheckErr(command.Execute()) // prints the error as kubectl does, and ends the process with kubectl's status
	return nil
}

func namesAnotherCluster(arg string) bool {
	return arg == "--kubeconfig" || strings.HasPrefix(arg, "--kubeconfig=")
}
