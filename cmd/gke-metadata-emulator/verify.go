package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/credential"
	"gke-metadata-emulator/internal/googlecheck"
	"gke-metadata-emulator/tokens"
)

func newVerify(env lookupEnv) *cobra.Command {
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check the facts on which this program relies",
		Long:  "Check the facts on which this program relies.",
		RunE: func(*cobra.Command, []string) error {
			return errUsage{fmt.Errorf("a command is missing: google; see %s verify --help", name)}
		},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errUsage{fmt.Errorf("verify knows no command %q; see %s verify --help", args[0], name)}
			}
			return nil
		},
	}
	c.AddCommand(newVerifyGoogle(env))
	return c
}

func newVerifyGoogle(env lookupEnv) *cobra.Command {
	v := &config.VerifyGoogle{}
	return command(&cobra.Command{
		Use:   "google",
		Short: "Check the open facts of docs/facts.md in a scratch project",
		Long:  "Ask Google about the facts of docs/facts.md that nobody has published. In a scratch project of\nyours, service accounts and a workload identity pool are created, and removed at the end. Each\nfact is printed as expected, DIFFERENT (with both answers) or n/a (with the command to run\ninstead). Exit code 1: an answer is different, could not be had, or something is left in the\nproject without --keep.",
	}, env, v, func(c *cobra.Command) error { return verifyGoogle(c.Context(), v, c.OutOrStdout()) })
}

// verifyGoogle runs the checks and prints their results. A result that is not the expected
// one is an error.
func verifyGoogle(ctx context.Context, v *config.VerifyGoogle, stdout io.Writer) error {
	o := v.Options()
	o.HTTPClient = &http.Client{Timeout: 30 * time.Second}
	source, err := credential.Read(v.Source, tokens.CloudPlatform, o.HTTPClient)
	var unusable *credential.Error
	if errors.As(err, &unusable) {
		return config.FlagErrorf("source-credentials", unusable.Remedy, "%s", unusable.Problem)
	} else if err != nil {
		return err
	}
	o.Credential = source
	o.UserCredential = isUserCredential(credential.File(v.Source))

	counts := map[googlecheck.Outcome]int{}
	var writeErr error
	left, err := googlecheck.Run(ctx, o, func(r googlecheck.Result) {
		counts[r.Outcome]++
		writeErr = errors.Join(writeErr, r.Text(stdout))
	})
	_, printErr := fmt.Fprintf(stdout, "%d expected, %d different, %d not applicable, %d not answered\n",
		counts[googlecheck.Expected], counts[googlecheck.Different], counts[googlecheck.NotApplicable], counts[googlecheck.Failed])
	if len(left) > 0 {
		_, _ = fmt.Fprintf(stdout, "left in project %s; these commands remove it:\n", v.Project)
	}
	for _, command := range left {
		_, _ = fmt.Fprintln(stdout, command)
	}
	switch writeErr = errors.Join(writeErr, printErr); {
	case err != nil:
		return err
	case writeErr != nil:
		return fmt.Errorf("write the report: %w", writeErr)
	case counts[googlecheck.Different]+counts[googlecheck.Failed] > 0:
		return fmt.Errorf("project %s: facts that are different or not answered: %d", v.Project, counts[googlecheck.Different]+counts[googlecheck.Failed])
	case len(left) > 0 && !v.Keep:
		return fmt.Errorf("project %s: could not be cleaned up: %d", v.Project, len(left))
	}
	return nil
}

// isUserCredential reports whether a credential file, which has been read before, is a
// person's.
func isUserCredential(path string) bool {
	document, _ := os.ReadFile(path)
	var file struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(document, &file) == nil && file.Type == "authorized_user"
}
