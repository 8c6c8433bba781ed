package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// documented returns the metrics of docs/metrics.md with their labels.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	document, err := os.ReadFile(filepath.Join(deploy, "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(gme_[a-z0-9_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(document), -1) {
		var labels []string
		for _, label := range strings.Split(row[3], ",") {
			labels = append(labels, strings.Trim(label, " `"))
		}
		all[row[1]] = labels
		if row[2] == "histogram" {
			all[row[1]+"_count"], all[row[1]+"_sum"], all[row[1]+"_bucket"] = labels, labels, append(slices.Clone(labels), "le")
		}
	}
	if len(all) < 15 {
		t.Fatalf("docs/metrics.md lists %d metrics", len(all))
	}
	return all
}

// The labels and metrics that Prometheus and its Go client add to each target.
var (
	labelsOfEveryTarget  = []string{model.MetricNameLabel, "instance", "job"}
	metricsOfEveryTarget = []string{"up", "process_resident_memory_bytes"}
)

// metricsOf checks an expression, and returns the metrics that it reads.
func metricsOf(t *testing.T, known map[string][]string, text string) (all []string) {
	t.Helper()
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return nil
	}
	parser.Inspect(expression, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		all = append(all, selector.Name)
		labels, found := known[selector.Name]
		if !found && !slices.Contains(metricsOfEveryTarget, selector.Name) {
			t.Errorf("%s: docs/metrics.md does not list %s", text, selector.Name)
		}
		used := labelsOf(path)
		for _, matcher := range selector.LabelMatchers {
			used = append(used, matcher.Name)
		}
		for _, label := range used {
			if !slices.Contains(labels, label) && !slices.Contains(labelsOfEveryTarget, label) {
				t.Errorf("%s: %s has no label %s", text, selector.Name, label)
			}
		}
		return nil
	})
	return all
}

// labelsOf returns the labels that the aggregations around a selector preserve.
func labelsOf(path []parser.Node) (all []string) {
	for _, node := range path {
		if aggregation, ok := node.(*parser.AggregateExpr); ok {
			all = append(all, aggregation.Grouping...)
		}
	}
	return all
}

func TestAlerts_ReadDocumentedMetrics(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(deploy, "helm", "monitoring", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(document, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	known, alerts := documented(t), 0
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			alerts++
			if len(metricsOf(t, known, rule.Expr)) == 0 {
				t.Errorf("%s reads no metric", rule.Alert)
			}
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s lacks a severity, a summary or a description", rule.Alert)
			}
		}
	}
	if alerts < 10 {
		t.Errorf("there are %d alerts", alerts)
	}
}

func TestDashboard_ReadsDocumentedMetrics(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(deploy, "helm", "monitoring", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal(document, &dashboard); err != nil {
		t.Fatal(err)
	}
	known := documented(t)
	for _, panel := range dashboard.Panels {
		if panel.Title == "" || len(panel.Targets) == 0 {
			t.Errorf("panel %q has no title or no query", panel.Title)
		}
		for _, target := range panel.Targets {
			if len(metricsOf(t, known, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))) == 0 {
				t.Errorf("%s: %q reads no metric", panel.Title, target.Expr)
			}
		}
	}
	if len(dashboard.Panels) < 10 {
		t.Errorf("there are %d panels", len(dashboard.Panels))
	}
	for _, variable := range dashboard.Templating.List {
		if metric, _, isQuery := strings.Cut(strings.TrimPrefix(variable.Query, "label_values("), ","); isQuery && known[metric] == nil {
			t.Errorf("the variable %s: docs/metrics.md does not list %s", variable.Name, metric)
		}
	}
}

// Kinds that a cluster can lack are rendered only if they are enabled.
func TestMonitoring_IsRenderedIfEnabled(t *testing.T) {
	for name, test := range map[string]struct {
		monitoring map[string]any
		kinds      []string
	}{
		"nothing":   {nil, nil},
		"labels":    {map[string]any{"labels": map[string]any{"release": "prometheus"}}, nil},
		"monitor":   {map[string]any{"serviceMonitor": true}, []string{"Service", "ServiceMonitor"}},
		"alerts":    {map[string]any{"alerts": true}, []string{"PrometheusRule"}},
		"dashboard": {map[string]any{"dashboard": true}, []string{"ConfigMap"}},
		"all":       {map[string]any{"serviceMonitor": true, "alerts": true, "dashboard": true}, []string{"Service", "ServiceMonitor", "PrometheusRule", "ConfigMap"}},
	} {
		t.Run(name, func(t *testing.T) {
			values := installations()["federation"]
			values["settings"].(map[string]any)["adminListen"] = "0.0.0.0:9090"
			values["monitoring"] = test.monitoring
			manifests, err := render(deploy, values)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for part := range strings.SplitSeq("\n"+manifests["monitoring.yaml"], "\n---\n") {
				var object struct {
					Kind string
					Spec struct {
						Ports  []struct{ Port int }
						Groups []any
					}
					Data map[string]string
				}
				if err := yaml.Unmarshal([]byte(part), &object); err != nil {
					t.Fatal(err)
				}
				if object.Kind == "" {
					continue
				}
				kinds = append(kinds, object.Kind)
				if object.Kind == "Service" && (len(object.Spec.Ports) != 1 || object.Spec.Ports[0].Port != 9090) {
					t.Errorf("the Service has the ports %v", object.Spec.Ports)
				}
				if object.Kind == "PrometheusRule" && len(object.Spec.Groups) != 1 {
					t.Errorf("the PrometheusRule has %d groups", len(object.Spec.Groups))
				}
				if object.Kind == "ConfigMap" && !json.Valid([]byte(object.Data["gke-metadata-emulator.json"])) {
					t.Error("the dashboard is not JSON")
				}
			}
			if !slices.Equal(kinds, test.kinds) {
				t.Errorf("rendered %v, want %v", kinds, test.kinds)
			}
		})
	}
}
