package conformance

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gke-metadata-emulator/identity"
	iamnames "gke-metadata-emulator/internal/principal"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testGSA  = "cart@demo-project.iam.gserviceaccount.com"
	testPool = "demo-project.svc.id.goog"
	opaque   = "An-0paque_t0ken.of~no+known.form=" // a federated token can have any form
)

// backend is a server's identity and tokens for one workload.
type backend struct{ identity.Workload }

// backends returns one for each kind of caller.
func backends() map[caller]backend {
	w := func(gsa string, principal bool) backend {
		return backend{identity.Workload{
			Pod: identity.Pod{Namespace: "shop", Name: "cart-0", UID: "pod-uid"},
			KSA: identity.ServiceAccount{Namespace: "shop", Name: "cart", UID: "ksa-uid"},
			GSA: gsa, PrincipalEmail: principal,
		}}
	}
	return map[caller]backend{linked: w(testGSA, false), unlinked: w("", false), principal: w("", true)}
}

func (w backend) Pod(context.Context, identity.Connection) (identity.Pod, error) {
	return w.Workload.Pod, nil
}
func (w backend) Changed() <-chan struct{} { return nil }

// identities is the server's identity of a backend, in which the name Workload is
// that of a field.
type identities struct{ backend }

func (i identities) Workload(context.Context, identity.Pod) (identity.Workload, error) {
	return i.backend.Workload, nil
}

func (w backend) AccessToken(_ context.Context, _ identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	return tokens.NewToken(opaque+base64.RawURLEncoding.EncodeToString([]byte(strings.Join(scopes, " "))), time.Now().Add(time.Hour)), nil
}

func (w backend) IDToken(_ context.Context, _ identity.Workload, r tokens.IDTokenRequest) (tokens.Token, error) {
	if w.GSA == "" {
		return tokens.Token{}, &tokens.Error{Kind: tokens.NotLinked, Message: "Your Kubernetes service account (shop/cart) is not annotated with a target Google service account, …"}
	}
	expiry := time.Now().Add(time.Hour)
	return tokens.NewToken(jwt(fmt.Sprintf(`{"aud":%q,"email":%q,"exp":%d}`, r.Audience, w.GSA, expiry.Unix())), expiry), nil
}

// serve runs our own server until the test ends, and returns its address.
func serve(t *testing.T, w backend) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(server.Options{Identity: identities{w}, Tokens: w, Facts: func() server.Facts {
		return server.Facts{
			ProjectID: "demo-project", NumericProjectID: "123456789012", Names: iamnames.Names{GKEPool: testPool, ProjectNumber: "123456789012"}, UniverseDomain: "googleapis.com",
			InstanceID: "15534023222112865485", NodeName: "node-1", Hostname: "node-1.europe-west1-b.c.demo-project.internal", Zone: "europe-west1-b",
			ClusterName: "demo", ClusterLocation: "europe-west1", ClusterUID: "6c1e0d6c3f2b4b5e9a1d2f7c8e9d0a1b6c1e0d6c3f2b4b5e9a1d2f7c8e9d0a1b",
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// run runs the cases with the given names; default: all cases.
func run(t *testing.T, o Options, names ...string) []Result {
	t.Helper()
	var results []Result
	cases := slices.DeleteFunc(Cases(), func(c Case) bool { return len(names) > 0 && !slices.Contains(names, c.Name) })
	if err := runCases(t.Context(), o, cases, func(r Result) { results = append(results, r) }); err != nil {
		t.Fatal(err)
	}
	return results
}

// jwt returns a token with the claims and an invalid signature.
func jwt(claims string) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"RS256"}`) + "." + part(claims) + "." + part("signature")
}
