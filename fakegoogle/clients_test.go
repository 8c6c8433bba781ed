package fakegoogle

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
	"google.golang.org/api/sts/v1"
)

// In these tests Google's own client libraries talk to the fake.

// startGoogle serves an offline Google that knows the tests' provider.
func startGoogle(t *testing.T) *Running {
	t.Helper()
	s := Start(t, Options{SharedQuotaProject: true})
	if err := s.AddProvider(Provider{Name: testProvider, Issuer: testIssuer, JWKS: testJWKS()}); err != nil {
		t.Fatal(err)
	}
	return s
}

// federated is a token source in which a generic OAuth client exchanges a pod's
// token.
func federated(ctx context.Context, s *Running) oauth2.TokenSource {
	config := clientcredentials.Config{
		TokenURL:  s.URL + "/v1/token",
		Scopes:    []string{scopeCloudPlatform},
		AuthStyle: oauth2.AuthStyleInParams,
		EndpointParams: url.Values{
			"grant_type":           {grantTokenExchange},
			"requested_token_type": {tokenTypeAccessToken},
			"subject_token_type":   {tokenTypeJWT},
			"subject_token":        {podToken(time.Now(), nil)},
			"audience":             {testProvider},
		},
	}
	return config.TokenSource(ctx)
}

func checkPrincipal(t *testing.T, s *Running, token, want string) {
	t.Helper()
	granted, ok := s.Inspect(token)
	if !ok || granted.Principal != want {
		t.Errorf("%+v, %v; want the principal %s", granted, ok, want)
	}
}

func TestOAuth2Client_ExchangesPodToken(t *testing.T) {
	s := startGoogle(t)
	before := time.Now()
	token, err := federated(t.Context(), s).Token()
	if err != nil {
		t.Fatal(err)
	}
	checkPrincipal(t, s, token.AccessToken, testCaller)
	checkExpiry(t, token.Expiry, before, time.Hour)
}

