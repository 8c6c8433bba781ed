package daemon

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"

	"gke-metadata-emulator/internal/change"
	"gke-metadata-emulator/server"
)

// facts are what the metadata server tells everybody. Some are learnt while it runs.
type facts struct {
	changed change.Signal

	mu  sync.Mutex
	now server.Facts
}

func (f *facts) get() server.Facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// learn wakes everybody who waits for a change.
func (f *facts) learn(set func(*server.Facts)) {
	f.mu.Lock()
	set(&f.now)
	f.mu.Unlock()
	f.changed.Raise()
}

// facts are what the settings say of a node.
func (p Project) facts(node string) *facts {
	f := &facts{now: server.Facts{
		ProjectID: p.ID, NumericProjectID: p.Number, WorkloadPool: p.WorkloadPool, UniverseDomain: p.UniverseDomain,
		InstanceID:  instanceID(p.ID, p.ClusterName, p.ClusterLocation, node),
		ClusterName: p.ClusterName, ClusterLocation: p.ClusterLocation,
	}}
	p.attributes.tell(&f.now)
	if p.zoneGiven {
		f.now.Zone, f.now.Hostname = p.Zone, p.hostname(node, p.Zone)
	}
	return f
}

// hostname is of Compute Engine's zonal form.
func (p Project) hostname(node, zone string) string {
	return node + "." + zone + ".c." + p.dotted() + ".internal"
}

// dotted is the project's ID as it stands in names: example.com:proj, a project of
// a domain, is proj.example.com there.
func (p Project) dotted() string {
	if domain, id, scoped := strings.Cut(p.ID, ":"); scoped {
		return id + "." + domain
	}
	return p.ID
}

// instanceID is a number like Compute Engine's, the same at every start.
func instanceID(of ...string) string {
	sum := sha256.New()
	for _, part := range of {
		sum.Write([]byte(strconv.Quote(part)))
	}
	return strconv.FormatUint(binary.BigEndian.Uint64(sum.Sum(nil))>>1|1<<62, 10)
}
