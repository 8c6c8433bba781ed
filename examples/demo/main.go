// Command demo shows Workload Identity without a cluster and without a Google account:
// see README.md.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, env func(string) string, out *os.File) error {
	if len(args) > 0 && args[0] == "upload" {
		return upload(ctx, args[1:], out)
	}
	s, err := parse(args, env)
	if err != nil {
		return err
	}
	return show(ctx, s, out)
}
