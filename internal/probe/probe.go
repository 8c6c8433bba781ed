package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"gke-metadata-emulator/internal/admin"
)

// maxBody is the limit in bytes of an answer that is read.
const maxBody = 4 << 10

// Options of [Run]. All are required.
type Options struct {
	Target       string        // base URL that pods use: http://169.254.169.254
	AdminAddress string        // IP:PORT of the daemon's admin server
	Timeout      time.Duration // of all requests together
}

// Run writes one line if the daemon is ready and reached, and otherwise returns an
// error that names the missing part.
func Run(ctx context.Context, o Options, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	// No proxy: requests of pods use none either.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	readiness, err := admin.ReadReadiness(ctx, client, o.AdminAddress)
	if err != nil {
		return fmt.Errorf("the daemon is not ready: %w", err)
	}
	target, note := strings.TrimSuffix(o.Target, "/"), ""
	if readiness.NodeURL != "" {
		target, note = readiness.NodeURL, "; "+o.Target+" was not requested, as --routing=nftables does not redirect pods of the node's network here"
	}
	server, id, err := instanceID(ctx, client, target)
	if err != nil {
		return fmt.Errorf("the metadata address does not answer: %w", err)
	}
	// Another metadata server, such as that of the cloud below, has another ID.
	if id != readiness.InstanceID {
		return fmt.Errorf("%s is answered by another server (%s, instance %s)", target, server, id)
	}
	_, err = fmt.Fprintf(stdout, "ready: %s answers%s\n", target, note)
	return err
}

// instanceID requests the instance ID of the metadata server at a base URL. It returns
// the header Server, too.
func instanceID(ctx context.Context, client *http.Client, target string) (server, id string, err error) {
	url := target + "/computeMetadata/v1/instance/id"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", "", err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := client.Do(request)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	return response.Header.Get("Server"), string(body), err
}