func TestSTSClient_ExchangesPodToken(t *testing.T) {
	s := startGoogle(t)
	service, err := sts.NewService(t.Context(), option.WithEndpoint(s.URL), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	request := &sts.GoogleIdentityStsV1ExchangeTokenRequest{
		GrantType: grantTokenExchange, RequestedTokenType: tokenTypeAccessToken,
		SubjectTokenType: tokenTypeJWT, SubjectToken: podToken(time.Now(), nil),
		Audience: testProvider, Scope: scopeCloudPlatform,
	}
	before := time.Now()
	response, err := service.V1.Token(request).Do()
	if err != nil {
		t.Fatal(err)
	}
	checkPrincipal(t, s, response.AccessToken, testCaller)
	checkExpiry(t, time.Now().Add(time.Duration(response.ExpiresIn)*time.Second), before, time.Hour)
	if response.TokenType != "Bearer" || response.IssuedTokenType != tokenTypeAccessToken {
		t.Errorf("%+v", response)
	}
}

// checkExpiry checks that a token that was requested after the time before expires
// at the end of its lifetime. Google rounds both the expiry and expires_in down to
// whole seconds, hence 2 s.
func checkExpiry(t *testing.T, expiry, before time.Time, lifetime time.Duration) {
	t.Helper()
	earliest, latest := before.Add(lifetime-2*time.Second), time.Now().Add(lifetime)
	if expiry.Before(earliest) || expiry.After(latest) {
		t.Errorf("expires %s, want %s to %s", expiry, earliest, latest)
	}
}

// credentialsClient is Google's client of the IAM Service Account Credentials API,
// with a federated token.
func credentialsClient(t *testing.T, s *Running) *iamcredentials.ProjectsServiceAccountsService {
	t.Helper()
	service, err := iamcredentials.NewService(t.Context(), option.WithEndpoint(s.URL), option.WithTokenSource(federated(t.Context(), s)))
	if err != nil {
		t.Fatal(err)
	}
	return service.Projects.ServiceAccounts
}

func TestIAMCredentialsClient_CallsEveryMethod(t *testing.T) {
	s := startGoogle(t)
	s.Bind(testGSA, tokenCreator, testCaller)
	accounts := credentialsClient(t, s)
	const name = "projects/-/serviceAccounts/" + testGSA

	before := time.Now()
	access, err := accounts.GenerateAccessToken(name, &iamcredentials.GenerateAccessTokenRequest{Scope: cloudPlatform, Lifetime: "600s"}).Do()
	if err != nil {
		t.Fatal(err)
	}
	checkPrincipal(t, s, access.AccessToken, "serviceAccount:"+testGSA)
	expiry, err := time.Parse(time.RFC3339, access.ExpireTime)
	if err != nil {
		t.Errorf("expireTime %q: %v", access.ExpireTime, err)
	}
	checkExpiry(t, expiry, before, 10*time.Minute)
	blob, err := accounts.SignBlob(name, &iamcredentials.SignBlobRequest{Payload: "AAAA"}).Do()
	if err != nil || blob.SignedBlob == "" || blob.KeyId == "" {
		t.Errorf("%+v, %v", blob, err)
	}
	signed, err := accounts.SignJwt(name, &iamcredentials.SignJwtRequest{Payload: "{}"}).Do()
	if err != nil || signed.SignedJwt == "" {
		t.Errorf("%+v, %v", signed, err)
	}

	s.Unbind(testGSA, tokenCreator, testCaller)
	_, err = accounts.GenerateAccessToken(name, &iamcredentials.GenerateAccessTokenRequest{Scope: cloudPlatform}).Do()
	refusal, ok := err.(*googleapi.Error)
	if !ok || refusal.Code != 403 || !strings.Contains(refusal.Message, "iam.serviceAccounts.getAccessToken") || len(refusal.Details) != 1 {
		t.Errorf("%#v", err)
	}
}

// redirectTransport sends every request to the fake instead of its host: for client
// libraries whose URLs are constants.
type redirectTransport struct{ url string }

func (f redirectTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	target, err := url.Parse(f.url)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = target.Scheme, target.Host
	return http.DefaultTransport.RoundTrip(r)
}

func TestIDToken_ValidatesWithGoogleLibrary(t *testing.T) {
	s := startGoogle(t)
	s.Bind(testGSA, wiUser, testCaller)
	response, err := credentialsClient(t, s).GenerateIdToken("projects/-/serviceAccounts/"+testGSA,
		&iamcredentials.GenerateIdTokenRequest{Audience: "https://shop.example", IncludeEmail: true}).Do()
	if err != nil {
		t.Fatal(err)
	}
	validator, err := idtoken.NewValidator(t.Context(), option.WithHTTPClient(&http.Client{Transport: redirectTransport{s.URL}}))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := validator.Validate(t.Context(), response.Token, "https://shop.example")
	if err != nil {
		t.Fatal(err)
	}
	if payload.Issuer != "https://accounts.google.com" || payload.Claims["email"] != testGSA {
		t.Errorf("%+v", payload)
	}
	if _, err := validator.Validate(t.Context(), response.Token, "https://other.example"); err == nil {
		t.Error("the ID token is valid for another audience")
	}
}

func TestIAMClient_ReadsPolicy(t *testing.T) {
	s := startGoogle(t)
	must(0, s.AddGKEPool("demo-project", "123456"))
	s.Bind(testGSA, wiUser, "serviceAccount:demo-project.svc.id.goog[shop/cart]")
	s.Bind("projects/demo-project", "roles/iam.securityReviewer", testCaller)
	service, err := iam.NewService(t.Context(), option.WithEndpoint(s.URL), option.WithTokenSource(federated(t.Context(), s)))
	if err != nil {
		t.Fatal(err)
	}
	for _, project := range []string{"-", "demo-project"} {
		policy, err := service.Projects.ServiceAccounts.GetIamPolicy("projects/" + project + "/serviceAccounts/" + testGSA).OptionsRequestedPolicyVersion(3).Do()
		if err != nil {
			t.Fatal(err)
		}
		if len(policy.Bindings) != 1 || policy.Bindings[0].Members[0] != "serviceAccount:demo-project.svc.id.goog[shop/cart]" || policy.Etag == "" {
			t.Errorf("%+v", policy)
		}
	}
}

// For each type of credentials file and each of Google's two Go libraries: the
// settings that lead the library to the fake.
func TestCredentialsFiles_WorkWithGoogleLibraries(t *testing.T) {
	s := startGoogle(t)
	s.Bind(testGSA, tokenCreator, "user:dev@example.com")
	s.Bind(testGSA, wiUser, testCaller)
	tokenURI := s.URL + "/token"
	key, err := s.ServiceAccountKey("runner@demo-project.iam.gserviceaccount.com", tokenURI)
	if err != nil {
		t.Fatal(err)
	}
	subjectFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(subjectFile, []byte(podToken(time.Now(), nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	impersonationURL := s.URL + "/v1/projects/-/serviceAccounts/" + testGSA + ":generateAccessToken"
	external := must(json.Marshal(object{
		"type": "external_account", "audience": testProvider, "subject_token_type": tokenTypeJWT,
		"token_url": s.URL + "/v1/token", "service_account_impersonation_url": impersonationURL,
		"credential_source": object{"file": subjectFile},
	}))
	impersonated := must(json.Marshal(object{
		"type": "impersonated_service_account", "service_account_impersonation_url": impersonationURL,
		"source_credentials": json.RawMessage(s.AuthorizedUser("dev@example.com", tokenURI)),
	}))

	for name, test := range map[string]struct {
		kind     string
		file     []byte
		tokenURL string // an option of both libraries
		want     string
	}{
		"authorized_user, token_uri in the file":  {"authorized_user", s.AuthorizedUser("dev@example.com", tokenURI), "", "user:dev@example.com"},
		"authorized_user, TokenURL as an option":  {"authorized_user", s.AuthorizedUser("dev@example.com", ""), tokenURI, "user:dev@example.com"},
		"service_account":                         {"service_account", key, "", "serviceAccount:runner@demo-project.iam.gserviceaccount.com"},
		"external_account with impersonation":     {"external_account", external, "", "serviceAccount:" + testGSA},
		"impersonated_service_account of a user":  {"impersonated_service_account", impersonated, "", "serviceAccount:" + testGSA},
		"impersonated_service_account, as option": {"impersonated_service_account", impersonated, tokenURI, "serviceAccount:" + testGSA},
	} {
		t.Run("x/oauth2, "+name, func(t *testing.T) {
			c, err := google.CredentialsFromJSONWithTypeAndParams(t.Context(), test.file, google.CredentialsType(test.kind),
				google.CredentialsParams{Scopes: cloudPlatform, TokenURL: test.tokenURL})
			if err != nil {
				t.Fatal(err)
			}
			token, err := c.TokenSource.Token()
			if err != nil {
				t.Fatal(err)
			}
			checkPrincipal(t, s, token.AccessToken, test.want)
		})
		t.Run("cloud.google.com/go/auth, "+name, func(t *testing.T) {
			// A request to any other host fails, and does not reach Google.
			client := &http.Client{Transport: hostTransport{s.URL}}
			c, err := credentials.NewCredentialsFromJSON(credentials.CredType(test.kind), test.file,
				&credentials.DetectOptions{Scopes: cloudPlatform, TokenURL: test.tokenURL, Client: client})
			if err != nil {
				t.Fatal(err)
			}
			token, err := c.Token(t.Context())
			// This library does not read token_uri of an authorized_user.
			if needsOption := strings.Contains(string(test.file), "authorized_user") && test.tokenURL == ""; needsOption {
				if err == nil {
					t.Error("the library honours token_uri now: update the comment of AuthorizedUser")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkPrincipal(t, s, token.Value, test.want)
		})
	}
}

// hostTransport refuses requests to other base URLs.
type hostTransport struct{ url string }

func (o hostTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.String(), o.url+"/") {
		return nil, &url.Error{Op: r.Method, URL: r.URL.Host, Err: http.ErrNotSupported}
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestSelfSignedJWT_IsRefused(t *testing.T) {
	s := startGoogle(t)
	const runner = "runner@demo-project.iam.gserviceaccount.com"
	s.Bind(testGSA, tokenCreator, "serviceAccount:"+runner)
	key, err := s.ServiceAccountKey(runner, s.URL+"/token")
	if err != nil {
		t.Fatal(err)
	}
	c, err := credentials.NewCredentialsFromJSON(credentials.ServiceAccount, key, &credentials.DetectOptions{Scopes: cloudPlatform, UseSelfSignedJWT: true})
	if err != nil {
		t.Fatal(err)
	}
	if status := impersonateWith(t, s, c.TokenProvider); status != http.StatusUnauthorized {
		t.Errorf("a self-signed JWT: status %d, want 401", status)
	}
	c, err = credentials.NewCredentialsFromJSON(credentials.ServiceAccount, key, &credentials.DetectOptions{Scopes: cloudPlatform})
	if err != nil {
		t.Fatal(err)
	}
	if status := impersonateWith(t, s, c.TokenProvider); status != http.StatusOK {
		t.Errorf("an access token of the same key: status %d, want 200", status)
	}
}

// impersonateWith requests a token of the tests' GSA with the provider's token, and
// returns the status.
func impersonateWith(t *testing.T, s *Running, provider auth.TokenProvider) int {
	t.Helper()
	token, err := provider.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/v1/projects/-/serviceAccounts/"+testGSA+":generateAccessToken",
		bytes.NewReader(must(json.Marshal(object{"scope": cloudPlatform}))))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token.Value)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}
