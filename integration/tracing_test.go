package integration

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
)

// A mint is one trace with a span for each call to Google. A cached token has no trace.
func TestTracing_MintHasASpanForEachCall(t *testing.T) {
	batches := make(chan []byte, 16)
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		batches <- body
	}))
	t.Cleanup(sink.Close)
	n := startNode(t, func(s *config.Serve) { s.Tracing.OTLPEndpoint = sink.URL }).ready(t)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	n.link(ns, "app", writer)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	for range 3 {
		app.grant()
	}
	n.stop()     // sends the remaining spans
	sink.Close() // waits for requests that the daemon gave up
	close(batches)

	parents, names := map[string]string{}, map[string]string{} // by span
	for batch := range batches {
		if bytes.Contains(batch, []byte("ya29.")) || bytes.Contains(batch, []byte("eyJ")) {
			t.Error("a token is in a trace")
		}
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(batch, &request); err != nil {
			t.Fatal(err)
		}
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					parents[string(span.SpanId)], names[string(span.SpanId)] = string(span.ParentSpanId), span.Name
				}
			}
		}
	}
	mints, calls := 0, 0
	for id, name := range names {
		switch {
		case name == "mint access token":
			mints++
		case strings.HasPrefix(name, "POST "):
			if calls++; parents[id] == "" {
				t.Errorf("%s is part of no mint", name)
			}
		}
	}
	if mints != 1 || calls < 1 {
		t.Errorf("%d mints and %d calls are traced, of %v", mints, calls, names)
	}
}
