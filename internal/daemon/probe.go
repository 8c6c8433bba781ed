package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Probe is the settings of [Probe.Run]: is the daemon of this node ready, and does
// what pods send to the metadata address reach it? It is a process of its own, as
// the daemon's own connections might take another way than a pod's.
type Probe struct {
	Target      string // as pods name it: http://169.254.169.254
	AdminListen string // the daemon's
	Timeout     time.Duration
}

// Complete returns a [*FlagError] for the first setting that is wrong.
func (p *Probe) Complete() error {
	if _, err := metadataURL(p.Target); err != nil {
		return err
	}
	if err := hostPort("admin-listen", p.AdminListen); err != nil {
		return err
	}
	if p.Timeout <= 0 {
		return wrong("timeout", "use 2s", "%s is not a time to wait", p.Timeout)
	}
	return nil
}

// Run returns an error that says what is missing. Where all is well it says what was
// asked.
func (p *Probe) Run(ctx context.Context, said io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	// No proxy: a pod's request takes none either.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	_, body, err := ask(ctx, client, "http://"+p.AdminListen+"/readyz")
	if err != nil {
		return fmt.Errorf("the daemon is not ready: %w", err)
	}
	target, note := strings.TrimSuffix(p.Target, "/"), ""
	if _, server, left := strings.Cut(body, leftOut); left {
		target, note = strings.TrimSpace(server), "; "+p.Target+" was not asked, as --routing=nftables does not redirect pods of the node's network here"
	}
	header, id, err := ask(ctx, client, target+"/computeMetadata/v1/instance/id")
	if err != nil {
		return fmt.Errorf("the metadata address does not answer: %w", err)
	}
	// Another metadata server, such as that of a cloud behind the node, has another.
	if first, _, _ := strings.Cut(body, "\n"); first+"\n" != readyText(id, "") {
		return fmt.Errorf("%s is answered by another server (%s, instance %s)", target, header.Get("Server"), id)
	}
	_, err = fmt.Fprintf(said, "ready: %s answers%s\n", target, note)
	return err
}

func ask(ctx context.Context, client *http.Client, url string) (http.Header, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	return response.Header, string(body), err
}

// leftOut is before the URL at which a probe has to ask.
const leftOut = "not redirected: pods of the node's network; they find the server at "

// readyText is what /readyz says when all is well, so that a probe can tell whose
// answers it gets, and where the metadata address does not lead to the server in the
// node's own network, where to ask instead.
func readyText(instanceID, server string) string {
	text := "ok, instance " + instanceID + "\n"
	if server != "" {
		text += leftOut + server + "\n"
	}
	return text
}
