package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
)

const (
	writer = "writer@prod-project.iam.gserviceaccount.com"
	reader = "reader@prod-project.iam.gserviceaccount.com"
)

func annotated(gsa string) map[string]string { return map[string]string{identity.AnnotationGSA: gsa} }

// An annotated pod gets the GSA's token, and Google sees the KSA behind it.
func TestFederation_AnnotatedPodGetsItsGSA(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "uploader", annotated(writer))
	n.link(ns, "uploader", writer)
	created := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app-1", KSA: "uploader", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")

	if got := app.email(); got != writer {
		t.Errorf("email: %q, want %q", got, writer)
	}
	grant := app.grant()
	want := map[string]string{"principal": "serviceAccount:" + writer, "through": principal(ns, "uploader"), "ksa": ns + "/uploader", "pod": ns + "/app-1", "uid": string(created.UID)}
	got := map[string]string{"principal": grant.Principal, "through": strings.Join(grant.DelegationChain, " "), "ksa": grant.KSA, "pod": grant.Pod, "uid": grant.PodUID}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the caller that Google sees (-want +got):\n%s", diff)
	}
	if left := time.Until(grant.Expiry); left < 59*time.Minute {
		t.Errorf("the token has %s left, Google gave it an hour", left)
	}
	// By e-mail as by default, and the same token: it comes from the cache.
	before := n.google.Counters()
	if diff := cmp.Diff(app.grant(), n.inspect(t, app.value("instance/service-accounts/"+writer+"/token"))); diff != "" {
		t.Errorf("token by e-mail (-default +e-mail):\n%s", diff)
	}
	if diff := cmp.Diff(before, n.google.Counters()); diff != "" {
		t.Errorf("a cached token was asked for upstream:\n%s", diff)
	}
	jwt := app.value("instance/service-accounts/default/identity?audience=https://example.com&format=full")
	if parts := strings.Split(jwt, "."); len(parts) != 3 || strings.HasSuffix(jwt, "\n") {
		t.Errorf("identity: no JWT but %d parts", len(parts))
	}
	if got := n.google.Counters()["sts.token"]; got < 1 || got > 1+n.retries(t, "sts") {
		t.Errorf("%d exchanges at STS for an access token and an ID token, want 1", got)
	}
}

// A requested scope is a scope of the token.
func TestFederation_TokenHasTheRequestedScopes(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "sql", annotated(writer))
	n.link(ns, "sql", writer)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "sql", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	for _, scope := range []string{"sqlservice.admin", "sqlservice.login"} {
		scope = "https://www.googleapis.com/auth/" + scope
		grant := n.inspect(t, app.value("instance/service-accounts/default/token?scopes="+scope))
		if diff := cmp.Diff([]string{scope}, grant.Scopes); diff != "" {
			t.Errorf("scopes (-want +got):\n%s", diff)
		}
	}
}

// For Google, a pod with an unannotated KSA is its own federated principal.
func TestFederation_UnannotatedPodGetsTheFederatedToken(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "default", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	if got, want := app.email(), projectID+".svc.id.goog"; got != want {
		t.Errorf("email: %q, want the workload pool %q", got, want)
	}
	if got := app.grant(); got.Principal != principal(ns, "default") || len(got.DelegationChain) != 0 {
		t.Errorf("principal %s through %v, want %s itself", got.Principal, got.DelegationChain, principal(ns, "default"))
	}
	// gcloud stops at any status but this one.
	id := app.get("instance/service-accounts/default/identity?audience=x")
	if id.status != http.StatusNotFound || !strings.HasPrefix(id.body, "Your Kubernetes service account ("+ns+"/default) is not annotated with a target Google service account") {
		t.Errorf("identity: %d %s", id.status, id.body)
	}
}

