package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/conformance"
	"gke-metadata-emulator/internal/config"
)

func newConformance(env lookupEnv) *cobra.Command {
	s := &config.Conformance{}
	return command(&cobra.Command{
		Use:   "conformance",
		Short: "Compare a metadata server with Google's, case by case",
		Long:  "Compare the responses of a metadata server with those of GKE's. Each case is printed with\nits result and the source of its expectation; a case that fails, with the expected and the\nactual response, without tokens. Exit code 1: a case has failed.",
	}, env, s, func(c *cobra.Command) error { return runConformance(c.Context(), s, c.OutOrStdout()) })
}

// runConformance runs the cases and prints their results. Failed cases are an error.
func runConformance(ctx context.Context, s *config.Conformance, stdout io.Writer) error {
	options, err := s.Options()
	if err != nil {
		return err
	}
	report := &conformance.Report{}
	var writeErr error
	err = conformance.Run(ctx, options, func(r conformance.Result) {
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
