package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metadatafake "k8s.io/client-go/metadata/fake"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/identity/attest"
	"gke-metadata-emulator/internal/apiserver"
	"gke-metadata-emulator/internal/credential"
	"gke-metadata-emulator/internal/facts"
	"gke-metadata-emulator/internal/handover"
	"gke-metadata-emulator/internal/podevents"
	"gke-metadata-emulator/internal/prefetch"
	"gke-metadata-emulator/internal/startuptaint"
	"gke-metadata-emulator/routing"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// allMetrics returns the metrics of all components of [Serve], with a child of each
// vector: a vector without a child is not gathered.
func allMetrics(t *testing.T) *prometheus.Registry {
	t.Helper()
	r := withChildren{prometheus.NewRegistry()}
	if _, err := identity.NewKubernetes(identity.KubernetesOptions{
		Node: "node-1", Pods: &apiserver.Client{}, Metadata: metadatafake.NewSimpleMetadataClient(metadatafake.NewTestScheme()), Metrics: r,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := attest.New(attest.Options{Policy: attest.IP, Metrics: r}); err != nil {
		t.Fatal(err)
	}
	source, err := credential.Read(file(t, userCredential), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := tokens.New(tokens.Options{SourceCredential: source, Metrics: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	server.New(server.Options{Metrics: r})
	prefetch.New(prefetch.Options{Metrics: r})
	facts.New(facts.Options{Cluster: &apiserver.Client{}, AttributesFile: "attributes.yaml", Metrics: r})
	routing.NewRepaired(r)
	newModes(r)
	notifier, err := podevents.New(podevents.Options{Client: &apiserver.Client{}, Metrics: r, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, end := context.WithCancel(context.Background())
		end()
		_ = notifier.Run(ended)
	})
	startuptaint.New(startuptaint.Options{Client: &apiserver.Client{}, Metrics: r})
	handover.NewKeeper(handover.KeeperOptions{Engine: engine, Metrics: r})
	newRulesWatcher("", engine, r, discard)
	newSourceWatcher(source, nil, r, discard)
	return r.Registry
}

type withChildren struct{ *prometheus.Registry }

func (r withChildren) MustRegister(all ...prometheus.Collector) {
	r.Registry.MustRegister(all...)
	for _, collector := range all {
		switch vector := collector.(type) {
		case *prometheus.CounterVec:
			child(vector.GetMetricWithLabelValues)
		case *prometheus.GaugeVec:
			child(vector.GetMetricWithLabelValues)
		case *prometheus.HistogramVec:
			child(vector.GetMetricWithLabelValues)
		}
	}
}

// child creates a child of a vector. Only the right number of labels is no error.
func child[M any](get func(...string) (M, error)) {
	for values := make([]string, 0, 9); len(values) < cap(values); values = append(values, "") {
		if _, err := get(values...); err == nil {
			return
		}
	}
	panic("a vector has more than eight labels")
}

const metricsIntro = `# Metrics

The metrics at ` + "`/metrics`" + ` on ` + "`--admin-listen`" + `, besides the ` + "`go_`" + ` and ` + "`process_`" + ` metrics of every Go program.
The values of a label are a fixed set: none comes from a caller.

| Name | Type | Labels | Meaning |
|---|---|---|---|
`

func TestMetrics_DocumentIsUpToDate(t *testing.T) {
	families, err := allMetrics(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(metricsIntro)
	for _, family := range families {
		var labels []string
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+label.GetName()+"`")
		}
		if !strings.HasPrefix(family.GetName(), "gme_") || family.GetHelp() == "" {
			t.Errorf("the metric %q with the help %q has no prefix gme_ or no help", family.GetName(), family.GetHelp())
		}
		row := []string{"`" + family.GetName() + "`", strings.ToLower(family.GetType().String()), strings.Join(labels, ", "), family.GetHelp()}
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	document := filepath.Join("..", "..", "docs", "metrics.md")
	if *update {
		if err := os.WriteFile(document, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(want)); diff != "" {
		t.Errorf("docs/metrics.md is out of date (-code +document; -update writes it):\n%s", diff)
	}
}

// A metric that the constructors above do not register would be missing in the document.
func TestMetrics_AllInSourceAreRegistered(t *testing.T) {
	families, err := allMetrics(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var registered []string
	for _, family := range families {
		registered = append(registered, family.GetName())
	}
	for _, pattern := range []string{"*.go", "*/*.go", "*/*/*.go"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, quoted := range strings.Split(string(source), `"`) {
				if strings.HasPrefix(quoted, "gme_") && !slices.Contains(registered, quoted) {
					t.Errorf("%s: no constructor registers %s", file, quoted)
				}
			}
		}
	}
}
