package integration

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
)

const developer = "developer@example.com"

// denialRemembered is more than the time for which a denial is believed.
const denialRemembered = 10 * time.Second

// impersonating turns a node to impersonation with one source credential.
func impersonating(path string, change ...func(*config.Serve)) func(*config.Serve) {
	return func(s *config.Serve) {
		s.Credentials.Kind, s.Provider.Name, s.Credentials.Source, s.Project.Number = config.Impersonation, "", path, projectNumber
		for _, f := range change {
			f(s)
		}
	}
}

// poolMember is how GKE's bindings name a KSA.
func poolMember(namespace, ksa string) string {
	return fmt.Sprintf("serviceAccount:%s.svc.id.goog[%s/%s]", projectID, namespace, ksa)
}

// Both kinds of credential that a developer has: gcloud's own, and a key file.
func TestImpersonation(t *testing.T) {
	const keyed = "emulator@prod-project.iam.gserviceaccount.com"
	for _, credential := range []struct {
		name, member string
		file         func(t *testing.T, google *fakegoogle.Running) []byte
	}{
		{"authorized_user", "user:" + developer, func(_ *testing.T, google *fakegoogle.Running) []byte {
			return google.AuthorizedUser(developer, google.URL+"/token")
		}},
		{"service_account", "serviceAccount:" + keyed, func(t *testing.T, google *fakegoogle.Running) []byte {
			key, err := google.ServiceAccountKey(keyed, google.URL+"/token")
			if err != nil {
				t.Fatal(err)
			}
			return key
		}},
	} {
		t.Run(credential.name, func(t *testing.T) {
			google := newGoogle(t, cluster)
			file := writeFile(t, "credentials.json", credential.file(t, google))
			n := startNodeOn(t, cluster, google, impersonating(file)).ready(t)
			ns := cluster.Namespace(t, "team-")
			cluster.KSA(t, ns, "uploader", annotated(writer))
			cluster.KSA(t, ns, "impostor", annotated(writer))
			for i, ksa := range []string{"uploader", "impostor", "default"} {
				cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: ksa, KSA: ksa, Node: n.name, IP: fmt.Sprintf("127.0.1.%d", i+1)})
			}
			uploader, impostor, unlinked := n.pod(t, "127.0.1.1"), n.pod(t, "127.0.1.2"), n.pod(t, "127.0.1.3")
			// The operator may impersonate the GSA, which alone lets no pod.
			google.Bind(writer, "roles/iam.serviceAccountTokenCreator", credential.member)

			eventually(t, deadline, "that the right to read the policy is missing", func() error {
				if got := uploader.get(tokenPath); got.status != http.StatusForbidden || !strings.Contains(got.body, "roles/iam.serviceAccountViewer") {
					return fmt.Errorf("%d %s", got.status, got.body)
				}
				return nil
			})
			google.Bind(writer, "roles/iam.serviceAccountViewer", credential.member)

			want := fmt.Sprintf("gcloud iam service-accounts add-iam-policy-binding %s --role=roles/iam.workloadIdentityUser --member=%q", writer, poolMember(ns, "uploader"))
			// A refusal is remembered for some seconds.
			eventually(t, denialRemembered, "that a binding is missing", func() error {
				if got := uploader.get(tokenPath); got.status != http.StatusForbidden || !strings.Contains(got.body, want) {
					return fmt.Errorf("%d %s\nwant 403 with %s", got.status, got.body, want)
				}
				return nil
			})
			google.Bind(writer, "roles/iam.workloadIdentityUser", poolMember(ns, "uploader"))
			// The denial is remembered for some seconds; another scope is no way around it.
			if got := impostor.get(tokenPath); got.status != http.StatusForbidden || !strings.Contains(got.body, poolMember(ns, "impostor")) {
				t.Errorf("a KSA without the binding: %d %s", got.status, got.body)
			}
			var grant fakegoogle.Grant
			eventually(t, denialRemembered, "the new binding is seen", func() error {
				got := uploader.get(tokenPath)
				if got.status != http.StatusOK {
					return fmt.Errorf("%d %s", got.status, got.body)
				}
				grant = n.inspect(t, got.body)
				return nil
			})
			if grant.Principal != "serviceAccount:"+writer || strings.Join(grant.DelegationChain, " ") != credential.member {
				t.Errorf("principal %s through %v, want %s through %s", grant.Principal, grant.DelegationChain, writer, credential.member)
			}
			if jwt := uploader.value("instance/service-accounts/default/identity?audience=x"); strings.Count(jwt, ".") != 2 {
				t.Error("identity: no JWT")
			}
			if got := impostor.get(tokenPath); got.status != http.StatusForbidden {
				t.Errorf("a KSA without the binding, after another got its token: %d", got.status)
			}
			// A KSA that is not linked never gets the operator's own token.
			for _, path := range []string{tokenPath, "instance/service-accounts/default/identity?audience=x"} {
				if got := unlinked.get(path); got.status != http.StatusNotFound || !strings.Contains(got.body, "is not annotated with a target Google service account") {
					t.Errorf("%s of a KSA without annotation: %d %s", path, got.status, got.body)
				}
			}
			if got := unlinked.email(); got != projectID+".svc.id.goog" {
				t.Errorf("email of a KSA without annotation: %s", got)
			}
		})
	}
}