// A new annotation is the account of the next request; e-mail and token never
// name different ones.
func TestAnnotation_ChangeTakesEffectOnAnOpenConnection(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	n.link(ns, "app", writer)
	n.link(ns, "app", reader)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	for i, want := range []string{reader, writer, reader, projectID + ".svc.id.goog"} {
		app.grant() // so that the one before is in the cache
		gsa := want
		if !strings.Contains(want, "@") {
			gsa = "" // no annotation any more
		}
		cluster.Annotate(t, ns, "app", identity.AnnotationGSA, gsa)
		lag := eventually(t, deadline, "the new account", func() error {
			if got := app.email(); got != want {
				return fmt.Errorf("e-mail is %s", got)
			}
			return nil
		})
		t.Logf("change %d: seen %s after the API server's answer", i, lag.Round(10*time.Microsecond))
		wantPrincipal := "serviceAccount:" + gsa
		if gsa == "" {
			wantPrincipal = principal(ns, "app")
		}
		if got := app.grant().Principal; got != wantPrincipal {
			t.Fatalf("change %d: the e-mail is %s, the token belongs to %s", i, want, got)
		}
	}
}

// An annotation change wakes a request that waits for one.
func TestAnnotation_ChangeWakesAWaitingRequest(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	etag := app.get("instance/service-accounts/default/email").header.Get("ETag")
	answer := make(chan reply, 1)
	go func() {
		r, err := app.try("instance/service-accounts/default/email?wait_for_change=true&timeout_sec=60&last_etag=" + etag)
		if err != nil {
			r.body = err.Error()
		}
		answer <- r
	}()
	start := time.Now()
	cluster.Annotate(t, ns, "app", identity.AnnotationGSA, reader)
	got := <-answer
	if took := time.Since(start); got.status != http.StatusOK || got.body != reader || took >= time.Minute { // after a minute the request ends without a change
		t.Errorf("after %s: %d %s", took, got.status, got.body)
	}
}

// Every address that Google gives a service account is legal in the annotation;
// others are refused with the remedy.
func TestAnnotation_AcceptsAnyServiceAccountAddress(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", nil)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	for _, gsa := range []string{"998877665544-compute@developer.gserviceaccount.com", "prod-project@appspot.gserviceaccount.com", "sa@project.example.com.iam.gserviceaccount.com"} {
		n.link(ns, "app", gsa)
		cluster.Annotate(t, ns, "app", identity.AnnotationGSA, gsa)
		eventually(t, deadline, gsa, func() error {
			if got := app.get("instance/service-accounts/default/email"); got.body != gsa {
				return fmt.Errorf("%d %s", got.status, got.body)
			}
			return nil
		})
		if got := app.grant().Principal; got != "serviceAccount:"+gsa {
			t.Errorf("token of %s, want %s", got, gsa)
		}
	}
	cluster.Annotate(t, ns, "app", identity.AnnotationGSA, "../../other")
	eventually(t, deadline, "a refusal", func() error {
		got := app.get("instance/service-accounts/default/token")
		if got.status != http.StatusForbidden || !strings.Contains(got.body, "kubectl annotate serviceaccount --overwrite --namespace "+ns+" app") {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
}

// A refusal by IAM is reported at once, with Google's message and the missing binding.
func TestFederation_MissingBindingIsExplained(t *testing.T) {
	n := startNode(t).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	n.google.AddServiceAccount(writer)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	got := app.get("instance/service-accounts/default/token")
	for _, want := range []string{
		"Unable to generate access token; IAM returned 403 Forbidden: Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).\n",
		"gcloud iam service-accounts add-iam-policy-binding " + writer + " --role=roles/iam.workloadIdentityUser --member=\"" + principal(ns, "app") + "\"",
	} {
		if got.status != http.StatusForbidden || !strings.Contains(got.body, want) {
			t.Errorf("%d %s\nwant 403 with %s", got.status, got.body, want)
		}
	}
	n.link(ns, "app", writer)
	// The refusal is remembered for some seconds.
	eventually(t, denialRemembered, "the new binding is seen", func() error {
		if got := app.get(tokenPath); got.status != http.StatusOK {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
	if got := app.grant().Principal; got != "serviceAccount:"+writer {
		t.Errorf("after the binding was added: %s", got)
	}
}
