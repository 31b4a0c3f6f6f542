package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Mode is which of the two kernel interfaces iptables programs use.
type Mode string

const (
	// ModeAuto takes the one that the host's rules already use (R50).
	ModeAuto   Mode = "auto"
	ModeNFT    Mode = "nft"
	ModeLegacy Mode = "legacy"
)

// ErrNoIptables says what to do about it.
var ErrNoIptables = errors.New("iptables is not installed: install the package iptables, or start with --disable=proxy")

// lockWait is how many seconds to wait for the xtables lock, which Docker,
// firewalld and others take as well.
const lockWait = "10"

// Runner runs one of the iptables programs. It is what unit tests replace.
type Runner func(ctx context.Context, stdin string, argv ...string) (string, error)

// Exec is the Runner that runs programs. A failure carries argv and what was
// printed.
func Exec(ctx context.Context, stdin string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Backend is the family of programs to use: "iptables", "iptables-nft" or
// "iptables-legacy"; for IPv6, "ip6tables" and so on.
type Backend struct {
	Program string
	// Reason is why, for the log and `doctor`.
	Reason string
	run    Runner
}

// Save prints the rules of both tables; a table that nobody has used yet may be
// missing.
func (b *Backend) Save(ctx context.Context) (Saved, error) {
	saved := Saved{}
	for _, table := range []string{"filter", "nat"} {
		out, err := b.run(ctx, "", b.Program+"-save", "-t", table)
		if err != nil {
			return nil, err
		}
		for name, t := range ParseSave(out) {
			saved[name] = t
		}
	}
	return saved, nil
}

// Restore applies a text, each table as a whole or not at all, leaving all other
// chains alone.
func (b *Backend) Restore(ctx context.Context, text string) error {
	_, err := b.run(ctx, text, b.Program+"-restore", "-w", lockWait, "--noflush")
	return err
}

// IPv6 is the programs of the same kind for IPv6; an error if they do not run, or the kernel does without.
func (b *Backend) IPv6(ctx context.Context) (*Backend, error) {
	six := &Backend{Program: strings.Replace(b.Program, "iptables", "ip6tables", 1), Reason: b.Reason, run: b.run}
	if _, err := b.run(ctx, "", six.Program+"-save", "-t", "nat"); err != nil {
		return nil, fmt.Errorf("for the pods' IPv6 addresses: %w", err)
	}
	return six, nil
}

// probe is what is known of the host's rules.
type probe struct {
	nft, legacy           bool // the programs exist
	nftRules, legacyRules int
	nftKube, legacyKube   bool // a kubelet has left its hint chain
	plain                 bool // there is a program called iptables
}

// DetectBackend finds the programs for a mode.
func DetectBackend(ctx context.Context, mode Mode, run Runner) (*Backend, error) {
	p := probe{}
	nft, nftErr := run(ctx, "", "iptables-nft-save")
	legacy, legacyErr := run(ctx, "", "iptables-legacy-save")
	_, plainErr := run(ctx, "", "iptables", "--version")
	p.nft, p.nftRules, p.nftKube = nftErr == nil, countForeignRules(nft), hasKubeHint(nft)
	p.legacy, p.legacyRules, p.legacyKube = legacyErr == nil, countForeignRules(legacy), hasKubeHint(legacy)
	p.plain = plainErr == nil
	program, reason, err := chooseBackend(mode, p)
	if err != nil {
		return nil, err
	}
	return &Backend{Program: program, Reason: reason, run: run}, nil
}

// chooseBackend: rules through both interfaces work, but each program shows only its
// own, and who looks for a lost packet sees half of the picture.
func chooseBackend(mode Mode, p probe) (program, reason string, err error) {
	switch {
	case !p.plain && !p.nft && !p.legacy:
		return "", "", ErrNoIptables
	case mode == ModeNFT && p.nft:
		return "iptables-nft", "asked for", nil
	case mode == ModeLegacy && p.legacy:
		return "iptables-legacy", "asked for", nil
	case mode == ModeNFT || mode == ModeLegacy:
		return "", "", fmt.Errorf("iptables mode %q is asked for, but iptables-%s is not installed or does not run", mode, mode)
	case mode != ModeAuto && mode != "":
		return "", "", fmt.Errorf("unknown iptables mode %q: want auto, nft or legacy", mode)
	case p.nft && p.nftKube:
		return "iptables-nft", "a kubelet's hint chain is there", nil
	case p.legacy && p.legacyKube:
		return "iptables-legacy", "a kubelet's hint chain is there", nil
	case p.legacy && p.legacyRules > p.nftRules:
		return "iptables-legacy", fmt.Sprintf("the host has %d rules there, %d in nft", p.legacyRules, p.nftRules), nil
	case p.nft && p.nftRules > 0:
		return "iptables-nft", fmt.Sprintf("the host has %d rules there, %d in legacy", p.nftRules, p.legacyRules), nil
	case p.plain:
		return "iptables", "the host's default, as there are no rules yet", nil
	case p.nft:
		return "iptables-nft", "the only one installed", nil
	}
	return "iptables-legacy", "the only one installed", nil
}

// countForeignRules counts rules that are not the proxy's own: a former run must
// not decide over the host's real firewall.
func countForeignRules(save string) int {
	count := 0
	for _, line := range strings.Split(save, "\n") {
		if strings.HasPrefix(line, "-A ") && !strings.HasPrefix(line, "-A KUBE-") && !strings.Contains(line, "-j KUBE-") {
			count++
		}
	}
	return count
}

// hasKubeHint looks for the chain in which kubelets say which interface is used.
func hasKubeHint(save string) bool {
	return strings.Contains(save, "\n:KUBE-IPTABLES-HINT ") || strings.Contains(save, "\n:KUBE-KUBELET-CANARY ")
}
