package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// rulesPeriod is how often the policy file is looked at, give or take the half.
const rulesPeriod = 2 * time.Second

// readLimits reads what the flags allow at most.
func (s *Serve) readLimits() (err error) {
	for _, delegate := range s.delegates() {
		if !identity.ValidGSA(delegate) {
			return wrong("delegates", "give e-mail addresses with commas between", "%q is not the e-mail address of a Google service account", delegate)
		}
	}
	if s.MaxTokenLife != 0 && (s.MaxTokenLife < tokens.MinTokenLife || s.MaxTokenLife > tokens.MaxTokenLife) {
		return wrong("max-token-life", "leave it out for what Google gives, an hour", "%s is not between %s and %s", s.MaxTokenLife, tokens.MinTokenLife, tokens.MaxTokenLife)
	}
	if s.limits, err = tokens.NewLimits(nil, commas(s.MaxScopes), s.MaxTokenLife); err != nil {
		return wrong("max-scopes", "give scopes with commas between, see docs/policy.md", "%v", err)
	}
	if s.limits, err = tokens.NewLimits(strings.Fields(s.NamespaceGSAs), commas(s.MaxScopes), s.MaxTokenLife); err != nil {
		return wrong("namespace-gsas", "give NAMESPACE=PATTERN,… with spaces between, see docs/policy.md", "%v", err)
	}
	return nil
}

// readRules reads what the file allows.
func (s *Serve) readRules() error {
	if s.PolicyFile == "" {
		return nil
	}
	document, err := readFile("policy-file", s.PolicyFile)
	if err != nil {
		return err
	}
	if s.rules, err = tokens.ParseRules(document); err != nil {
		return wrong("policy-file", "see docs/policy.md", "%s: %v", s.PolicyFile, err)
	}
	return nil
}

func (s *Serve) delegates() []string { return commas(s.Delegates) }

// commas are the parts of a list, nil where there are none.
func commas(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// reloadRules looks at the policy file for as long as the group runs.
func (s *Serve) reloadRules(g group, to rulesTaker, registry prometheus.Registerer, log *slog.Logger) {
	r := newRulesReloader(s.PolicyFile, to, registry, log)
	if s.PolicyFile == "" {
		return
	}
	g.Go(func() error {
		wait.JitterUntilWithContext(g.ctx, func(context.Context) { r.look() }, rulesPeriod, 0.5, true)
		return nil
	})
}

type rulesTaker interface{ SetRules(*tokens.Rules) }

// rulesReloader takes over what the file says. Where it is wrong what it said before
// is kept.
type rulesReloader struct {
	file  string
	to    rulesTaker
	log   *slog.Logger
	loads *prometheus.CounterVec

	document []byte // the one that holds; nil before the first look
	reason   string // why the file as it is now is refused
}

func newRulesReloader(file string, to rulesTaker, registry prometheus.Registerer, log *slog.Logger) *rulesReloader {
	r := &rulesReloader{file: file, to: to, log: log, loads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_policy_file_changes_total",
		Help: "Changes of --policy-file, by result: taken, or refused (what it said before is kept).",
	}, []string{"result"})}
	registry.MustRegister(r.loads)
	return r
}

func (r *rulesReloader) look() {
	document, err := os.ReadFile(r.file)
	var rules *tokens.Rules
	if err == nil {
		if r.document != nil && bytes.Equal(document, r.document) {
			r.reason = ""
			return
		}
		rules, err = tokens.ParseRules(document)
	}
	if err != nil {
		if err.Error() != r.reason {
			r.reason = err.Error()
			r.loads.WithLabelValues("refused").Inc()
			r.log.Error("the policy file is refused, what it said before is kept", "file", r.file, "error", err)
		}
		return
	}
	first := r.document == nil // it may have changed since the start
	r.document, r.reason = append([]byte{}, document...), ""
	r.to.SetRules(rules)
	if !first {
		r.loads.WithLabelValues("taken").Inc()
		r.log.Info("the policy file has changed", "file", r.file)
	}
}

// auditLog opens the sink and writes to it for as long as the group runs; nil where
// none is wanted.
func (s *Serve) auditLog(g group) (*tokens.AuditLog, error) {
	var sink io.Writer
	switch s.AuditLog {
	case "":
		return nil, nil
	case "-":
		sink = os.Stdout
	default:
		file, err := os.OpenFile(s.AuditLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, wrong("audit-log", "give the path of a file that can be written", "%v", err)
		}
		sink = file // for as long as the program lives
	}
	log := tokens.NewAuditLog(sink)
	g.Go(func() error { log.Run(g.ctx); return nil })
	return log, nil
}
