package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/google"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/oauth2"
)

func reference(t *testing.T, image string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(testHost + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// with are the options of a client that has a token, as Google's keychain gives it.
func (b *bench) with(token string) []remote.Option {
	return []remote.Option{
		remote.WithTransport(b.client.Transport), remote.WithContext(b.t.Context()),
		remote.WithAuth(google.NewTokenSourceAuthenticator(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}))),
	}
}

func digest(t *testing.T, image v1.Image) v1.Hash {
	t.Helper()
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestClient_PushesAndPulls(t *testing.T) {
	b := newBench(t)
	b.bind(writer)
	token := b.token(cloudPlatform)
	image, err := random.Image(4096, 3)
	if err != nil {
		t.Fatal(err)
	}
	target := reference(t, testImage+":1")
	keychain := authn.NewMultiKeychain(fixed{google.NewTokenSourceAuthenticator(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}))})
	if err := remote.CheckPushPermission(target, keychain, b.client.Transport); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(target, image, b.with(token)...); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(target, b.with(token)...)
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, pulled) != digest(t, image) {
		t.Errorf("pulled %s, pushed %s", digest(t, pulled), digest(t, image))
	}
	for _, r := range b.Records() {
		if r.Principal != testPrincipal && r.Status != 401 {
			t.Errorf("record %+v", r)
		}
	}
}

type fixed struct{ authenticator authn.Authenticator }

func (f fixed) Resolve(authn.Resource) (authn.Authenticator, error) { return f.authenticator, nil }

// A user without permission to push reads this: for kaniko's first request, and for the
// push itself.
func TestClient_IsDenied(t *testing.T) {
	b := newBench(t)
	b.bind(reader)
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := "DENIED: " + fmt.Sprintf(deniedText, "upload")
	if err := remote.Write(reference(t, testImage+":1"), image, b.with(b.token(cloudPlatform))...); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	want = "UNAUTHORIZED: authentication failed"
	if err := remote.Write(reference(t, testImage+":1"), image, b.with("ya29.garbage")...); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// An image in one repository is none in another, nor are its blobs.
func TestRepositories_AreSeparate(t *testing.T) {
	b := newBench(t)
	const other = "projects/demo-project/locations/europe-west1/repositories/other"
	b.policies.Create(other)
	if err := b.policies.Bind("projects/demo-project", writer, testPrincipal); err != nil {
		t.Fatal(err)
	}
	token := b.token(cloudPlatform)
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference(t, testImage+":1"), image, b.with(token)...); err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for repository, want := range map[string]int{"images": 200, "other": 404} {
		target := testHost + "/v2/demo-project/" + repository + "/team/app/blobs/" + layer.String()
		if response, _ := b.do("HEAD", target, asBearer(token)); response.StatusCode != want {
			t.Errorf("the layer in %s: %s", repository, response.Status)
		}
	}
	if _, err := remote.Image(reference(t, "demo-project/other/team/app:1"), b.with(token)...); err == nil {
		t.Error("the image is in another repository")
	}
}
