package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/conformance"
	"gke-metadata-emulator/internal/daemon"
)

func newConformance(env lookupEnv) *cobra.Command {
	s := &daemon.Conformance{}

	server := newGroup("The server")
	server.StringVar(&s.Target, "target", "http://"+daemon.MetadataAddress, "`URL` of the metadata server: any, not only ours")
	server.StringVar(&s.Audience, "audience", "https://conformance.example", "`audience` of the ID tokens that it is asked for")

	cases := newGroup("The cases")
	cases.StringVar(&s.Only, "only", "", "`text` or regular expression in the names of the cases to run (all where empty)")
	cases.DurationVar(&s.Timeout, "timeout", 10*time.Second, "how long one case may take")
	cases.StringVar(&s.Output, "output", "text", "text or json")

	return command(&cobra.Command{
		Use:   "conformance",
		Short: "Compare a metadata server with Google's, case by case",
		Long: "Compare a metadata server with GKE's as seen from the wire, and print for each case\nwhether it passes and how its truth is known; where it fails, what was expected and\n" +
			"every byte that was seen, but for tokens. Exit code 1: a case has failed.",
	}, env, s, func(c *cobra.Command) error { return runConformance(c.Context(), s, c.OutOrStdout()) }, server, cases)
}

// runConformance runs the cases and prints their results. Failed cases are an error.
func runConformance(ctx context.Context, s *daemon.Conformance, stdout io.Writer) error {
	report := &conformance.Report{}
	var writeErr error
	err := conformance.Run(ctx, s.Options(), func(r conformance.Result) {
		report.Add(r)
		if s.Output == "text" && writeErr == nil {
			writeErr = r.Text(stdout)
		}
	})
	if err != nil {
		return err
	}
	if s.Output == "json" {
		writeErr = report.JSON(stdout, s.Target)
	} else if writeErr == nil {
		_, writeErr = fmt.Fprintln(stdout, report.Summary())
	}
	if writeErr != nil {
		return fmt.Errorf("write the report: %w", writeErr)
	}
	if failed := report.Count(conformance.Fail); failed > 0 {
		return fmt.Errorf("%s: failed cases: %d", s.Target, failed)
	}
	return nil
}
