package attest

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Options configures an [Attestor].
type Options struct {
	Policy  Policy
	Cgroups *Cgroups  // can be nil with the policy ip
	Records *Recorder // nil: only clients in the node's own network can be proved
	Log     *slog.Logger
	Metrics prometheus.Registerer
}
