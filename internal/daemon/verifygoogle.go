package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/googlecheck"
)

// verifyPause is the pause between two attempts to see the effect of a change.
const verifyPause = 5 * time.Second

// VerifyGoogle asks Google about the open facts and prints the results. A result that is
// not the expected one is an error.
func VerifyGoogle(ctx context.Context, v *config.VerifyGoogle, stdout io.Writer) error {
	client := newGoogleClient(30 * time.Second)
	defer client.CloseIdleConnections()
	source, err := readCredential(v.Source, client)
	if err != nil {
		return err
	}
	o := googlecheck.Options{
		Project: v.Project, DottedProject: v.DottedProject(), ProjectNumber: v.ProjectNumber, OtherProject: v.OtherProject,
		STS: v.Google.STS, IAMCredentials: v.Google.IAMCredentials, IAM: v.Google.IAM, ServiceUsage: v.ServiceUsage,
		Credential: source, UserCredential: source.Content().IsUser(),
		Only: regexp.MustCompile(v.Only), DisableAPIs: v.DisableAPIs, Keep: v.Keep, HTTPClient: client,
		Attempts: 1 + int(v.Propagation/verifyPause), Pause: googlecheck.Pause(verifyPause),
	}
	if v.Kubeconfig != "" {
		clients, err := newClients(v.Kubeconfig)
		if err != nil {
			return err
		}
		defer clients.close()
		o.Cluster = clients.requests
	}

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
		return fmt.Errorf("project %s: the checks were interrupted: %w", v.Project, err)
	case writeErr != nil:
		return fmt.Errorf("write the report: %w", writeErr)
	case counts[googlecheck.Different]+counts[googlecheck.Failed] > 0:
		return fmt.Errorf("project %s: facts that are different or not answered: %d", v.Project, counts[googlecheck.Different]+counts[googlecheck.Failed])
	case len(left) > 0 && !v.Keep:
		return fmt.Errorf("project %s: could not be cleaned up: %d", v.Project, len(left))
	}
	return nil
}
