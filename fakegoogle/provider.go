package fakegoogle

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Provider is an OIDC provider of a workload identity pool. The Security Token
// Service accepts the tokens of its issuer. Its attribute mapping is
// google.subject=assertion.sub.
type Provider struct {
	// Name is the full resource name:
	// //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
	Name string
	// Issuer is the claim iss of its tokens: an https:// URL.
	Issuer string
	// JWKS is the issuer's key set, as JSON: RSA keys and EC keys on P-256. If it is empty,
	// the keys are fetched from the issuer for each token; see [Options.Issuers].
	JWKS []byte
	// AllowedAudiences are the accepted values of the claim aud; default: Name, with
	// or without the prefix https:.
	AllowedAudiences []string
	// Condition reports whether a token's claims meet the attribute condition; default:
	// all tokens do. Google's is an expression in CEL; this is its value. A state file
	// cannot have one.
	Condition func(assertion map[string]any) bool
}

// provider is a [Provider] or a [Membership].
type provider struct {
	Provider
	deletion
	audience string // of a token exchange
	pool     string // //iam.googleapis.com/.../workloadIdentityPools/POOL
	gke      bool   // the pool is GKE's, and names the subjects as GKE does
	poolID   string // of GKE's pool
	number   string // of the project of GKE's pool
	keys     jose.JSONWebKeySet
}

// AddProvider registers a provider, and replaces a provider of the same name. Its pool
// is created if it does not exist. The error names the field that Google would refuse,
// or is Google's if the pool or a provider of the name was deleted less than 30 days ago.
func (s *Server) AddProvider(p Provider) error {
	parsed, err := newProvider(p)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ensureProvider(parsed)
}

// ensureProvider adds a provider and its pool. The caller holds s.mu.
func (s *Server) ensureProvider(p *provider) error {
	if p.gke {
		if err := s.ensureGKEPool(p.poolID, p.number); err != nil {
			return err
		}
	} else if err := s.ensurePool(p.pool); err != nil {
		return err
	}
	if found, ok := s.provider(p.audience); ok && !found.active() {
		return alreadyExists()
	}
	s.providers[p.audience] = p
	return nil
}

const providerForm = poolForm + `/providers/PROVIDER`

// splitProviderName splits a provider's full resource name into the pool and the
// provider's ID; false if the name has another form.
func splitProviderName(name string) (pool, id string, ok bool) {
	pool, id, ok = strings.Cut(name, "/providers/")
	return pool, id, ok && poolName.MatchString(pool) && id != "" && !strings.Contains(id, "/")
}

func newProvider(p Provider) (*provider, error) {
	pool, id, ok := splitProviderName(p.Name)
	if !ok {
		return nil, fmt.Errorf("fakegoogle: provider name %q is not of the form %s; NUMBER is the project's number, not its ID", p.Name, providerForm)
	}
	if err := parsePoolName(pool); err != nil {
		return nil, err
	}
	if err := checkShortID("provider", id); err != nil {
		return nil, err
	}
	parsed, err := newIssuer(p, "provider")
	if err != nil {
		return nil, err
	}
	parsed.audience, parsed.pool = p.Name, pool
	return parsed, nil
}

// newIssuer checks the fields that a provider and a membership have in common.
func newIssuer(p Provider, kind string) (*provider, error) {
	if u, err := url.Parse(p.Issuer); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("fakegoogle: issuer %q of %s %s: Google accepts only https:// URLs", p.Issuer, kind, p.Name)
	}
	var keys jose.JSONWebKeySet
	if len(p.JWKS) > 0 {
		var err error
		if keys, err = parseJWKS(p.JWKS); err != nil {
			return nil, fmt.Errorf("fakegoogle: JWKS of %s %s: %w", kind, p.Name, err)
		}
	}
	p.AllowedAudiences = slices.Clone(p.AllowedAudiences)
	return &provider{Provider: p, keys: keys}, nil
}

func errNoKeys() error {
	return errors.New("it holds no keys; expected {\"keys\": [...]}, as kubectl get --raw /openid/v1/jwks prints it")
}

