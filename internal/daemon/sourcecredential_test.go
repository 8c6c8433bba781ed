package daemon

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/internal/change"
	"gke-metadata-emulator/internal/config"
)

// watchedLog is a log that a test can wait for.
type watchedLog struct {
	mu      sync.Mutex
	text    string // that no wait has passed
	written change.Signal
}

// Write implements [io.Writer].
func (l *watchedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text += string(p)
	l.written.Raise()
	return len(p), nil
}

// waitFor waits for a text, or until the daemon ends.
func (l *watchedLog) waitFor(t *testing.T, ended <-chan error, text string) {
	t.Helper()
	for {
		written := l.written.Next() // taken before the look, so no line is missed
		l.mu.Lock()
		before, after, found := strings.Cut(l.text, text)
		if found {
			l.text = after
		}
		l.mu.Unlock()
		if strings.Contains(before, secret) {
			t.Errorf("the log shows the credential: %s", before)
		}
		if found {
			return
		}
		select {
		case <-written:
		case err := <-ended:
			t.Fatalf("the daemon ended before it logged %q: %v", text, err)
		}
	}
}

// A user logs in again, daily in many organisations: no restart, and no wait for cached
// refusals.
func TestSourceCredential_NewLoginIsUsedWithoutRestart(t *testing.T) {
	const gsa, developer = "cart@shop-project.iam.gserviceaccount.com", "developer@example.com"
	google := fakegoogle.Start(t, fakegoogle.Options{})
	google.AddServiceAccount(gsa)
	google.Bind(gsa, "roles/iam.serviceAccountTokenCreator", "user:"+developer)
	google.Bind("projects/shop-project", "roles/serviceusage.serviceUsageConsumer", "user:"+developer)
	login := func() string {
		return string(google.AuthorizedUserWithQuota(developer, google.URL+"/token", "shop-project"))
	}
	expired := regexp.MustCompile(`("refresh_token": )"[^"]+"`).ReplaceAllString(login(), `$1"`+secret+`"`)
	path := file(t, expired)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	s := config.NewStandalone()
	s.Listen = config.Listen{Address: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	s.Credentials = config.Credentials{Kind: config.Impersonation, Source: path}
	s.Identities.GSA, s.Project.ID, s.Project.Number = gsa, "shop-project", "123456"
	s.Google.IAMCredentials, s.Google.IAM = google.URL, google.URL
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	log := &watchedLog{}
	ctx, stop := context.WithCancel(t.Context())
	listening, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- Standalone(ctx, s, Overrides{}, log, func(callers, _ net.Addr) { listening <- callers.String() })
	}()
	var address string
	select {
	case address = <-listening:
	case err := <-ended:
		t.Fatal(err)
	}
	url := "http://" + address + "/computeMetadata/v1/instance/service-accounts/default/token"
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	token := func() (status int, body string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Metadata-Flavor", "Google")
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		content, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(content)
	}

	if status, body := token(); status != http.StatusForbidden || !strings.Contains(body, "invalid_grant: Token has been expired or revoked") {
		t.Errorf("with the expired login: %d %s", status, body)
	}
	write(expired[:len(expired)/2])
	log.waitFor(t, ended, "the source credential is refused; its previous content stays in effect")
	write(login())
	log.waitFor(t, ended, "the source credential has changed; its new content is in effect")
	_, body := token()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("with the new login: %s", body)
	}
	if grant, _ := google.Inspect(answer.Token); strings.Join(grant.DelegationChain, " ") != "user:"+developer {
		t.Errorf("the token was minted by %v", grant.DelegationChain)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
