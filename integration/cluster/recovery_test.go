package cluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/deployment"
)

// The kernel ends it, as when there is no memory left: nothing was tidied up.
func killedDaemonComesBack(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	gsa := e.KSA(t, ns, "app")
	n := e.Cluster.Nodes[0]
	e.pod(ns, "app", podSpec("app", n.Name, "serve"))
	e.ready(ns, "app", "")
	daemons := programs(t, n, "gke-metadata-emulator")
	if len(daemons) != 1 {
		t.Fatalf("the daemon of %s is %v", n.Name, daemons)
	}
	if err := syscall.Kill(daemons[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	eventually(t, podWithin, "the process has ended", func(context.Context) error {
		if slices.Contains(programs(t, n, "gke-metadata-emulator"), daemons[0]) {
			return fmt.Errorf("process %d is there", daemons[0])
		}
		return nil
	})
	eventually(t, podWithin, "a token after the daemon was killed", func(ctx context.Context) error {
		var now answer
		if err := e.ask(ctx, ns, "app", "/now", &now); err != nil {
			return err
		}
		return e.right(now, gsa)
	})
	e.note = time.Since(start).Round(100 * time.Millisecond).String()
	t.Logf("a token %s after the daemon was killed", e.note)
}

// programs returns the processes on the node that run a program of this name.
func programs(t *testing.T, n *cluster.Node, name string) []int {
	t.Helper()
	pids, err := n.Pids()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(pids, func(pid int) bool {
		exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
		return err != nil || filepath.Base(exe) != name
	})
}

// Power is cut and restored: all processes, addresses, routes and mounts are lost,
// files are kept.
func rebootedNodeServesAgain(t *testing.T, e *environment) {
	ns := e.Namespace(t)
	gsa := e.KSA(t, ns, "app")
	n := e.Cluster.Nodes[1]
	e.pod(ns, "app", podSpec("app", n.Name, "serve"))
	was := e.ready(ns, "app", "")
	if err := e.Cluster.KillNode(n); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ctx, cancel := within(t.Context(), 2*time.Minute)
	defer cancel()
	if err := e.Cluster.RestartNode(ctx, n); err != nil {
		t.Fatal(err)
	}
	e.ServeGoogle(t, n)
	if err := n.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	e.ready(ns, "app", was)
	eventually(t, 2*time.Minute, "a token after the node was off", func(ctx context.Context) error {
		var now answer
		if err := e.ask(ctx, ns, "app", "/now", &now); err != nil {
			return err
		}
		return e.right(now, gsa)
	})
	e.note = time.Since(start).Round(100 * time.Millisecond).String()
	var first answer
	if err := e.ask(ctx, ns, "app", "/first", &first); err != nil {
		t.Error(err)
	}
	t.Logf("a token %s after the node was switched on; the pod's first instruction took %s and got: %s%s", e.note, first.Took, first.Email, first.Failed)
}

// What other programs do: all rules are flushed, or our table is.
func flushedTableComesBack(t *testing.T, e *environment) {
	if e.mode.name != "nftables" {
		e.skip("this mode has no nftables table")
	}
	ns := e.Namespace(t)
	gsa := e.KSA(t, ns, "app")
	n := e.Cluster.Nodes[0]
	e.pod(ns, "app", podSpec("app", n.Name, "serve"))
	e.ready(ns, "app", "")
	run := func(action string, command ...string) []byte {
		ctx, cancel := within(t.Context(), podWithin)
		defer cancel()
		output, err := n.Run(ctx, command...)
		if err != nil {
			t.Fatalf("%s: %v", action, err)
		}
		return output
	}
	table := []string{"nft", "list", "table", "ip", deployment.Name}
	ours := withoutCounts(run("the table", table...))
	// kube-proxy restores its own table only after a long time.
	others := filepath.Join(t.TempDir(), "others")
	if err := os.WriteFile(others, run("the tables of others", "nft", "list", "table", "ip", "kube-proxy"), 0o600); err != nil {
		t.Fatal(err)
	}
	var notes []string
	for _, do := range []string{"delete table ip " + deployment.Name, "flush table ip " + deployment.Name, "flush ruleset"} {
		run(do, append([]string{"nft"}, strings.Fields(do)...)...)
		back := eventually(t, podWithin, "the table after "+do, func(ctx context.Context) error {
			output, err := n.Run(ctx, table...)
			if now := withoutCounts(output); err == nil && now != ours {
				return fmt.Errorf("it is %s", now)
			}
			return err
		})
		if do == "flush ruleset" {
			run("the tables of others", "nft", "--file", others)
		}
		eventually(t, podWithin, "a token after "+do, func(ctx context.Context) error {
			var now answer
			if err := e.ask(ctx, ns, "app", "/now", &now); err != nil {
				return err
			}
			return e.right(now, gsa)
		})
		notes = append(notes, back.Round(10*time.Millisecond).String()+" after "+do)
	}
	e.note = strings.ReplaceAll(strings.Join(notes, ", "), " ip "+deployment.Name, "")
	t.Log(e.note)
}

// withoutCounts is the output of nft for a table, without the counters of its rules.
func withoutCounts(table []byte) string {
	return regexp.MustCompile(`packets \d+ bytes \d+`).ReplaceAllString(string(table), "")
}
