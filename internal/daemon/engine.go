package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/credential"
	"gke-metadata-emulator/internal/filewatch"
	"gke-metadata-emulator/internal/handover"
	"gke-metadata-emulator/internal/httpserver"
	"gke-metadata-emulator/internal/tracing"
	"gke-metadata-emulator/tokens"
)

// handoverAge is the age at which a hand-over file is useless: by then all its tokens
// have expired.
const handoverAge = 2 * time.Hour

// engineOptions are the token engine's, while they are completed.
type engineOptions struct {
	tokens.Options
	source *credential.Credential // nil without impersonation
}

// engineOptions are those that follow from settings and files, without the source of
// KSA tokens.
func (s serve) engineOptions(p *program) (*engineOptions, error) {
	rules, err := s.Policy.ReadRules()
	if err != nil {
		return nil, err
	}
	limits, err := s.Policy.Limits()
	if err != nil {
		return nil, err
	}
	o := &engineOptions{Options: tokens.Options{
		Names:                  s.Names(),
		IAMCredentialsEndpoint: s.Google.IAMCredentials, IAMEndpoint: s.Google.IAM,
		Limits: limits, Rules: rules, Delegates: s.Policy.DelegateChain(),
		HTTPClient: p.upstreamClient(), Log: p.log, Metrics: p.registry,
	}}
	if s.Credentials.Kind != config.Impersonation {
		o.federate(s.Provider, s.Project.WorkloadPool)
		o.Federation.STSEndpoint = s.Google.STS
		return o, s.trace(p, o)
	}
	if err := o.readSource(s.Credentials); err != nil {
		return nil, err
	}
	switch s.Policy.Impersonation {
	case config.PolicyOff:
		o.Policy = tokens.AllowAll{}
	case config.PolicyFile:
		o.RulesDecide = true
	}
	return o, s.trace(p, o)
}

// trace sends traces of mints to the collector of --otlp-endpoint.
func (s serve) trace(p *program, o *engineOptions) error {
	if s.Tracing.OTLPEndpoint == "" {
		return nil
	}
	t, err := tracing.New(p.ctx, s.Tracing.OTLPEndpoint, s.Node.Name, p.log)
	if err != nil {
		return err
	}
	p.onClose(func() { _ = t.Close() })
	o.HTTPClient.Transport = t.Transport(o.HTTPClient.Transport)
	o.Trace = t.Source
	return nil
}

// federate lets Google know the KSAs through the provider.
func (o *engineOptions) federate(provider config.Provider, workloadPool string) {
	o.Federation = &tokens.Federation{Provider: provider.Name}
	o.Federation.Audience, o.Federation.SubjectAudience = provider.Audiences(workloadPool)
}

// useFake points the engine at a Google all of whose services have one base URL.
func (o *engineOptions) useFake(url string) {
	o.Federation.STSEndpoint, o.IAMCredentialsEndpoint, o.IAMEndpoint = url, url, url
}

// setSubjects sets the source of KSA tokens, if the engine needs any.
func (o *engineOptions) setSubjects(s tokens.SubjectTokens) {
	if o.Federation != nil {
		o.Federation.Subjects = s
	}
}

// readSource reads the operator's credential for impersonation.
func (o *engineOptions) readSource(c config.Credentials) error {
	source, err := readCredential(c.Source, o.HTTPClient)
	if err != nil {
		return err
	}
	o.source, o.SourceCredential = source, source
	return nil
}

// readCredential reads the credential file of --source-credentials.
func readCredential(path string, client *http.Client) (*credential.Credential, error) {
	source, err := credential.Read(path, tokens.CloudPlatform, client)
	var unusable *credential.Error
	if errors.As(err, &unusable) {
		return nil, config.FlagErrorf("source-credentials", unusable.Remedy, "%s", unusable.Problem)
	}
	return source, err
}

// watchSource puts changes of the operator's credential into effect: that of a user has to
// be renewed by a login, daily in many organisations.
func (o *engineOptions) watchSource(p *program, engine *tokens.Engine) {
	if o.source != nil {
		p.run(newSourceWatcher(o.source, engine.SourceCredentialChanged, p.registry, p.log).Run)
	}
}

