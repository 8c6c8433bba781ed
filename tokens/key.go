package tokens

import (
	"fmt"
	"strconv"
	"strings"

	"gke-metadata-emulator/identity"
)

// key is what two requests must have in common to share a token. It holds everything
// that decides what a token can do.
type key struct {
	ksa       string // UID
	gsa       string
	delegates string // the chain of service accounts to the GSA
	scopes    string // see [joinScopes]
	id        bool   // an ID token
	audience  string // of an ID token or a KSA token
	format    string
	licenses  bool
	lifetime  int // seconds, of a KSA token
}

const keyFormat = "%q %q %q %q %t %q %q %t %d"

// String is unambiguous, whatever bytes the callers put into the fields.
func (k key) String() string {
	return fmt.Sprintf(keyFormat, k.ksa, k.gsa, k.delegates, k.scopes, k.id, k.audience, k.format, k.licenses, k.lifetime)
}

// parseKey is the inverse of String.
func parseKey(text string) (k key, err error) {
	_, err = fmt.Sscanf(text, keyFormat, &k.ksa, &k.gsa, &k.delegates, &k.scopes, &k.id, &k.audience, &k.format, &k.licenses, &k.lifetime)
	if err == nil && (k.String() != text || joinScopes(splitScopes(k.scopes)) != k.scopes) {
		err = fmt.Errorf("%q is not a key", text)
	}
	return k, err
}

func accessKey(w identity.Workload, scopes Scopes) key {
	return key{ksa: w.KSA.UID, gsa: w.GSA, delegates: w.Delegates, scopes: scopes.key()}
}

func idKey(w identity.Workload, r IDTokenRequest) key {
	return key{ksa: w.KSA.UID, gsa: w.GSA, delegates: w.Delegates, id: true, audience: r.Audience, format: r.Format, licenses: r.Licenses}
}

// The scopes of nearly all requests, joined once.
var (
	defaultScopesKey = joinScopes(DefaultScopes())
	cloudPlatformKey = joinScopes(Scopes{CloudPlatform})
)

// key is a text that no other set of scopes has.
func (s Scopes) key() string {
	switch {
	case len(s) == 2 && s[0] == CloudPlatform && s[1] == userinfoEmail:
		return defaultScopesKey
	case len(s) == 1 && s[0] == CloudPlatform:
		return cloudPlatformKey
	}
	return joinScopes(s)
}

// joinScopes writes each scope after its length: no byte of a scope can end it.
func joinScopes(s Scopes) string {
	var onStack [256]byte // enough for most sets, so the text is the only allocation
	b := onStack[:0]
	for _, scope := range s {
		b = strconv.AppendInt(b, int64(len(scope)), 10)
		b = append(append(b, ':'), scope...)
	}
	return string(b)
}

// splitScopes is the inverse of joinScopes.
func splitScopes(joined string) (s Scopes) {
	for joined != "" {
		length, rest, _ := strings.Cut(joined, ":")
		n, _ := strconv.ParseUint(length, 10, 31)
		n = min(n, uint64(len(rest)))
		s, joined = append(s, rest[:n]), rest[n:]
	}
	return s
}
