package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/kubernetes"
)

// The program is killed, and Google is unavailable before it is restarted.
func TestHandover_TokensOutliveAKillDuringAnOutage(t *testing.T) {
	folder, err := os.MkdirTemp("/dev/shm", "handover-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	left := filepath.Join(folder, "tokens")
	flags := []string{"--handover-file", left, "--handover-key-file", writeFile(t, "key", bytes.Repeat([]byte("k"), 32))}

	google := newGoogle(t, cluster)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	google.Bind(writer, "roles/iam.workloadIdentityUser", principal(ns, "app"))
	s := settings(t, cluster, google)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: s.Node.Name, IP: "127.0.1.1"})

	program, ended, n := start(t, google, s, flags...)
	app := n.ready(t).pod(t, "127.0.1.1")
	const identityPath = "instance/service-accounts/default/identity?audience=https://example.com&format=full"
	token, jwt := accessToken(t, app.value(tokenPath)), app.value(identityPath)
	writes, since := "", time.Now()
	eventually(t, deadline, "the tokens are left", func() error {
		if now := grep(n.metrics(t), `gme_handover_writes_total{result="written"}`); now != writes {
			writes, since = now, time.Now()
		}
		if time.Since(since) < 6*time.Second { // a change is written within two, on an idle machine
			return errors.New("it is still written")
		}
		return nil
	})
	if err := program.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	refuseTokens(t, "the log", n.log.String())
	sealed, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(strings.Split(jwt, "."), token) {
		if bytes.Contains(sealed, []byte(secret)) {
			t.Error("there is a token in the file")
		}
	}

	for _, method := range []string{fakegoogle.MethodSTSToken, fakegoogle.MethodGenerateAccessToken, fakegoogle.MethodGenerateIDToken} {
		google.SetFault(method, fakegoogle.Fault{Status: http.StatusServiceUnavailable})
	}
	before := google.Counters()
	program, ended, n = start(t, google, s, flags...)
	app = n.ready(t).pod(t, "127.0.1.1")
	if accessToken(t, app.value(tokenPath)) != token || app.value(identityPath) != jwt {
		t.Error("the tokens are others than before")
	}
	if diff := cmp.Diff(before, google.Counters()); diff != "" {
		t.Errorf("Google has been asked (-before +after):\n%s", diff)
	}

	// At the end, the program writes the tokens to the file again.
	if err := os.Remove(left); err != nil {
		t.Fatal(err)
	}
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the program ended with %v", err)
	}
	_, _, n = start(t, google, s, flags...)
	if got := accessToken(t, n.ready(t).pod(t, "127.0.1.1").value(tokenPath)); got != token {
		t.Error("after a regular end, the token is another than before")
	}

	// Under other settings the tokens are not believed.
	_, _, n = start(t, google, s, append(flags, "--max-token-life", "15m")...)
	if got := n.ready(t).pod(t, "127.0.1.1").get(tokenPath); got.status != http.StatusServiceUnavailable {
		t.Errorf("with another setting: %d", got.status)
	}
	if got := grep(n.metrics(t), `gme_handover_reads_total{result="refused"}`); !strings.HasSuffix(got, " 1") {
		t.Errorf("%q", got)
	}
	refuseTokens(t, "the log", n.log.String())
}

func accessToken(t testing.TB, answer string) string {
	t.Helper()
	var fields struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(answer), &fields); err != nil || fields.AccessToken == "" {
		t.Fatalf("no token in the answer: %v", err)
	}
	return fields.AccessToken
}
