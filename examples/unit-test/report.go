// Package report uploads reports to a service that lets in Google service accounts,
// by the identity of the pod it runs in.
package report

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// Upload stores a report. Nothing here knows of a test.
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
