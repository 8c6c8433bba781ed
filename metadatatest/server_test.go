package metadatatest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"

	"gke-metadata-emulator/metadatatest"
)

const (
	gsa      = "serviceAccount:cart@shop-project.iam.gserviceaccount.com"
	email    = "cart@shop-project.iam.gserviceaccount.com"
	tokenURL = "/computeMetadata/v1/instance/service-accounts/default/token"
)

// token requests a token with golang.org/x/oauth2 from the server in the environment.
func token(t *testing.T) (string, error) {
	t.Helper()
	credentials, err := google.FindDefaultCredentials(t.Context(), "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		t.Fatal(err)
	}
	got, err := credentials.TokenSource.Token()
	if err != nil {
		return "", err
	}
	return got.AccessToken, nil
}

// checkToken checks the principal and the KSA of a token.
func checkToken(t *testing.T, srv *metadatatest.Server, name, ksa string) {
	t.Helper()
	got, err := token(t)
	if err != nil {
		t.Fatal(err)
	}
	principal, err := srv.Principal(got)
	if err != nil || principal.Name != name || principal.KSA != ksa {
		t.Errorf("the token is for %q (%s), %v; want %q (%s)", principal.Name, principal.KSA, err, name, ksa)
	}
}

// status requests a token without a library, which would retry.
func status(t *testing.T, client *http.Client, srv *metadatatest.Server) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+tokenURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestServer_DefaultCredentialsFollowLink(t *testing.T) {
	srv := metadatatest.New(t, metadatatest.Link("default/default", email))
	checkToken(t, srv, gsa, "default/default")
	srv.Link("default/default", "till@shop-project.iam.gserviceaccount.com")
	checkToken(t, srv, "serviceAccount:till@shop-project.iam.gserviceaccount.com", "default/default")
	srv.Unlink("default/default")
	got, err := token(t)
	if err != nil {
		t.Fatal(err)
	}
	if principal, err := srv.Principal(got); err != nil || !strings.HasPrefix(principal.Name, "principal://") {
		t.Errorf("without a link the token is for %q, %v", principal.Name, err)
	}
	srv.Link("default/default", email)
	srv.Unbind("default/default", email)
	if _, err := token(t); err == nil || !strings.Contains(err.Error(), "roles/iam.workloadIdentityUser") {
		t.Errorf("without the binding: %v, want an error that names it", err)
	}
}

func TestPrincipal_RefusesTokenOfOtherServer(t *testing.T) {
	srv := metadatatest.New(t)
	got, err := token(t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Principal(got); err != nil {
		t.Error(err)
	}
	other := metadatatest.New(t, metadatatest.NoEnv())
	if _, err := other.Principal(got); !errors.Is(err, metadatatest.ErrToken) {
		t.Errorf("the error for another server's token: %v, want ErrToken", err)
	}
}

func TestGoogleClient_ValidatesIDToken(t *testing.T) {
	srv := metadatatest.New(t, metadatatest.Link("default/default", email))
	const audience = "https://shop.example"
	source, err := idtoken.NewTokenSource(t.Context(), audience)
	if err != nil {
		t.Fatal(err)
	}
	got, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	validator, err := idtoken.NewValidator(t.Context(), option.WithHTTPClient(srv.GoogleClient()))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := validator.Validate(t.Context(), got.AccessToken, audience)
	if err != nil || payload.Claims["email"] != email {
		t.Errorf("claims %v, %v", payload, err)
	}
	if _, err := validator.Validate(t.Context(), got.AccessToken, "https://other.example"); err == nil {
		t.Error("the ID token is also valid for another audience")
	}
}

func TestAt_IdentifiesCallersByAddress(t *testing.T) {
	t.Parallel()
	srv := metadatatest.New(t, metadatatest.NoEnv(), metadatatest.Project("shop-project", "42"),
		metadatatest.At("127.0.0.2", "shop/cart"), metadatatest.Link("shop/cart", email),
		metadatatest.Link("default/default", "till@shop-project.iam.gserviceaccount.com"))
	for address, want := range map[string]string{"127.0.0.2": email, "127.0.0.1": "till@shop-project.iam.gserviceaccount.com"} {
		client := metadata.NewClient(srv.ClientFrom(address))
		if got, err := client.EmailWithContext(t.Context(), ""); err != nil || got != want {
			t.Errorf("the e-mail address for %s is %q, %v; want %s", address, got, err, want)
		}
		// Not by ProjectID, which the library keeps for all clients of a process.
		if id, err := client.GetWithContext(t.Context(), "project/project-id"); err != nil || id != "shop-project" {
			t.Errorf("project %q, %v", id, err)
		}
	}
}

func TestFailures_HaveRequestedStatus(t *testing.T) {
	t.Parallel()
	srv := metadatatest.New(t, metadatatest.NoEnv())
	client := srv.Client()
	for _, want := range []int{403, 404, 503} {
		srv.FailNext(2, want)
		if got := []int{status(t, client, srv), status(t, client, srv), status(t, client, srv)}; !slices.Equal(got, []int{want, want, 200}) {
			t.Errorf("FailNext(2, %d): %v", want, got)
		}
	}
	srv.Outage()
	for range 3 {
		if got := status(t, client, srv); got != 503 {
			t.Errorf("during an outage: status %d, want 503", got)
		}
	}
	srv.Recover()
	if got := status(t, client, srv); got != 200 {
		t.Errorf("after the outage: status %d, want 200", got)
	}
	if got := srv.TokenRequests(); got != 13 {
		t.Errorf("TokenRequests() = %d, want 13", got)
	}
}

func TestSlowTokens_EndWithCallersDeadline(t *testing.T) {
	t.Parallel()
	srv := metadatatest.New(t, metadatatest.NoEnv())
	srv.SlowTokens(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := metadata.NewClient(srv.Client()).GetWithContext(ctx, "instance/service-accounts/default/token")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a delay of an hour: %v, want the deadline's error", err)
	}
}

func TestSetTokenLifetime_DropsCachedTokens(t *testing.T) {
	srv := metadatatest.New(t)
	checkToken(t, srv, "serviceAccount:demo@demo-project.iam.gserviceaccount.com", "default/default")
	srv.SetTokenLifetime(0) // drops the cached token of an hour
	got, err := token(t)
	if err != nil {
		t.Fatal(err)
	}
	if principal, err := srv.Principal(got); err != nil || time.Until(principal.Expiry) > 2*time.Second {
		t.Errorf("expires %s, %v; want in 2 s", principal.Expiry, err)
	}
}

func TestStart_ErrorNamesWrongOption(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]metadatatest.Option{
		"NAMESPACE/NAME": metadatatest.Link("cart", email), "IP address": metadatatest.At("nowhere", "shop/cart"), "project-id": metadatatest.Project("?", "1"),
	} {
		if srv, err := metadatatest.Start(option); err == nil {
			_ = srv.Close()
			t.Errorf("no error that names %s", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}
