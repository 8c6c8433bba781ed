package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
)

const (
	auditBuffer   = 1024 // records that wait for the sink
	maxAuditField = 1024 // bytes of what a caller chose
)

// AuditLog writes down who was given or refused which token, as lines of JSON on a
// sink of its own. Requests never wait for it: what the sink is too slow for is
// dropped and counted.
type AuditLog struct {
	sink    io.Writer
	records chan record
	counts  *prometheus.CounterVec
}

// NewAuditLog makes one that writes nothing until [AuditLog.Run] runs.
func NewAuditLog(sink io.Writer) *AuditLog {
	return &AuditLog{sink: sink, records: make(chan record, auditBuffer)}
}

// Run writes until ctx ends, and then what is waiting.
func (l *AuditLog) Run(ctx context.Context) {
	for {
		select {
		case r := <-l.records:
			l.write(r)
			continue
		default:
		}
		select {
		case r := <-l.records:
			l.write(r)
		case <-ctx.Done():
			if len(l.records) == 0 {
				return
			}
		}
	}
}

func (l *AuditLog) write(r record) {
	line, err := json.Marshal(r.line())
	if err == nil {
		_, err = l.sink.Write(append(line, '\n'))
	}
	l.count("written", err)
}

func (l *AuditLog) count(result string, err error) {
	if err != nil {
		result = "failed"
	}
	l.counts.WithLabelValues(result).Inc()
}

// audited is the outermost [Source]: all that workloads get or do not get goes by.
type audited struct {
	next Source
	log  *AuditLog
	now  func() time.Time
}

// AccessToken implements [Source].
func (a audited) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	token, err := a.next.AccessToken(ctx, w, scopes)
	a.note(record{at: a.now(), w: w, scopes: scopes, token: token, err: err})
	return token, err
}

// IDToken implements [Source].
func (a audited) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	token, err := a.next.IDToken(ctx, w, request)
	a.note(record{at: a.now(), w: w, audience: request.Audience, id: true, token: token, err: err})
	return token, err
}

func (a audited) note(r record) {
	select {
	case a.log.records <- r:
	default:
		a.log.count("dropped", nil)
	}
}

// record is a request and its outcome, as they are; the hash and the text are made
// where nobody waits for them.
type record struct {
	at       time.Time
	w        identity.Workload
	scopes   Scopes
	audience string
	id       bool
	token    Token
	err      error
}

// auditLine is a record on the sink; docs/tokens.md explains the fields.
type auditLine struct {
	Time          string   `json:"time"`
	Namespace     string   `json:"namespace"`
	Pod           string   `json:"pod"`
	PodUID        string   `json:"podUID"`
	KSA           string   `json:"ksa"`
	GSA           string   `json:"gsa,omitempty"`
	Delegates     string   `json:"delegates,omitempty"`
	Request       string   `json:"request"`
	Scopes        []string `json:"scopes,omitempty"`
	GrantedScopes string   `json:"grantedScopes,omitempty"`
	Audience      string   `json:"audience,omitempty"`
	Source        string   `json:"source"`
	Outcome       string   `json:"outcome"`
	Decision      string   `json:"decision,omitempty"`
	Message       string   `json:"message,omitempty"`
	Token         string   `json:"tokenSHA256,omitempty"`
	Expires       string   `json:"expires,omitempty"`
	Principal     string   `json:"principal,omitempty"`
	CredentialID  string   `json:"credentialID,omitempty"`
	GSAUniqueID   string   `json:"gsaUniqueID,omitempty"`
}

func (r record) line() auditLine {
	l := auditLine{
		Time: r.at.UTC().Format(time.RFC3339Nano), Namespace: r.w.Pod.Namespace, Pod: r.w.Pod.Name, PodUID: r.w.Pod.UID,
		KSA: r.w.KSA.Namespace + "/" + r.w.KSA.Name, GSA: r.w.GSA, Delegates: r.w.Delegates,
		Request: "accessToken", Source: "mint", Outcome: "ok",
	}
	for _, scope := range r.scopes {
		l.Scopes = append(l.Scopes, bounded(scope))
	}
	if r.id {
		l.Request, l.Audience = "idToken", bounded(r.audience)
	}
	if r.token.cached {
		l.Source = "cache"
	}
	if r.err != nil {
		return l.failed(r.err)
	}
	sum := sha256.Sum256([]byte(r.token.Value()))
	l.Token, l.Expires = hex.EncodeToString(sum[:6]), r.token.Expiry.UTC().Format(time.RFC3339)
	if o := r.token.origin; o != nil {
		l.Decision, l.GrantedScopes, l.Principal, l.CredentialID, l.GSAUniqueID = o.Why, o.Scopes, o.Principal, o.Credential, o.Account
	}
	return l
}

func (l auditLine) failed(err error) auditLine {
	l.Outcome, l.Message = string(kindOf(err)), bounded(err.Error())
	var e *Error
	if errors.As(err, &e) {
		l.Decision = e.why
		if e.cached {
			l.Source = "cache"
		}
	}
	return l
}

func bounded(text string) string {
	if len(text) > maxAuditField {
		return fmt.Sprintf("%s… (%d bytes)", text[:maxAuditField], len(text))
	}
	return text
}
