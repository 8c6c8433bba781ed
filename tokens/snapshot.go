package tokens

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"gke-metadata-emulator/identity"
)

// overdue is over how long the renewal of restored tokens is spread whose time has come.
const overdue = 10 * time.Second

// handed is a token as the next instance gets it. Of what has none it is known that it
// was asked for, and not why it has none.
type handed struct {
	Cache    string
	Key      string
	Workload identity.Workload
	Asked    time.Time
	Pod      string

	Value  string // the credential
	Type   string
	Expiry time.Time
	Life   time.Duration
	Origin *origin

	key  key
	rank int // 0 is the last of its KSA's that was asked for
}

var errSnapshot = errors.New("the snapshot is not of this engine's form") // without its text, which holds credentials

// Snapshot is the engine's tokens for [Engine.Restore] of another one. It holds
// credentials. Where they are more than size bytes, what was asked for last goes first,
// and each KSA's last token before any second one.
func (e *Engine) Snapshot(size int) []byte {
	var all []handed
	for _, store := range e.stores() {
		all = append(all, store.snapshot()...)
	}
	slices.SortStableFunc(all, func(a, b handed) int { return b.Asked.Compare(a.Asked) })
	held := map[string]int{}
	for i, h := range all {
		shelf := h.Cache + " " + h.key.ksa
		all[i].Key, all[i].rank = h.key.String(), held[shelf]
		held[shelf]++
	}
	slices.SortStableFunc(all, func(a, b handed) int { return cmp.Compare(a.rank, b.rank) })
	var snapshot bytes.Buffer
	for _, h := range all {
		if line, err := json.Marshal(h); err == nil && snapshot.Len()+len(line) < size {
			snapshot.Write(append(line, '\n'))
		}
	}
	return snapshot.Bytes()
}

func (c *store) snapshot() (all []handed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries.all() {
		t := e.token
		all = append(all, handed{
			Cache: c.name, key: k, Workload: e.w, Asked: e.asked, Pod: e.pod,
			Value: t.Value(), Type: t.Type, Expiry: t.Expiry, Life: e.life, Origin: t.origin,
		})
	}
	return all
}

// Restore takes over the tokens of a snapshot that have not expired, and says how many
// they are. It is for an engine that nobody has asked yet, with the same
// [Engine.Terms] as the one of the snapshot.
func (e *Engine) Restore(snapshot []byte) (int, error) {
	stores := map[string]*store{}
	for _, store := range e.stores() {
		stores[store.name] = store
	}
	var all []handed
	decoder := json.NewDecoder(bytes.NewReader(snapshot))
	for {
		var h handed
		if err := decoder.Decode(&h); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, errSnapshot
		}
		var err error
		if h.key, err = parseKey(h.Key); err != nil || stores[h.Cache] == nil {
			return 0, errSnapshot
		}
		all = append(all, h)
	}
	restored := 0
	e.used = map[key]time.Time{}
	for _, h := range slices.Backward(all) { // what was asked for last is the last to be asked for
		if h.Cache == e.tokens.name {
			e.used[h.key] = h.Asked
		}
		if stores[h.Cache].restore(h) {
			restored++
		}
	}
	return restored, nil
}

func (c *store) restore(h handed) bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !now.Before(h.Expiry) || c.entries.peek(h.key) != nil {
		return false
	}
	token := NewToken(h.Value, h.Expiry)
	token.Type, token.origin = h.Type, h.Origin
	e := &entry{w: h.Workload, asked: h.Asked, token: token, pod: h.Pod, life: h.Life}
	e.renewAt = latest(renewal(h.Expiry.Add(-h.Life), h.Life), now.Add(rand.N(overdue)))
	c.enter(h.key, e)
	e.timer.Reset(e.due().Sub(now))
	return true
}

// LastUse is when a workload's access token was asked for last before this engine was
// restored; zero where that is not known.
func (e *Engine) LastUse(w identity.Workload, scopes Scopes) time.Time {
	return e.used[accessKey(w, scopes)]
}

// Changed returns a channel that is closed when a snapshot would hold other tokens.
func (e *Engine) Changed() <-chan struct{} { return e.changed.Next() }

// Terms are what decides which tokens the engine gives, and how it writes them down:
// the tokens of another are to be believed under the same terms only. They hold no
// secret, and do not tell source credentials apart.
func (e *Engine) Terms() []byte {
	return fmt.Appendf(nil, "%s %s", e.terms, e.rules.Load().text())
}

// terms are those that hold for as long as the engine lives.
func (o Options) terms() string {
	var f Federation
	if o.Federation != nil {
		f = *o.Federation
	}
	return fmt.Sprintf("%x %q %q %t %q %T %t %q %q %q %q %s", sha256.Sum256([]byte(form())), f.Provider, f.STSEndpoint,
		o.SourceCredential != nil, o.Delegates, o.Policy, o.RulesDecide, o.WorkloadPool, o.Provider, o.IAMCredentialsEndpoint, o.IAMEndpoint, o.Limits.text())
}

// form is another where a token is handed over with a field more, or its key has one:
// who does not know it would take two tokens for one.
func form() string { return fmt.Sprintf("%#v %#v", handed{}, origin{}) }

// text is another for other rules.
func (r *Rules) text() string {
	if r == nil {
		return "none"
	}
	text, _ := json.Marshal([]any{r.allowed, r.limits}) // which are texts alone
	return string(text)
}