// The rules can be in a file, or disabled.
func TestImpersonation_Policies(t *testing.T) {
	google := newGoogle(t, cluster)
	file := writeFile(t, "credentials.json", google.AuthorizedUser(developer, google.URL+"/token"))
	for _, gsa := range []string{writer, reader} {
		google.Bind(gsa, "roles/iam.serviceAccountTokenCreator", "user:"+developer)
	}
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "uploader", annotated(writer))
	cluster.KSA(t, ns, "impostor", annotated(writer))
	rules := writeFile(t, "policy.yaml", fmt.Appendf(nil, "allow:\n- ksa: %s/uploader\n  gsas: [%s]\n", ns, writer))
	for _, policy := range []struct {
		name     string
		change   func(*config.Serve)
		impostor int
	}{
		{"file", func(s *config.Serve) { s.Policy.Impersonation, s.Policy.File = config.PolicyFile, rules }, http.StatusForbidden},
		{"off", func(s *config.Serve) { s.Policy.Impersonation = config.PolicyOff }, http.StatusOK},
	} {
		t.Run(policy.name, func(t *testing.T) {
			n := startNodeOn(t, cluster, google, impersonating(file, policy.change)).ready(t)
			for i, ksa := range []string{"uploader", "impostor"} {
				cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: policy.name + "-" + ksa, KSA: ksa, Node: n.name, IP: fmt.Sprintf("127.0.1.%d", i+1)})
			}
			if got := n.pod(t, "127.0.1.1").grant().Principal; got != "serviceAccount:"+writer {
				t.Errorf("allowed KSA: %s", got)
			}
			got := n.pod(t, "127.0.1.2").get(tokenPath)
			if got.status != policy.impostor {
				t.Errorf("other KSA: %d %s", got.status, got.body)
			}
			if got.status == http.StatusForbidden && !strings.Contains(got.body, "- ksa: "+ns+"/impostor\n  gsas: ["+writer+"]") {
				t.Errorf("the refusal does not name the missing rule: %s", got.body)
			}
		})
	}
}

// A user logs in again, daily in many organisations.
func TestImpersonation_NewLoginNeedsNoRestart(t *testing.T) {
	google := newGoogle(t, cluster)
	login := func(user string) []byte { return google.AuthorizedUser(user, google.URL+"/token") }
	google.Bind(writer, "roles/iam.serviceAccountTokenCreator", "user:"+developer)
	file := writeFile(t, "credentials.json", login("former@example.com"))
	n := startNodeOn(t, cluster, google, impersonating(file, func(s *config.Serve) { s.Policy.Impersonation = config.PolicyOff })).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "uploader", annotated(writer))
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "uploader", KSA: "uploader", Node: n.name, IP: "127.0.1.1"})
	pod := n.pod(t, "127.0.1.1")
	eventually(t, deadline, "the former login is refused", func() error {
		if got := pod.get(tokenPath); got.status != http.StatusForbidden {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
	if err := os.WriteFile(file, login(developer), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the new login is used", func() error {
		if got := pod.get(tokenPath); got.status != http.StatusOK {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
}

// Without a credential, or with a cluster's own issuer alone, --credentials=fake
// gives tokens that the built-in Google vouches for.
func TestFakeCredentials_TrustTheCluster(t *testing.T) {
	n := startNode(t, func(s *config.Serve) {
		s.Credentials.Kind, s.Provider.Name, s.Google = config.Fake, "", config.Google{}
	}).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	eventually(t, denialRemembered, "the fake knows the cluster's keys", func() error {
		if got := app.get(tokenPath); got.status != http.StatusOK || !strings.Contains(got.body, "access_token") {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
}
