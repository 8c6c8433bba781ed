// Package report uploads reports with the identity of its pod to a service that
// accepts Google service accounts.
package report

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// Upload stores a report. This code does not know whether a test runs it.
func Upload(ctx context.Context, url string, report io.Reader) error {
	credentials, err := google.FindDefaultCredentials(ctx, "https://www.googleapis.com/auth/devstorage.read_write")
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, report)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	response, err := oauth2.NewClient(ctx, credentials.TokenSource).Do(request)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("upload: %s", response.Status)
	}
	return nil
}
