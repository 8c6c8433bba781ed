package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"

	"gke-metadata-emulator/internal/handover"
)

const (
	// UsualHandoverFile is where the chart has the daemon leave its tokens.
	UsualHandoverFile = "/run/gke-metadata-emulator/handover"

	handoverAge   = 2 * time.Hour // by then all tokens have expired
	handoverPause = time.Second   // up to twice as long after a change; it grows while writing fails
	handoverRetry = time.Minute   // to at most
)

// checkHandover returns a [*FlagError] for half of what is needed.
func (s *Serve) checkHandover() error {
	switch {
	case s.HandoverFile == "" && s.HandoverKeyFile == "":
		return nil
	case s.HandoverFile == "":
		return wrong("handover-file", "give one on a tmpfs, like "+UsualHandoverFile, "is needed with --handover-key-file")
	case s.HandoverKeyFile == "":
		return wrong("handover-key-file", "make one by 'head -c 32 /dev/urandom'", "is needed with --handover-file")
	case s.Credentials == Fake:
		return wrong("handover-file", "leave it out", "contradicts --credentials=fake, whose Google forgets its tokens with the daemon")
	}
	return wholePath("handover-file", s.HandoverFile)
}

func wholePath(flag, path string) error {
	if !filepath.IsAbs(path) {
		return wrong(flag, "give a whole path, like "+UsualHandoverFile, "%q is not one", path)
	}
	return nil
}

// openHandover reads the key; nil where nothing is to be handed over.
func (s *Serve) openHandover() (*handover.File, error) {
	if s.HandoverFile == "" {
		return nil, nil
	}
	key, err := readFile("handover-key-file", s.HandoverKeyFile)
	if err != nil {
		return nil, err
	}
	file, err := handover.New(s.HandoverFile, key, handoverAge, time.Now)
	if errors.Is(err, handover.ErrShortKey) {
		return nil, wrong("handover-key-file", "make one by 'head -c 32 /dev/urandom'", "%s holds %d bytes: %v", s.HandoverKeyFile, len(key), err)
	} else if err != nil {
		return nil, wrong("handover-file", "give one on a tmpfs, like "+UsualHandoverFile+": tokens must touch no disk", "%v", err)
	}
	return file, nil
}

// handOver gives the engine the tokens of the instance before this one, and keeps the
// file as they are for as long as the group runs. The caller calls last at the end.
func (s *Serve) handOver(g group, file *handover.File, engine handedEngine, registry prometheus.Registerer, log *slog.Logger) (last func()) {
	if file == nil {
		return func() {}
	}
	h := newHandingOver(file, engine, s.holder(), registry, log)
	h.restore()
	g.Go(func() error { h.run(g.ctx); return nil })
	return func() { _ = h.write() }
}

// holder is whose tokens they are: the node's, and what the engine's terms leave open.
func (s *Serve) holder() string {
	var credential []byte
	if s.Credentials == Impersonation {
		credential, _ = os.ReadFile(sourceCredentialFile(s.SourceCredentials)) // which has been read before
	}
	return fmt.Sprintf("%q %x", s.NodeName, sha256.Sum256(credential))
}

type handedEngine interface {
	Snapshot(size int) []byte
	Restore(snapshot []byte) (restored int, err error)
	Fingerprint() []byte
	Changed() <-chan struct{}
}

type handedFile interface {
	Write(content, binding []byte) error
	Read(binding []byte) ([]byte, error)
}

// handingOver brings the tokens from one instance to the next.
type handingOver struct {
	file   handedFile
	engine handedEngine
	holder string
	reads  *prometheus.CounterVec
	writes *prometheus.CounterVec
	log    *slog.Logger
	reason string // why it could not be written, which is said once
}

func newHandingOver(file handedFile, engine handedEngine, holder string, registry prometheus.Registerer, log *slog.Logger) *handingOver {
	h := &handingOver{file: file, engine: engine, holder: holder, log: log, reads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_handover_reads_total",
		Help: "Looks at --handover-file when the daemon starts, by result: restored (its tokens are used), none (there is no file), or refused (of another key or other settings, too old, or damaged).",
	}, []string{"result"}), writes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_handover_writes_total",
		Help: "Writes of --handover-file, after tokens have changed and at the end, by result: written, or failed (it is tried again).",
	}, []string{"result"})}
	registry.MustRegister(h.reads, h.writes)
	return h
}

// restore never fails: without the file the daemon starts as it would have.
func (h *handingOver) restore() {
	snapshot, err := h.file.Read(h.binding())
	var restored int
	if err == nil {
		restored, err = h.engine.Restore(snapshot)
	}
	switch {
	case err == nil:
		h.reads.WithLabelValues("restored").Inc()
		h.log.Info("the tokens of the instance before are used", "tokens", restored)
	case errors.Is(err, fs.ErrNotExist):
		h.reads.WithLabelValues("none").Inc()
		h.log.Info("no instance before has left its tokens")
	default:
		h.reads.WithLabelValues("refused").Inc()
		h.log.Warn("the tokens of the instance before are not used", "error", err)
	}
}

// run writes the file after each change: who is killed has no time to.
func (h *handingOver) run(ctx context.Context) {
	pause := handoverPause
	for {
		changed := h.engine.Changed() // taken before the write, so that none is missed
		if h.write() == nil {
			pause = handoverPause
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		} else {
			pause = min(2*pause, handoverRetry)
		}
		select {
		case <-time.After(wait.Jitter(pause, 1)): // many tokens come at once
		case <-ctx.Done():
			return
		}
	}
}

func (h *handingOver) write() error {
	// The terms first: with what changes meanwhile it would not open, and it is written again.
	binding := h.binding()
	err := h.file.Write(h.engine.Snapshot(handover.MaxSize), binding)
	if err == nil {
		h.writes.WithLabelValues("written").Inc()
		h.reason = ""
		return nil
	}
	h.writes.WithLabelValues("failed").Inc()
	if h.reason != err.Error() {
		h.reason = err.Error()
		h.log.Warn("the tokens cannot be left to the next instance", "error", err)
	}
	return err
}

func (h *handingOver) binding() []byte {
	return fmt.Appendf(nil, "%s %s", h.holder, h.engine.Fingerprint())
}
