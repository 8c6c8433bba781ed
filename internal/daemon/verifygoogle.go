package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/credential"
	"gke-metadata-emulator/internal/googlecheck"
	"gke-metadata-emulator/tokens"
)

// VerifyGoogle asks Google about the open facts and prints the results. A result that is
// not the expected one is an error.
func VerifyGoogle(ctx context.Context, v *config.VerifyGoogle, stdout io.Writer) error {
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

// isUserCredential reports whether a credential file, which has been read before, is a
// person's.
func isUserCredential(path string) bool {
	document, _ := os.ReadFile(path)
	var file struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(document, &file) == nil && file.Type == "authorized_user"
}
