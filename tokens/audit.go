package tokens

import (
	"bytes"
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
	auditBuffer   = 1024 // records that can wait for the sink
	maxAuditField = 1024 // bytes of a field that the caller controls
	maxAuditWrite = 4096 // bytes of a write of several lines: PIPE_BUF, so pipe(7) never splits it
)

// AuditLog records every token that is given or refused, as lines of JSON on a sink of its
// own. Requests never wait for it: if the sink is too slow, records are dropped and
// counted.
type AuditLog struct {
	sink    io.Writer
	records chan record
	counts  *prometheus.CounterVec
}

// NewAuditLog returns a log that writes nothing until [AuditLog.Run] runs.
func NewAuditLog(sink io.Writer) *AuditLog {
	return &AuditLog{sink: sink, records: make(chan record, auditBuffer)}
}

// Run writes records until ctx ends, and then those that are waiting. Records that wait
// at the same time share a write.
func (l *AuditLog) Run(ctx context.Context) {
	var batch auditBatch
	for {
		select {
		case r := <-l.records:
			l.add(&batch, r)
			continue
		default:
		}
		l.write(&batch)
		select {
		case r := <-l.records:
			l.add(&batch, r)
		case <-ctx.Done():
			if len(l.records) == 0 {
				return
			}
		}
	}
}

// auditBatch holds the lines of the next write.
type auditBatch struct {
	text  bytes.Buffer
	lines int
}

func (l *AuditLog) add(b *auditBatch, r record) {
	line, err := json.Marshal(r.line())
	if err != nil {
		l.count("failed", 1)
		return
	}
	if b.text.Len()+len(line)+1 > maxAuditWrite {
		l.write(b)
	}
	b.text.Write(append(line, '\n'))
	b.lines++
}

func (l *AuditLog) write(b *auditBatch) {
	if b.lines == 0 {
		return
	}
	result := "written"
	if _, err := l.sink.Write(b.text.Bytes()); err != nil {
		result = "failed"
	}
	l.count(result, b.lines)
	b.text.Reset()
	b.lines = 0
}

func (l *AuditLog) count(result string, records int) {
	l.counts.WithLabelValues(result).Add(float64(records))
}

// audited is the outermost [Source], which all requests pass.
type audited struct {
	next Source
	log  *AuditLog
	now  func() time.Time
}

// AccessToken implements [Source].
func (a audited) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	token, err := a.next.AccessToken(ctx, w, scopes)
	a.record(record{at: a.now(), workload: w, scopes: scopes, token: token, err: err})
	return token, err
}

// IDToken implements [Source].
func (a audited) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	token, err := a.next.IDToken(ctx, w, request)
	a.record(record{at: a.now(), workload: w, audience: request.Audience, id: true, token: token, err: err})
	return token, err
}

func (a audited) record(r record) {
	select {
	case a.log.records <- r:
	default:
		a.log.count("dropped", 1)
	}
}

// record is a request and its outcome. [AuditLog.Run] computes the hash and the text, so
// no request waits for them.
type record struct {
	at       time.Time
	workload identity.Workload
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
		Time: r.at.UTC().Format(time.RFC3339Nano), Namespace: r.workload.Pod.Namespace, Pod: r.workload.Pod.Name, PodUID: r.workload.Pod.UID,
		KSA: r.workload.KSA.Namespace + "/" + r.workload.KSA.Name, GSA: r.workload.GSA, Delegates: r.workload.Delegates,
		Request: "accessToken", Source: "mint", Outcome: "ok",
	}
	for _, scope := range r.scopes {
		l.Scopes = append(l.Scopes, truncated(scope))
	}
	if r.id {
		l.Request, l.Audience = "idToken", truncated(r.audience)
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
		l.Decision, l.GrantedScopes, l.Principal, l.CredentialID, l.GSAUniqueID = o.Decision, o.GrantedScopes, o.Principal, o.CredentialID, o.GSAUniqueID
	}
	return l
}

func (l auditLine) failed(err error) auditLine {
	l.Outcome, l.Message = string(kindOf(err)), truncated(err.Error())
	var e *Error
	if errors.As(err, &e) {
		l.Decision = e.decision
		if e.cached {
			l.Source = "cache"
		}
	}
	return l
}

func truncated(text string) string {
	if len(text) > maxAuditField {
		return fmt.Sprintf("%s… (%d bytes)", text[:maxAuditField], len(text))
	}
	return text
}
