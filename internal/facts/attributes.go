package facts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"gke-metadata-emulator/internal/filewatch"
	"gke-metadata-emulator/server"
)

// Limits of Compute Engine, in bytes:
// https://docs.cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations
const (
	maxAttributesFile = 512 << 10
	maxAttributeValue = 256 << 10
)

var (
	attributeName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	unknownField  = regexp.MustCompile(`^(line \d+: )field (\S+) not found in type`)
	// derivedAttributes are instance attributes that other facts determine.
	derivedAttributes = []string{"cluster-location", "cluster-name", "cluster-uid"}
)

// Attributes are what the operator adds to instance/attributes/ and
// project/attributes/. The zero value has none.
type Attributes struct {
	instance, project map[string]string
}

// apply replaces the attributes of f.
func (a Attributes) apply(f *server.Facts) {
	f.InstanceAttributes, f.ProjectAttributes = a.instance, a.project
}

func (a Attributes) equal(b Attributes) bool {
	return maps.Equal(a.instance, b.instance) && maps.Equal(a.project, b.project)
}

// ParseAttributes parses the YAML document of an attributes file. Errors name the
// line, except for a document that is too large.
func ParseAttributes(document []byte) (Attributes, error) {
	var file struct {
		Instance struct{ Attributes yaml.Node } `yaml:"instance"`
		Project  struct{ Attributes yaml.Node } `yaml:"project"`
	}
	if len(document) > maxAttributesFile {
		return Attributes{}, fmt.Errorf("the file is larger than %d bytes", maxAttributesFile)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(document))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) { // EOF: the document is empty
		if wrong := (*yaml.TypeError)(nil); errors.As(err, &wrong) {
			err = errors.New(plain(wrong.Errors[0]))
		}
		return Attributes{}, err
	}
	instance, err := parseAttributeMap(&file.Instance.Attributes, derivedAttributes...)
	if err != nil {
		return Attributes{}, err
	}
	project, err := parseAttributeMap(&file.Project.Attributes)
	return Attributes{instance, project}, err
}

// plain is a text of the YAML library without types of Go.
func plain(text string) string {
	if m := unknownField.FindStringSubmatch(text); m != nil {
		return m[1] + "unknown field " + m[2]
	}
	if line, _, found := strings.Cut(text, "cannot unmarshal"); found {
		return line + `expected "instance: {attributes: {NAME: VALUE}}"`
	}
	return text
}

func parseAttributeMap(node *yaml.Node, reserved ...string) (map[string]string, error) {
	if node.Kind == 0 || node.Tag == "!!null" {
		return nil, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: attributes must be a mapping of names to values", node.Line)
	}
	attributes := map[string]string{}
	for pair := range slices.Chunk(node.Content, 2) {
		name, value := pair[0], pair[1]
		_, duplicate := attributes[name.Value]
		switch {
		case len(name.Value) > 128 || !attributeName.MatchString(name.Value):
			return nil, fmt.Errorf("line %d: the name %q does not consist of 1 to 128 letters, digits, - and _", name.Line, name.Value)
		case slices.Contains(reserved, name.Value):
			return nil, fmt.Errorf("line %d: %s is derived from other settings; remove it", name.Line, name.Value)
		case duplicate:
			return nil, fmt.Errorf("line %d: %s is a duplicate", name.Line, name.Value)
		case value.Kind != yaml.ScalarNode || value.Tag == "!!null":
			return nil, fmt.Errorf("line %d: the value of %s is not a string", value.Line, name.Value)
		case len(value.Value) > maxAttributeValue:
			return nil, fmt.Errorf("line %d: the value of %s is longer than %d bytes", value.Line, name.Value, maxAttributeValue)
		}
		attributes[name.Value] = value.Value
	}
	return attributes, nil
}

// newAttributesWatcher returns the watcher that puts changes of the file into effect.
func newAttributesWatcher(o Options, facts *Facts) *filewatch.Watcher[Attributes] {
	changes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_attributes_changes_total",
		Help: "Changes of --attributes-file, by result: taken, or refused (the previous content stays in effect).",
	}, []string{"result"})
	o.Metrics.MustRegister(changes)
	return filewatch.New(filewatch.Options[Attributes]{
		Path: o.AttributesFile, Title: "attributes file", Initial: &o.Attributes,
		Parse: ParseAttributes, Equal: Attributes.equal, Take: func(a Attributes) { facts.set(a.apply) },
		LogAttrs: func(a Attributes) []any { return []any{"instance", len(a.instance), "project", len(a.project)} },
		Changes:  changes, Log: o.Log,
	})
}
