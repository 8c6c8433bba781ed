// Command kubernetes-binaries builds the programs that the integration tests start, before
// the tests need them, and prints their paths.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"gke-metadata-emulator/integration/kubernetes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	paths, err := kubernetes.Binaries(ctx, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes-binaries:", err)
		os.Exit(1)
	}
	fmt.Println(paths.APIServer)
	fmt.Println(paths.Etcd)
}
