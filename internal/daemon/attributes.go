package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/wait"

	"gke-metadata-emulator/server"
)

// The bounds of Compute Engine; see "Set and remove custom metadata" in Google's
// documentation.
const (
	maxAttributes     = 512 << 10 // bytes of the file
	maxAttributeValue = 256 << 10 // bytes
)

// attributesPeriod is how often the file is looked at, give or take the half.
// A mounted ConfigMap is a minute late by itself.
const attributesPeriod = 2 * time.Second

var (
	attributeName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	ownAttributes = []string{"cluster-location", "cluster-name", "cluster-uid"}
)

// attributes are what the operator adds to instance/attributes/ and
// project/attributes/. The zero value is none.
type attributes struct {
	instance, project map[string]string
}

// tell makes them facts.
func (a attributes) tell(f *server.Facts) {
	f.InstanceAttributes, f.ProjectAttributes = a.instance, a.project
}

// parseAttributes reads the file's document. Errors name the line.
func parseAttributes(document []byte) (attributes, error) {
	var file struct {
		Instance struct{ Attributes yaml.Node } `yaml:"instance"`
		Project  struct{ Attributes yaml.Node } `yaml:"project"`
	}
	if len(document) > maxAttributes {
		return attributes{}, fmt.Errorf("it is larger than %d bytes", maxAttributes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(document))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) { // EOF: it is empty
		return attributes{}, err
	}
	instance, err := attributesOf(&file.Instance.Attributes, ownAttributes...)
	if err != nil {
		return attributes{}, err
	}
	project, err := attributesOf(&file.Project.Attributes)
	return attributes{instance, project}, err
}

func attributesOf(node *yaml.Node, own ...string) (map[string]string, error) {
	if node.Kind == 0 || node.Tag == "!!null" {
		return nil, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: attributes are names with their values", node.Line)
	}
	of := map[string]string{}
	for pair := range slices.Chunk(node.Content, 2) {
		name, value := pair[0], pair[1]
		_, twice := of[name.Value]
		switch {
		case len(name.Value) > 128 || !attributeName.MatchString(name.Value):
			return nil, fmt.Errorf("line %d: the name %q is not of 1 to 128 letters, digits, - and _", name.Line, name.Value)
		case slices.Contains(own, name.Value):
			return nil, fmt.Errorf("line %d: %s has its value from elsewhere, leave it out", name.Line, name.Value)
		case twice:
			return nil, fmt.Errorf("line %d: %s is here a second time", name.Line, name.Value)
		case value.Kind != yaml.ScalarNode || value.Tag == "!!null":
			return nil, fmt.Errorf("line %d: the value of %s is not a text", value.Line, name.Value)
		case len(value.Value) > maxAttributeValue:
			return nil, fmt.Errorf("line %d: the value of %s is longer than %d bytes", value.Line, name.Value, maxAttributeValue)
		}
		of[name.Value] = value.Value
	}
	return of, nil
}

func (p *Project) readAttributes() error {
	if p.AttributesFile == "" {
		return nil
	}
	document, err := readFile("attributes-file", p.AttributesFile)
	if err != nil {
		return err
	}
	if p.attributes, err = parseAttributes(document); err != nil {
		return wrong("attributes-file", "see docs/attributes.md", "%s: %v", p.AttributesFile, err)
	}
	return nil
}

// reloadAttributes looks at the file for as long as the group runs.
func (p *Project) reloadAttributes(g group, facts *facts, registry prometheus.Registerer, log *slog.Logger) {
	if p.AttributesFile == "" {
		return
	}
	r := newAttributesReloader(p.AttributesFile, p.attributes, facts, registry, log)
	g.Go(func() error {
		wait.JitterUntilWithContext(g.ctx, func(context.Context) { r.look() }, attributesPeriod, 0.5, true)
		return nil
	})
}

// attributesReloader takes over what the file says. Where it is wrong what it said
// before is kept.
type attributesReloader struct {
	file   string
	facts  *facts
	log    *slog.Logger
	loads  *prometheus.CounterVec
	now    attributes
	reason string // why the file as it is now is refused
}

func newAttributesReloader(file string, now attributes, facts *facts, registry prometheus.Registerer, log *slog.Logger) *attributesReloader {
	r := &attributesReloader{file: file, now: now, facts: facts, log: log, loads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_attributes_changes_total",
		Help: "Changes of --attributes-file, by result: taken, or refused (what it said before is kept).",
	}, []string{"result"})}
	registry.MustRegister(r.loads)
	return r
}

func (r *attributesReloader) look() {
	document, err := os.ReadFile(r.file)
	var read attributes
	if err == nil {
		read, err = parseAttributes(document)
	}
	switch {
	case err != nil && err.Error() != r.reason:
		r.reason = err.Error()
		r.loads.WithLabelValues("refused").Inc()
		r.log.Error("the file of attributes is refused, what it said before is kept", "file", r.file, "error", err)
	case err == nil:
		r.reason = ""
		if maps.Equal(read.instance, r.now.instance) && maps.Equal(read.project, r.now.project) {
			return
		}
		r.now = read
		r.loads.WithLabelValues("taken").Inc()
		r.log.Info("the file of attributes has changed", "file", r.file, "instance", len(read.instance), "project", len(read.project))
		r.facts.learn(read.tell)
	}
}
