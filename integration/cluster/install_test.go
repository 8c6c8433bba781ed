package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/product"
)

// environment is a cluster where the product is installed, to one check.
type environment struct {
	*product.Installation
	t    *testing.T
	mode routingMode
	note string // of the check, for the table
}

func (e *environment) in(t *testing.T) *environment {
	in := &environment{Installation: e.Installation, t: t, mode: e.mode}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(in.Logs(t.Context()))
		}
	})
	return in
}

func install(t *testing.T, c *cluster.Cluster, mode routingMode, program string) *environment {
	t.Helper()
	settings := append([]string{"GME_ROUTING=" + mode.name}, mode.settings...)
	e := &environment{t: t, mode: mode, Installation: product.Install(t, c, program, product.Options{Settings: settings, Patch: mode.patch})}
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
