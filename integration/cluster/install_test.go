package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/cluster/deployment"
)

// environment is a cluster with the product installed, for one check.
type environment struct {
	*deployment.Installation
	t       *testing.T
	mode    routingMode
	client  string // path of its program on this machine
	clients map[string]installedWorkload
	running *running

	// Of the check, for the table.
	answer string // yes if empty
	note   string
	proof  []string // how the kernel proved its pods
}

func (e *environment) in(t *testing.T) *environment {
	in := &environment{Installation: e.Installation, t: t, mode: e.mode, client: e.client, clients: e.clients, running: e.running}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(in.Logs(t.Context()))
		}
	})
	return in
}

// skip ends a check that cannot be run here.
func (e *environment) skip(reason string) {
	e.t.Helper()
	e.note = reason
	e.t.Skip(reason)
}

func (l *loaded) install(t *testing.T, mode routingMode) *environment {
	t.Helper()
	settings := append([]string{"GME_ROUTING=" + mode.name}, mode.settings...)
	e := &environment{
		t: t, mode: mode, client: l.client, clients: l.clients,
		Installation: deployment.Install(t, l.cluster, l.daemon, deployment.Options{Settings: settings, Patch: mode.patch}),
	}
	for line := range strings.Lines(e.Logs(t.Context())) {
		if strings.Contains(line, "msg=routing ") || strings.Contains(line, "msg=attestation ") {
			t.Log(strings.TrimSpace(line))
		}
	}
	return e
}

func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("not within %s", d))
}
