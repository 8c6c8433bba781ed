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

	"google.golang.org/api/idtoken"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
)

const (
	crowdPods        = 50
	crowdConnections = 10 // of each pod
)

// 500 connections of 50 pods at once, each through the whole tree: what one is told
// of its identity, in whatever form, is its own.
func TestManyConnectionsOfManyPodsAreEachTheirOwn(t *testing.T) {
	t.Run("as installed", func(t *testing.T) { crowd(t, startNode(t, asInstalled).ready(t)) })
	t.Run("each request written down", func(t *testing.T) { crowd(t, startNode(t).ready(t)) })
}

func crowd(t *testing.T, n *node) {
	ns := cluster.Namespace(t, "team-")
	gsa := func(pod, generation int) string {
		return fmt.Sprintf("sa-%d-%d@%s.iam.gserviceaccount.com", pod, generation, projectID)
	}
	var all []*member
	for i := range crowdPods {
		ksa, ip := fmt.Sprint("ksa-", i), fmt.Sprintf("127.0.1.%d", i+1)
		cluster.KSA(t, ns, ksa, map[string]string{identity.AnnotationGSA: gsa(i, 0)})
		n.link(ns, ksa, gsa(i, 0))
		n.link(ns, ksa, gsa(i, 1))
		cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: fmt.Sprint("app-", i), KSA: ksa, Node: n.name, IP: ip})
		for range crowdConnections {
			all = append(all, &member{pod: n.pod(t, ip), index: i, own: gsa(i, 0), other: gsa((i+1)%crowdPods, 0)})
		}
	}
	// Each begins at another step, so that different requests are under way at once.
	together(all, func(i int, m *member) { m.walk(t, i) })
	calls, metrics := n.google.Counters(), n.metrics(t)
	for method, call := range map[string]string{
		fakegoogle.MethodSTSToken: "sts", fakegoogle.MethodGenerateAccessToken: "generateAccessToken", fakegoogle.MethodGenerateIDToken: "generateIdToken",
	} {
		// On a busy machine a call may be silent for so long that it is made anew.
		anew := 0
		if found := regexp.MustCompile(`gme_upstream_seconds_count\{call="` + call + `",result="unavailable"\} (\d+)`).FindStringSubmatch(metrics); found != nil {
			anew, _ = strconv.Atoi(found[1])
		}
		if got := calls[method]; got < crowdPods || got > crowdPods+anew {
			t.Errorf("%d calls of %s for %d pods with %d connections each, %d of them made anew", got, method, crowdPods, crowdConnections, anew)
		}
	}

	// All of them wait, and each is woken by its own pod's annotation only.
	var waiting sync.WaitGroup
	waiting.Go(func() { together(all, func(_ int, m *member) { m.awaitChange(t, gsa(m.index, 1)) }) })
	for i := range crowdPods {
		cluster.Annotate(t, ns, fmt.Sprint("ksa-", i), identity.AnnotationGSA, gsa(i, 1))
	}
	waiting.Wait()
	for _, m := range all {
		m.own, m.other = gsa(m.index, 1), m.own
	}
	together(all, func(i int, m *member) { m.walk(t, i) })
}

// together runs f for all at once.
func together(all []*member, f func(int, *member)) {
	var wait sync.WaitGroup
	for i, m := range all {
		wait.Go(func() { f(i, m) })
	}
	wait.Wait()
}

// member is one connection of the crowd.
type member struct {
	*pod
	index      int
	own, other string // GSAs: the pod's, and one that is not
}

// walk asks for everything that tells who the caller is, beginning at a step.
func (m *member) walk(t *testing.T, first int) {
	const accounts = "instance/service-accounts/"
	steps := []func(){
		func() { m.says(t, accounts+"default/email", m.own) },
		func() { m.says(t, accounts, "default/\n"+m.own+"/\n") },
		func() { m.says(t, accounts+m.own+"/aliases", "default\n") },
		func() { m.says(t, accounts+"default/email?alt=json", `"`+m.own+`"`) },
		func() { m.says(t, accounts+"default/email?wait_for_change=true&last_etag=0", m.own) },
		func() { m.says(t, "project/project-id", projectID) },
		func() { m.names(t, accounts+"default?recursive=true") }, // redirected
		func() { m.names(t, accounts+"?recursive=true") },
		func() { m.names(t, "?recursive=true&alt=text") },
		func() { m.accessToken(t, accounts+"default/token") },
		func() { m.accessToken(t, accounts+"default/token") }, // the same again
		func() { m.accessToken(t, accounts+m.own+"/token") },
		func() { m.idToken(t, accounts+"default/identity?audience=https://example.com&format=full") },
		func() { m.refused(t, accounts+m.other+"/token") },
		func() { m.refused(t, accounts+m.other+"/") },
	}
	for i := range steps {
		steps[(first+i)%len(steps)]()
	}
}

func (m *member) ask(t *testing.T, path string, status int) string {
	got, err := m.try(path)
	if err != nil || got.status != status {
		t.Errorf("%s from %s: %d %s %v", path, m.ip, got.status, got.body, err)
	}
	return got.body
}

func (m *member) says(t *testing.T, path, want string) {
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

// awaitChange waits until the connection's e-mail address is no more the one it has.
func (m *member) awaitChange(t *testing.T, want string) {
	first, err := m.try("instance/service-accounts/default/email")
	if err != nil {
		t.Error(err)
		return
	}
	if first.body == want {
		return // the annotation was faster
	}
	m.says(t, "instance/service-accounts/default/email?wait_for_change=true&timeout_sec=60&last_etag="+first.header.Get("ETag"), want)
}
