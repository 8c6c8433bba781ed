package onprem

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	_ "github.com/prometheus/prometheus/discovery/kubernetes" // prometheus.yml uses it
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// documentedMetrics returns the metrics in docs/metrics.md with their labels.
func documentedMetrics(t *testing.T) map[string][]string {
	t.Helper()
	document, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{"up": nil} // Prometheus's own
	for _, row := range regexp.MustCompile("(?m)^\\| `(gme_[a-z0-9_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(document), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		if row[2] == "histogram" {
			all[row[1]+"_count"], all[row[1]+"_sum"] = labels, labels
			continue
		}
		all[row[1]] = labels
	}
	if len(all) < 15 {
		t.Fatalf("docs/metrics.md lists %d metrics, want at least 15", len(all))
	}
	return all
}

// Each alert uses only documented metrics and labels.
func TestAlerts_UseDocumentedMetrics(t *testing.T) {
	metrics := documentedMetrics(t)
	content, err := os.ReadFile("monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(content, false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.FailNow()
	}
	selectors := 0
	for _, rule := range groups.Groups[0].Rules {
		expression, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
		if err != nil {
			t.Errorf("%s: %v", rule.Alert, err)
			continue
		}
		for _, annotation := range []string{"summary", "description"} {
			if rule.Annotations[annotation] == "" {
				t.Errorf("%s has no %s", rule.Alert, annotation)
			}
		}
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			selector, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			selectors++
			labels, ok := metrics[selector.Name]
			if !ok {
				t.Errorf("%s: docs/metrics.md does not list %s", rule.Alert, selector.Name)
			}
			for _, matcher := range selector.LabelMatchers {
				if !slices.Contains(append([]string{model.MetricNameLabel, "job", "instance"}, labels...), matcher.Name) {
					t.Errorf("%s: %s has no label %s", rule.Alert, selector.Name, matcher.Name)
				}
			}
			return nil
		})
	}
	if selectors < 5 {
		t.Errorf("the alerts use %d series, want at least 5", selectors)
	}
}

func TestConfiguration_LoadsInPrometheus(t *testing.T) {
	loaded, err := config.LoadFile("monitoring/prometheus.yml", false, promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range loaded.RuleFiles {
		if files, err := filepath.Glob(pattern); err != nil || len(files) != 1 {
			t.Errorf("rule_files: %s matches %q, %v; want one file", pattern, files, err)
		}
	}
}

// The alerts select the scrape job by its name.
func TestAlerts_SelectConfiguredJob(t *testing.T) {
	loaded, err := config.LoadFile("monitoring/prometheus.yml", false, promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := os.ReadFile("monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	jobs := regexp.MustCompile(`job="([^"]*)"`).FindAllStringSubmatch(string(alerts), -1)
	if len(jobs) == 0 {
		t.Error("no alert names a job")
	}
	for _, job := range jobs {
		if !slices.ContainsFunc(loaded.ScrapeConfigs, func(c *config.ScrapeConfig) bool { return c.JobName == job[1] }) {
			t.Errorf("there is no scrape job %s", job[1])
		}
	}
}

// The image has the version of Prometheus that the tests use.
func TestImage_HasTestedVersion(t *testing.T) {
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`github.com/prometheus/prometheus v0\.([0-9])([0-9]{2})\.([0-9]+)`).FindSubmatch(module)
	if version == nil {
		t.Fatal("go.mod names no Prometheus")
	}
	want := "prom/prometheus:v" + string(version[1]) + "." + strings.TrimPrefix(string(version[2]), "0") + "." + string(version[3])
	manifest, err := os.ReadFile("monitoring/prometheus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(manifest), "image: "+want+"\n") {
		t.Errorf("prometheus.yaml does not have the image %s", want)
	}
	for document := range strings.SplitSeq(string(manifest), "\n---\n") {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Error(err)
		}
	}
}