// parseJWKS accepts the keys that Google accepts: RSA keys and EC keys on P-256.
func parseJWKS(data []byte) (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil {
		return set, fmt.Errorf("%w; expected {\"keys\": [...]}, as kubectl get --raw /openid/v1/jwks prints it", err)
	}
	if len(set.Keys) == 0 {
		return set, errNoKeys()
	}
	for i, key := range set.Keys {
		switch public := key.Key.(type) {
		case *rsa.PublicKey:
		case *ecdsa.PublicKey:
			if public.Curve != elliptic.P256() {
				return set, fmt.Errorf("keys[%d] is on curve %s; Google accepts RSA keys and EC keys on P-256", i, public.Curve.Params().Name)
			}
		case *rsa.PrivateKey, *ecdsa.PrivateKey:
			return set, fmt.Errorf("keys[%d] is a private key; publish only the public key", i)
		default:
			return set, fmt.Errorf("keys[%d] is a %T; Google accepts RSA keys and EC keys on P-256", i, key.Key)
		}
	}
	return set, nil
}

// subjectClaims are the claims of a subject token that the server reads. The claim
// kubernetes.io names a pod if the token is bound to one.
type subjectClaims struct {
	jwt.Claims
	Kubernetes struct {
		Namespace string `json:"namespace"`
		Pod       struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"pod"`
	} `json:"kubernetes.io"`
}

// clockSkew is the lead of an issuer's clock that the Security Token Service tolerates:
// inferred; docs/facts.md has the fact. Tokens that have expired are refused at once: no
// client should rely on more.
const clockSkew = 60 * time.Second

// maxSubjectAge is the limit of iat, which "must be in the past and no more than 24
// hours in the past" (Security Token Service reference, field subjectToken).
const maxSubjectAge = 24 * time.Hour

// verify checks a subject token as the Security Token Service does. The errors have
// its texts.
func (p *provider) verify(ctx context.Context, token string, now time.Time, issuers *http.Client) (*subjectClaims, error) {
	// The algorithms are "RS256 or ES256" (Security Token Service reference). This
	// refuses the algorithm none, and HS256 with the public key as its secret.
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return nil, oauthFailure("invalid_grant", "Unable to parse the ID Token.")
	}
	var claims subjectClaims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return nil, oauthFailure("invalid_grant", "Unable to parse the ID Token.")
	}
	if claims.Issuer != p.Issuer {
		return nil, oauthFailure("invalid_grant", "The issuer in ID Token %s does not match the expected one in config: %s.", orNull(claims.Issuer), p.Issuer)
	}
	keys := p.keys
	if len(p.JWKS) == 0 {
		if keys, err = publicKeys(ctx, issuers, p.Issuer); err != nil {
			return nil, errNoIssuer()
		}
	}
	if err := verifySignature(parsed, keys); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(claims.Audience, p.allowsAudience) {
		return nil, oauthFailure("invalid_grant", "The audience in ID Token [%s] does not match the expected audience.", strings.Join(claims.Audience, ", "))
	}
	if !isCurrent(&claims.Claims, now) {
		issued := "null"
		if claims.IssuedAt != nil {
			issued = fmt.Sprint(claims.IssuedAt.Time().Unix())
		}
		return nil, oauthFailure("invalid_grant", "ID Token issued at %s is stale to sign-in.", issued)
	}
	subject := p.subject(&claims)
	if subject == "" {
		return nil, oauthFailure("unauthorized_client", "Could not obtain a value for google.subject from the given credential.")
	}
	if len(subject) > 127 {
		// Long namespaces and account names exceed the limit:
		// system:serviceaccount:NAMESPACE:NAME can have 340 bytes.
		return nil, oauthFailure("invalid_request", "The size of mapped attribute google.subject exceeds the 127 bytes limit. "+
			"Either modify your attribute mapping or the incoming assertion to produce a mapped attribute that is less than 127 bytes.")
	}
	if p.Condition != nil {
		var assertion map[string]any
		if parsed.UnsafeClaimsWithoutVerification(&assertion) != nil || !p.Condition(assertion) { // the signature has been verified
			return nil, oauthFailure("unauthorized_client", "The given credential is rejected by the attribute condition.")
		}
	}
	return &claims, nil
}

func verifySignature(token *jwt.JSONWebToken, keys jose.JSONWebKeySet) error {
	header := token.Headers[0]
	candidates := slices.DeleteFunc(keys.Key(header.KeyID), func(key jose.JSONWebKey) bool {
		return header.KeyID == "" ||
			key.Algorithm != "" && key.Algorithm != header.Algorithm ||
			!keyFitsAlgorithm(key, header.Algorithm)
	})
	if len(candidates) == 0 {
		return errNoIssuer()
	}
	for _, key := range candidates {
		if token.Claims(key.Key, &struct{}{}) == nil {
			return nil
		}
	}
	return oauthFailure("invalid_grant", "Unable to verify the ID Token signature.")
}

// keyFitsAlgorithm reports whether a key is of the type that an algorithm needs.
func keyFitsAlgorithm(key jose.JSONWebKey, algorithm string) bool {
	_, isRSA := key.Key.(*rsa.PublicKey)
	return isRSA == (algorithm == string(jose.RS256))
}

func (p *provider) allowsAudience(audience string) bool {
	if len(p.AllowedAudiences) > 0 {
		return slices.Contains(p.AllowedAudiences, audience)
	}
	return audience == p.Name || audience == "https:"+p.Name
}

// isCurrent reports whether the token was issued and is valid now, within the clock
// skew. A token without iat or exp is not.
func isCurrent(c *jwt.Claims, now time.Time) bool {
	if c.IssuedAt == nil || c.Expiry == nil {
		return false
	}
	issued := c.IssuedAt.Time()
	return c.Expiry.Time().After(now) &&
		!issued.After(now.Add(clockSkew)) &&
		!issued.Before(now.Add(-maxSubjectAge)) &&
		(c.NotBefore == nil || !c.NotBefore.Time().After(now.Add(clockSkew)))
}

// subject is the name of a subject token's holder in the pool; empty if it has none.
func (p *provider) subject(c *subjectClaims) string {
	if !p.gke {
		return c.Subject
	}
	namespace, ksa, ok := kubernetesSubject(c.Subject)
	if !ok {
		return ""
	}
	return "ns/" + namespace + "/sa/" + ksa
}

// grant returns the grant of a subject token, without scopes yet.
func (p *provider) grant(c *subjectClaims) grant {
	subject := p.subject(c)
	principal := "principal:" + p.pool + "/subject/" + subject
	g := grant{
		Grant:   Grant{Principal: principal},
		pool:    p.pool,
		subject: subject,
		members: []string{principal, "principalSet:" + p.pool + "/*"},
	}
	namespace, ksa, ok := kubernetesSubject(c.Subject)
	if !ok {
		return g
	}
	g.KSA = namespace + "/" + ksa
	if pod := c.Kubernetes.Pod; pod.Name != "" {
		g.Pod, g.PodUID = c.Kubernetes.Namespace+"/"+pod.Name, pod.UID
	}
	if p.gke {
		g.members = append(g.members,
			fmt.Sprintf("serviceAccount:%s[%s/%s]", p.poolID, namespace, ksa),
			"principalSet:"+p.pool+"/namespace/"+namespace)
	}
	return g
}

// kubernetesSubject splits system:serviceaccount:NAMESPACE:NAME.
func kubernetesSubject(subject string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(subject, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

func orNull(s string) string {
	if s == "" {
		return "null"
	}
	return s
}

// lookupProvider returns the provider that a token exchange names.
func (s *Server) lookupProvider(name string) (*provider, error) {
	if _, _, ok := splitProviderName(name); !ok && !membershipAudience.MatchString(name) {
		return nil, oauthFailure("invalid_request", "Invalid value for \"audience\". This value should be the full resource name of the Identity Provider. "+
			"See https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.provider(name)
	if !ok || !p.active() || !s.poolActive(p.pool) {
		return nil, &oauthError{
			Status: http.StatusBadRequest,
			Code:   "invalid_target",
			Description: "The target service indicated by the \"audience\" parameters is invalid. " +
				"This might either be because the pool or provider is disabled or deleted or because it doesn't exist.",
		}
	}
	return p, nil
}
