// Command cluster-binaries builds the programs of the cluster before the tests need them,
// and removes clusters that crashed tests left.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"gke-metadata-emulator/integration/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := errors.Join(cluster.Sweep(), cluster.Build(ctx, os.Stderr))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster-binaries:", err)
		os.Exit(1)
	}
}
