package integration

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refuseTokens fails the test if a text contains a credential: the beginning of all tokens
// of the offline Google, or of a JWT.
func refuseTokens(t testing.TB, where, text string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		for _, secret := range []string{"ya29.", "eyJ"} {
			if strings.Contains(line, secret) {
				t.Errorf("there is a token in %s: %s", where, line)
			}
		}
	}
}

// refuseTokensInPages looks at all that the daemon shows while it runs: its pages, and
// the events on pods of the whole cluster.
func (n *node) refuseTokensInPages(t testing.TB) {
	t.Helper()
	for _, page := range []string{"/metrics", "/readyz", "/healthz"} {
		refuseTokens(t, page, n.page(t, page))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	events, err := n.cluster.Client.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Logf("the events were not looked at: %v", err) // in a test with an API server that is down
		return
	}
	for _, event := range events.Items {
		refuseTokens(t, "an event on "+event.InvolvedObject.Namespace+"/"+event.InvolvedObject.Name, event.Message)
	}
}

// refuseTokensInFiles checks the files that the daemon wrote.
func (n *node) refuseTokensInFiles(t testing.TB) {
	t.Helper()
	refuseTokens(t, "the log", n.log.String())
	if n.audit == "" {
		return
	}
	audit, err := os.ReadFile(n.audit)
	if err != nil {
		t.Error(err)
	}
	refuseTokens(t, "the audit log", string(audit))
}
