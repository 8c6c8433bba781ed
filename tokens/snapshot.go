package tokens

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"gke-metadata-emulator/identity"
)

// snapshotVersion is that of the layout of snapshotEntry and of everything in it. It is
// part of [Engine.Fingerprint]: an engine that does not know a field of a key would take
// two tokens for one.
const snapshotVersion = 1

// overdueSpread is the window over which many tokens are renewed that are due at once.
const overdueSpread = 10 * time.Second

// snapshotEntry is one cached token in a snapshot. Entries without a token are included
// for their last use, but without the failure.
type snapshotEntry struct {
	Cache    string
	Key      string
	Workload identity.Workload
	LastUse  time.Time
	PodUID   string

	Value    string // the credential
	Type     string
	Expiry   time.Time
	Lifetime time.Duration
	Origin   *origin

	key  key
	rank int // among its KSA's tokens by last use; 0 is the latest
}

var errSnapshot = errors.New("the snapshot does not have this engine's format") // without the content, which holds credentials

// Snapshot returns the engine's tokens for [Engine.Restore] of another engine. It holds
// credentials. A snapshot has at most size bytes: the last used tokens come first, and
// each KSA's last used token before the second one of any KSA.
func (e *Engine) Snapshot(size int) []byte {
	var all []snapshotEntry
	for _, store := range e.stores() {
		all = append(all, store.snapshot()...)
	}
	slices.SortStableFunc(all, func(a, b snapshotEntry) int { return b.LastUse.Compare(a.LastUse) })
	count := map[string]int{} // by cache and KSA
	for i, s := range all {
		list := s.Cache + " " + s.key.ksa
		all[i].Key, all[i].rank = s.key.String(), count[list]
		count[list]++
	}
	slices.SortStableFunc(all, func(a, b snapshotEntry) int { return cmp.Compare(a.rank, b.rank) })
	var snapshot bytes.Buffer
	for _, s := range all {
		if line, err := json.Marshal(s); err == nil && snapshot.Len()+len(line) < size {
			snapshot.Write(append(line, '\n'))
		}
	}
	return snapshot.Bytes()
}

func (c *store) snapshot() (all []snapshotEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries.all() {
		t := e.token
		all = append(all, snapshotEntry{
			Cache: c.name, key: k, Workload: e.workload, LastUse: e.lastUse, PodUID: e.podUID,
			Value: t.Value(), Type: t.Type, Expiry: t.Expiry, Lifetime: e.lifetime, Origin: t.origin,
		})
	}
	return all
}

// Restore adds the tokens of a snapshot that have not expired, and returns their number.
// It has to be called before the first request, and only if the snapshot's engine had the
// same [Engine.Fingerprint].
func (e *Engine) Restore(snapshot []byte) (int, error) {
	stores := map[string]*store{}
	for _, store := range e.stores() {
		stores[store.name] = store
	}
	var all []snapshotEntry
	decoder := json.NewDecoder(bytes.NewReader(snapshot))
	for {
		var s snapshotEntry
		if err := decoder.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, errSnapshot
		}
		var err error
		if s.key, err = parseKey(s.Key); err != nil || stores[s.Cache] == nil {
			return 0, errSnapshot
		}
		all = append(all, s)
	}
	restored := 0
	e.lastUses = map[key]time.Time{}
	for _, s := range slices.Backward(all) { // the last used token is added last
		if s.Cache == e.tokens.name {
			e.lastUses[s.key] = s.LastUse
		}
		if stores[s.Cache].restore(s) {
			restored++
		}
	}
	return restored, nil
}

func (c *store) restore(s snapshotEntry) bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !now.Before(s.Expiry) || c.entries.peek(s.key) != nil {
		return false
	}
	token := NewToken(s.Value, s.Expiry)
	token.Type, token.origin = s.Type, s.Origin
	e := &entry{workload: s.Workload, lastUse: s.LastUse, token: token, podUID: s.PodUID, lifetime: s.Lifetime}
	e.renewAt = latest(renewalTime(s.Expiry.Add(-s.Lifetime), s.Lifetime), now.Add(rand.N(overdueSpread)))
	c.insert(s.key, e)
	e.timer.Reset(e.nextWake().Sub(now))
	return true
}

// LastUse is when a workload's access token was last requested before this engine was
// restored; zero if that is not known.
func (e *Engine) LastUse(w identity.Workload, scopes Scopes) time.Time {
	return e.lastUses[accessKey(w, scopes)]
}

// Changed returns a channel that is closed when a snapshot would hold other tokens or the
// fingerprint has changed.
func (e *Engine) Changed() <-chan struct{} { return e.changed.Next() }

// Fingerprint identifies everything that decides which tokens the engine gives, and the
// layout of its snapshots: a snapshot is valid only for an engine with the same
// fingerprint. It holds no secret, and does not distinguish source credentials.
func (e *Engine) Fingerprint() []byte {
	return fmt.Appendf(nil, "%s %s", e.fingerprint, e.rules.Load().text())
}

// fingerprint is the part that is fixed for the engine's lifetime. The policy is nil in
// federation mode.
func (o Options) fingerprint(policy Policy) string {
	var f Federation
	if o.Federation != nil {
		f = *o.Federation
	}
	name := ""
	if policy != nil {
		name = policy.Name()
	}
	return fmt.Sprintf("%d %q %q %q %q %q %q %q %q %s", snapshotVersion, f.Audience, f.SubjectAudience, f.STSEndpoint, name,
		o.Delegates, o.Names, o.IAMCredentialsEndpoint, o.IAMEndpoint, o.Limits.text())
}

// text is different for different rules.
func (r *Rules) text() string {
	if r == nil {
		return "none"
	}
	text, _ := json.Marshal([]any{r.allowed, r.limits}) // strings only, so it cannot fail
	return string(text)
}