func newSourceWatcher(source *credential.Credential, changed func(), registry prometheus.Registerer, log *slog.Logger) *filewatch.Watcher[*credential.Content] {
	changes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_source_credential_changes_total",
		Help: "Changes of the file of --source-credentials, by result: taken, or refused (the previous content stays in effect).",
	}, []string{"result"})
	registry.MustRegister(changes)
	initial := source.Content()
	return filewatch.New(filewatch.Options[*credential.Content]{
		Path: source.Path, Title: "source credential", Initial: &initial,
		Parse: source.Parse, Equal: (*credential.Content).Equal,
		Take:    func(c *credential.Content) { source.Replace(c); changed() },
		Changes: changes, Log: log,
	})
}

// startFake serves the built-in fake Google and returns its base URL.
func (p *program) startFake(address string, google *fakegoogle.Server) (string, error) {
	listener, err := Listen("fake-listen", address)
	if err != nil {
		return "", err
	}
	p.run(func(ctx context.Context) error { return httpserver.Run(ctx, "fake Google", listener, google) })
	return "http://" + listener.Addr().(*net.TCPAddr).String(), nil
}

// startAuditLog opens --audit-log; nil if there is none.
func (s serve) startAuditLog(p *program) (*tokens.AuditLog, error) {
	var sink io.Writer
	switch s.Audit.Log {
	case "":
		return nil, nil
	case "-":
		sink = os.Stdout
	default:
		file, err := os.OpenFile(s.Audit.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, config.FlagErrorf("audit-log", "give the path of a file that can be written", "%v", err)
		}
		sink = file // never closed: it is used until the process ends
	}
	log := tokens.NewAuditLog(sink)
	p.run(func(ctx context.Context) error { log.Run(ctx); return nil })
	return log, nil
}

type rulesTaker interface{ SetRules(*tokens.Rules) }

// watchRules puts changes of --policy-file into effect.
func (s serve) watchRules(p *program, engine rulesTaker) {
	w := newRulesWatcher(s.Policy.File, engine, p.registry, p.log)
	if s.Policy.File != "" {
		p.run(w.Run)
	}
}

func newRulesWatcher(file string, engine rulesTaker, registry prometheus.Registerer, log *slog.Logger) *filewatch.Watcher[*tokens.Rules] {
	changes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_policy_file_changes_total",
		Help: "Changes of --policy-file, by result: taken, or refused (the previous content stays in effect).",
	}, []string{"result"})
	registry.MustRegister(changes)
	return filewatch.New(filewatch.Options[*tokens.Rules]{
		Path: file, Title: "policy file", Parse: tokens.ParseRules, Take: engine.SetRules, Changes: changes, Log: log,
	})
}

// openHandover reads the key and checks the folder; nil if nothing is handed over.
func (s serve) openHandover() (*handover.File, error) {
	if s.Handover.File == "" {
		return nil, nil
	}
	key, err := s.Handover.ReadKey()
	if err != nil {
		return nil, err
	}
	file, err := handover.New(s.Handover.File, key, handoverAge, time.Now)
	if errors.Is(err, handover.ErrShortKey) {
		return nil, config.FlagErrorf("handover-key-file", config.HandoverKeyRemedy, "%s holds %d bytes: %v", s.Handover.KeyFile, len(key), err)
	} else if err != nil {
		return nil, config.FlagErrorf("handover-file", "give one on a tmpfs, like "+config.StandardHandoverFile+": tokens must touch no disk", "%v", err)
	}
	return file, nil
}

// keepHandover gives the engine the tokens of the previous instance, and leaves its own
// to the next one.
func (s serve) keepHandover(p *program, file *handover.File, source *credential.Credential, engine *tokens.Engine) {
	if file == nil {
		return
	}
	keeper := handover.NewKeeper(handover.KeeperOptions{File: file, Engine: engine, Owner: s.handoverOwner(source), Metrics: p.registry, Log: p.log})
	keeper.Restore()
	p.onClose(func() { _ = keeper.Close() })
	p.run(keeper.Run)
}

// handoverOwner is the node, and the operator's credential in effect; source is nil without
// impersonation.
func (s serve) handoverOwner(source *credential.Credential) func() string {
	return func() string {
		digest := sha256.Sum256(nil)
		if source != nil {
			digest = source.Digest()
		}
		return fmt.Sprintf("%q %x", s.Node.Name, digest)
	}
}
