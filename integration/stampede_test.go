package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/api/idtoken"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
)

const (
	stampedePods      = 50
	connectionsPerPod = 10
)

// 500 connections of 50 pods walk through the whole tree concurrently. All that a
// connection learns about its identity, in any form, is about its own pod.
func TestStampede_EachConnectionGetsItsOwnIdentity(t *testing.T) {
	t.Run("as installed", func(t *testing.T) { stampede(t, startNode(t, asInstalled).ready(t)) })
	t.Run("with an audit log", func(t *testing.T) { stampede(t, startNode(t).ready(t)) })
}

func stampede(t *testing.T, n *node) {
	ns := cluster.Namespace(t, "team-")
	gsa := func(pod, generation int) string {
		return fmt.Sprintf("sa-%d-%d@%s.iam.gserviceaccount.com", pod, generation, projectID)
	}
	var all []*member
	for i := range stampedePods {
		ksa, ip := fmt.Sprint("ksa-", i), fmt.Sprintf("127.0.1.%d", i+1)
		cluster.KSA(t, ns, ksa, map[string]string{identity.AnnotationGSA: gsa(i, 0)})
		n.link(ns, ksa, gsa(i, 0))
		n.link(ns, ksa, gsa(i, 1))
		cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: fmt.Sprint("app-", i), KSA: ksa, Node: n.name, IP: ip})
		for range connectionsPerPod {
			all = append(all, &member{pod: n.pod(t, ip), index: i, own: gsa(i, 0), other: gsa((i+1)%stampedePods, 0)})
		}
	}
	// Each connection begins at another step, so different requests run concurrently.
	together(all, func(i int, m *member) { m.walk(t, i) })
	calls := n.google.Counters()
	for method, call := range map[string]string{
		fakegoogle.MethodSTSToken: "sts", fakegoogle.MethodGenerateAccessToken: "generateAccessToken", fakegoogle.MethodGenerateIDToken: "generateIdToken",
	} {
		retries := n.retries(t, call)
		if got := calls[method]; got < stampedePods || got > stampedePods+retries {
			t.Errorf("%d calls of %s for %d pods with %d connections each, with %d retries", got, method, stampedePods, connectionsPerPod, retries)
		}
	}

	// All connections wait for a change, and each is woken only by its own pod's annotation.
	var waiting sync.WaitGroup
	waiting.Go(func() { together(all, func(_ int, m *member) { m.awaitChange(t, gsa(m.index, 1)) }) })
	for i := range stampedePods {
		cluster.Annotate(t, ns, fmt.Sprint("ksa-", i), identity.AnnotationGSA, gsa(i, 1))
	}
	waiting.Wait()
	for _, m := range all {
		m.own, m.other = gsa(m.index, 1), m.own
	}
	together(all, func(i int, m *member) { m.walk(t, i) })
}

// retries is how often a call to Google was retried because it timed out, which happens
// on a busy machine.
func (n *node) retries(t *testing.T, call string) int {
	t.Helper()
	found := regexp.MustCompile(`gme_upstream_seconds_count\{call="` + call + `",result="unavailable"\} (\d+)`).FindStringSubmatch(n.metrics(t))
	if found == nil {
		return 0
	}
	retries, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return retries
}

// together runs f for all connections concurrently.
func together(all []*member, f func(int, *member)) {
	var wait sync.WaitGroup
	for i, m := range all {
		wait.Go(func() { f(i, m) })
	}
	wait.Wait()
}

// member is one connection of the stampede.
type member struct {
	*pod
	index      int
	own, other string // the pod's GSA, and another pod's
}

// walk requests everything that depends on the caller, beginning at a step.
func (m *member) walk(t *testing.T, start int) {
	const accounts = "instance/service-accounts/"
	steps := []func(){
		func() { m.expect(t, accounts+"default/email", m.own) },
		func() { m.expect(t, accounts, "default/\n"+m.own+"/\n") },
		func() { m.expect(t, accounts+m.own+"/aliases", "default\n") },
		func() { m.expect(t, accounts+"default/email?alt=json", `"`+m.own+`"`) },
		func() { m.expect(t, accounts+"default/email?wait_for_change=true&last_etag=0", m.own) },
		func() { m.expect(t, "project/project-id", projectID) },
		func() { m.names(t, accounts+"default?recursive=true") }, // redirected
		func() { m.names(t, accounts+"?recursive=true") },
		func() { m.names(t, "?recursive=true&alt=text") },
		func() { m.accessToken(t, accounts+"default/token") },
		func() { m.accessToken(t, accounts+"default/token") }, // the same token
		func() { m.accessToken(t, accounts+m.own+"/token") },
		func() { m.idToken(t, accounts+"default/identity?audience=https://example.com&format=full") },
		func() { m.refused(t, accounts+m.other+"/token") },
		func() { m.refused(t, accounts+m.other+"/") },
	}
	for i := range steps {
		steps[(start+i)%len(steps)]()
	}
}

// ask requests a path. It retries as the clients do when the server asks them to: on a busy
// machine, the fake Google is slow for all at once.
func (m *member) ask(t *testing.T, path string, status int) string {
	got, err := m.try(path)
	for retries := 0; err == nil && got.status == http.StatusServiceUnavailable && retries < 20; retries++ {
		got.awaitRetry(t)
		got, err = m.try(path)
	}
	if err != nil || got.status != status {
		t.Errorf("%s from %s: %d %s %v", path, m.ip, got.status, got.body, err)
	}
	return got.body
}

// awaitRetry waits for as long as Retry-After says.
func (r reply) awaitRetry(t *testing.T) {
	seconds, err := strconv.Atoi(r.header.Get("Retry-After"))
	if err != nil {
		t.Errorf("503 without Retry-After: %v", err)
	}
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-t.Context().Done():
	}
}

func (m *member) expect(t *testing.T, path, want string) {
	if got := m.ask(t, path, http.StatusOK); got != want {
		t.Errorf("%s from %s: %q, want %q", path, m.ip, got, want)
	}
}

// names checks that an answer names the pod's GSA and no other.
func (m *member) names(t *testing.T, path string) {
	got := m.ask(t, path, http.StatusOK)
	if ours, any := strings.Count(got, m.own), strings.Count(got, "@"); ours == 0 || ours != any {
		t.Errorf("%s from %s names others than %s: %s", path, m.ip, m.own, got)
	}
}

func (m *member) refused(t *testing.T, path string) { m.ask(t, path, http.StatusNotFound) }

func (m *member) accessToken(t *testing.T, path string) {
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(m.ask(t, path, http.StatusOK)), &answer); err != nil {
		t.Errorf("%s from %s: %v", path, m.ip, err)
		return
	}
	if grant, _ := m.node.google.Inspect(answer.AccessToken); grant.Principal != "serviceAccount:"+m.own {
		t.Errorf("%s has the token of %q, want %s", m.ip, grant.Principal, m.own)
	}
}

func (m *member) idToken(t *testing.T, path string) {
	payload, err := idtoken.ParsePayload(m.ask(t, path, http.StatusOK))
	if err != nil || payload.Claims["email"] != m.own {
		t.Errorf("%s has an ID token with %v (%v), want %s", m.ip, payload, err, m.own)
	}
}

// awaitChange waits until the connection's e-mail address changes.
func (m *member) awaitChange(t *testing.T, want string) {
	current, err := m.try("instance/service-accounts/default/email")
	if err != nil {
		t.Error(err)
		return
	}
	if current.body == want {
		return // the annotation has changed already
	}
	m.expect(t, "instance/service-accounts/default/email?wait_for_change=true&timeout_sec=60&last_etag="+current.header.Get("ETag"), want)
}
