package daemon

import (
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/server"
)

// front is where a metadata server is reached: by its callers, and by operators.
type front struct {
	callers, admin net.Listener
	leavesOutNode  bool // the metadata address does not lead here in the node's own network
}

func openFront(callers, admin string) (*front, error) {
	f := &front{}
	var err error
	if f.callers, err = listen("listen", callers); err != nil {
		return nil, err
	}
	if f.admin, err = listen("admin-listen", admin); err != nil {
		_ = f.callers.Close()
		return nil, err
	}
	return f, nil
}

// close is for what never served; a group closes what did.
func (f *front) close() {
	_ = f.callers.Close()
	_ = f.admin.Close()
}

// serve runs the server in the group, and tells listening, if it is not nil.
func (f *front) serve(g group, s *server.Server, registry *prometheus.Registry, instanceID string, ready func() error, listening func(callers, admin net.Addr)) {
	g.Go(func() error { return s.Serve(g.ctx, f.callers) })
	g.serveHTTP("admin server", f.admin, adminHandler(registry, f.readyText(instanceID), ready))
	if listening != nil {
		listening(f.callers.Addr(), f.admin.Addr())
	}
}

func (f *front) readyText(instanceID string) string {
	if f.leavesOutNode {
		return readyText(instanceID, "http://"+f.callers.Addr().String())
	}
	return readyText(instanceID, "")
}
