package tokens

import (
	"fmt"
	"strconv"
	"strings"

	"gke-metadata-emulator/identity"
)

// key is what two requests must have in common to share a token. Whatever
// decides what a token may do stands here.
type key struct {
	ksa       string // UID
	gsa       string
	delegates string // through which the GSA is reached
	scopes    string
	id        bool
	audience  string // of an ID token or a KSA token
	format    string
	licenses  bool
	life      int // seconds, of a KSA token
}

const keyForm = "%q %q %q %q %t %q %q %t %d"

// String tells two keys apart whatever bytes the callers put into them.
func (k key) String() string {
	return fmt.Sprintf(keyForm, k.ksa, k.gsa, k.delegates, k.scopes, k.id, k.audience, k.format, k.licenses, k.life)
}

// parseKey undoes String.
func parseKey(text string) (k key, err error) {
	_, err = fmt.Sscanf(text, keyForm, &k.ksa, &k.gsa, &k.delegates, &k.scopes, &k.id, &k.audience, &k.format, &k.licenses, &k.life)
	if err == nil && (k.String() != text || joined(split(k.scopes)) != k.scopes) {
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

var defaultScopesKey = joined(DefaultScopes())

// key is a text that no other set of scopes has. Nearly all requests are for the
// default ones, whose text is there already.
func (s Scopes) key() string {
	if len(s) == 2 && s[0] == CloudPlatform && s[1] == userinfoEmail {
		return defaultScopesKey
	}
	return joined(s)
}

// joined writes each scope after its length: no byte in one of them can end it.
func joined(s Scopes) string {
	var b []byte
	for _, scope := range s {
		b = strconv.AppendInt(b, int64(len(scope)), 10)
		b = append(append(b, ':'), scope...)
	}
	return string(b)
}

// split undoes joined.
func split(joined string) (s Scopes) {
	for joined != "" {
		length, rest, _ := strings.Cut(joined, ":")
		n, _ := strconv.ParseUint(length, 10, 31)
		n = min(n, uint64(len(rest)))
		s, joined = append(s, rest[:n]), rest[n:]
	}
	return s
}
