package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// writeDelay is the time between a change and the write of the file, plus up to
	// as much at random: tokens tend to change many at a time.
	writeDelay = time.Second
	// Writes that fail are retried after minRetry, then less and less often down to
	// once in maxRetry, each plus up to as much at random.
	minRetry = 2 * writeDelay
	maxRetry = time.Minute
)

// engine owns the tokens that are handed over.
type engine interface {
	Snapshot(size int) []byte // of at most size bytes
	Restore(snapshot []byte) (restored int, err error)
	Fingerprint() []byte // of the settings under which a snapshot is valid
	Changed() <-chan struct{}
}

// sealedFile is a [File].
type sealedFile interface {
	Write(content, binding []byte) error
	Read(binding []byte) ([]byte, error)
}

// KeeperOptions are those of [NewKeeper]. All are required.
type KeeperOptions struct {
	File   sealedFile
	Engine engine
	// Owner identifies whose tokens are handed over, as far as the engine's settings
	// do not. An instance with another owner does not get them. It can change, like the
	// engine's fingerprint.
	Owner   func() string
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Keeper keeps the file up to date with the engine, so that the next instance finds the
// tokens even if this one is killed.
type Keeper struct {
	file   sealedFile
	engine engine
	owner  func() string
	reads  *prometheus.CounterVec
	writes *prometheus.CounterVec
	log    *slog.Logger

	// failure is why the last write failed; empty if it did not. Run uses it, and
	// Close after Run has returned.
	failure string
}

// NewKeeper returns a keeper that does nothing until its methods are called: Restore,
// then Run, then Close.
func NewKeeper(o KeeperOptions) *Keeper {
	k := &Keeper{file: o.File, engine: o.Engine, owner: o.Owner, log: o.Log, reads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_handover_reads_total",
		Help: "Reads of --handover-file when the daemon starts, by result: restored (its tokens are used), none (there is no file), or refused (written with another key or other settings, too old, or damaged).",
	}, []string{"result"}), writes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_handover_writes_total",
		Help: "Writes of --handover-file, after tokens have changed and at the end, by result: written, or failed (it is retried).",
	}, []string{"result"})}
	o.Metrics.MustRegister(k.reads, k.writes)
	return k
}

// Restore gives the engine the tokens of the previous instance, if there are any. An
// unusable file is only logged: the daemon then starts without tokens.
func (k *Keeper) Restore() {
	snapshot, err := k.file.Read(k.binding())
	var restored int
	if err == nil {
		restored, err = k.engine.Restore(snapshot)
	}
	switch {
	case err == nil:
		k.reads.WithLabelValues("restored").Inc()
		k.log.Info("restored the tokens of the previous instance", "tokens", restored)
	case errors.Is(err, fs.ErrNotExist):
		k.reads.WithLabelValues("none").Inc()
		k.log.Info("no previous instance has left tokens")
	default:
		k.reads.WithLabelValues("refused").Inc()
		k.log.Warn("the tokens of the previous instance are not used", "error", err)
	}
}

// Run writes the file after each change until ctx ends, and returns nil then. A process
// that is killed has no time to write.
func (k *Keeper) Run(ctx context.Context) error {
	retry := newRetry()
	for {
		changed := k.engine.Changed() // taken before the write, so that no change is missed
		delay := wait.Jitter(writeDelay, 1)
		if k.write() == nil {
			retry = newRetry()
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		} else {
			delay = retry.Step()
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil
		}
	}
}

func newRetry() wait.Backoff {
	return wait.Backoff{Duration: minRetry, Factor: 2, Jitter: 1, Steps: 6, Cap: maxRetry}
}

// Close writes the file a last time. Run must have returned.
func (k *Keeper) Close() error { return k.write() }

func (k *Keeper) write() error {
	// The binding is taken before the snapshot: if it changes in between, the file is
	// useless until the next write rather than valid under the wrong settings.
	binding := k.binding()
	err := k.file.Write(k.engine.Snapshot(MaxSize), binding)
	if err == nil {
		k.writes.WithLabelValues("written").Inc()
		k.failure = ""
		return nil
	}
	k.writes.WithLabelValues("failed").Inc()
	if k.failure != err.Error() {
		k.failure = err.Error()
		k.log.Warn("cannot write the tokens for the next instance", "error", err)
	}
	return err
}

func (k *Keeper) binding() []byte {
	return fmt.Appendf(nil, "%s %s", k.owner(), k.engine.Fingerprint())
}
