package facts

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"gke-metadata-emulator/internal/change"
	"gke-metadata-emulator/internal/filewatch"
	"gke-metadata-emulator/internal/principal"
	"gke-metadata-emulator/server"
)

// Options of [New].
type Options struct {
	ProjectID        string
	DottedProjectID  string // ProjectID as it occurs in host names
	NumericProjectID string
	Names            principal.Names // of the KSAs
	UniverseDomain   string
	ClusterName      string
	ClusterLocation  string
	ClusterUID       string // if empty, it is read by Cluster
	Node             string // name of the node

	// Zone of the node, as in "europe-west1-b".
	Zone string
	// ZoneFromNode reads the zone from the node's labels by Cluster. Zone is then
	// that of a node without such a label.
	ZoneFromNode bool

	// Cluster reads namespaces and nodes. Default: nothing is read.
	Cluster clusterReader

	// AttributesFile is read when it changes. Default: Attributes never change.
	AttributesFile string
	Attributes     Attributes

	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Facts are what the metadata server reports to every caller.
type Facts struct {
	changed    change.Signal
	cluster    *clusterFacts                  // nil if there is no cluster
	attributes *filewatch.Watcher[Attributes] // nil if there is no file

	mu      sync.Mutex
	current server.Facts
}

// New returns the facts that follow from the options. [Facts.Run] completes them.
func New(o Options) *Facts {
	f := &Facts{current: server.Facts{
		ProjectID: o.ProjectID, NumericProjectID: o.NumericProjectID, Names: o.Names, UniverseDomain: o.UniverseDomain,
		NodeName:    o.Node,
		InstanceID:  instanceID(o.ProjectID, o.ClusterName, o.ClusterLocation, o.Node),
		ClusterName: o.ClusterName, ClusterLocation: o.ClusterLocation, ClusterUID: o.ClusterUID,
	}}
	f.set(o.Attributes.apply)
	zone := zone{node: o.Node, dottedProjectID: o.DottedProjectID, fallback: o.Zone}
	if !o.ZoneFromNode {
		f.set(zone.apply(o.Zone))
	}
	if o.Cluster != nil {
		f.cluster = newClusterFacts(o, f, zone)
	}
	if o.AttributesFile != "" {
		f.attributes = newAttributesWatcher(o, f)
	}
	return f
}

// Get returns the facts as they are known now.
func (f *Facts) Get() server.Facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

// Changed returns a channel that the next change closes. Take it before Get, so
// that a change between the two is not missed.
func (f *Facts) Changed() <-chan struct{} { return f.changed.Next() }

// Run reads the facts that do not follow from the options until ctx ends, and
// returns nil then.
func (f *Facts) Run(ctx context.Context) error {
	var group errgroup.Group
	if f.cluster != nil {
		group.Go(func() error { f.cluster.run(ctx); return nil })
	}
	if f.attributes != nil {
		group.Go(func() error { return f.attributes.Run(ctx) })
	}
	return group.Wait()
}

// set changes the facts and wakes all who wait for a change.
func (f *Facts) set(change func(*server.Facts)) {
	f.mu.Lock()
	change(&f.current)
	f.mu.Unlock()
	f.changed.Raise()
}

// zone makes the facts about a node's zone.
type zone struct{ node, dottedProjectID, fallback string }

// apply returns the change of facts for the name of a zone. The host name is of
// Compute Engine's zonal form:
// https://docs.cloud.google.com/compute/docs/internal-dns#instance-fully-qualified-domain-names
func (z zone) apply(name string) func(*server.Facts) {
	return func(f *server.Facts) {
		f.Zone, f.Hostname = name, z.node+"."+name+".c."+z.dottedProjectID+".internal"
	}
}

// instanceID is a number like Compute Engine's, the same at every start.
func instanceID(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		sum.Write([]byte(strconv.Quote(part)))
	}
	return strconv.FormatUint(binary.BigEndian.Uint64(sum.Sum(nil))>>1|1<<62, 10)
}
