package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/tokens"
)

func TestPolicy_ChartAgreesWithDaemon(t *testing.T) {
	for name, test := range map[string]struct {
		document string
		text     string // of the chart's refusal; empty: accepted
	}{
		"all keys": {`
allow:
- ksa: ci/builder
  gsas: [builder@my-project.iam.gserviceaccount.com]
- ksa: ci/*
  gsas: [other@my-project.iam.gserviceaccount.com]
limits:
- namespace: ci
  gsas: ["*@my-project.iam.gserviceaccount.com"]
  scopes: [https://www.googleapis.com/auth/devstorage.read_only]
  maxLife: 15m
- namespace: "*"
  gsas: []
`, ""},
		"no KSA may use a GSA":     {"allow: []", ""},
		"wrong key":                {"rules: []", "at '/policy': additional properties 'rules' not allowed"},
		"wrong key of a rule":      {"allow: [{ksa: a/b, gsa: [a@my-project.iam.gserviceaccount.com]}]", "additional properties 'gsa' not allowed"},
		"wrong key of a limit":     {"limits: [{namespace: a, maxLifetime: 15m}]", "additional properties 'maxLifetime' not allowed"},
		"text for a list":          {"allow: [{ksa: a/b, gsas: a@my-project.iam.gserviceaccount.com}]", "at '/policy/allow/0/gsas': got string, want array"},
		"mapping for a list":       {"allow: {ksa: a/b}", "at '/policy/allow': got object, want array"},
		"rule without a GSA":       {"allow: [{ksa: a/b}]", "at '/policy/allow/0': missing property 'gsas'"},
		"KSA without a namespace":  {"allow: [{ksa: b, gsas: [a@my-project.iam.gserviceaccount.com]}]", "at '/policy/allow/0/ksa': 'b' does not match"},
		"limit without namespace":  {"limits: [{maxLife: 15m}]", "at '/policy/limits/0': missing property 'namespace'"},
		"namespace with a pattern": {"limits: [{namespace: ci-*, maxLife: 15m}]", "at '/policy/limits/0/namespace': 'ci-*' does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			var policy object
			if err := yaml.Unmarshal([]byte(test.document), &policy); err != nil {
				t.Fatal(err)
			}
			if _, err := tokens.ParseRules([]byte(test.document)); (err == nil) != (test.text == "") {
				t.Errorf("the daemon's error is %v", err)
			}
			manifests, err := render(deploy, withValues("federation", object{"policy": policy}))
			if test.text != "" {
				if err == nil || !strings.Contains(err.Error(), test.text) {
					t.Errorf("the error is %v, want one that contains %q", err, test.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var files corev1.ConfigMap
			if err := yaml.UnmarshalStrict([]byte(manifests["files.yaml"]), &files); err != nil {
				t.Fatal(err)
			}
			if _, err := tokens.ParseRules([]byte(files.Data["policy.yaml"])); err != nil {
				t.Errorf("the daemon refuses the rendered policy: %v", err)
			}
		})
	}
}
