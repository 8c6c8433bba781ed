package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const schemaFile = "helm/values.schema.json"

// byChart are flags of serve that other values of the chart, or the pod, set.
var byChart = []string{"node-name", "kubeconfig", "startup-taint", "source-credentials", "attributes-file", "policy-file", "dmi-product-name", "dmi-original", "handover-file", "handover-key-file"}

var flagRow = regexp.MustCompile("(?m)^\\| `--([a-z0-9-]+)")

// schema is values.schema.json with the flags of serve as they are now. All are
// strings: a number as long as a project's would not survive YAML unquoted.
func schema(deploy string) (string, error) {
	document, err := os.ReadFile(filepath.Join(deploy, schemaFile))
	if err != nil {
		return "", err
	}
	var s map[string]any
	if err := json.Unmarshal(document, &s); err != nil {
		return "", err
	}
	flags, err := os.ReadFile(filepath.Join(deploy, "..", "docs", "flags.md"))
	if err != nil {
		return "", err
	}
	_, serve, found := strings.Cut(string(flags), "\n## serve\n")
	if !found {
		return "", fmt.Errorf("docs/flags.md has no section serve")
	}
	serve, _, _ = strings.Cut(serve, "\n## ")
	settings := map[string]any{}
	for _, row := range flagRow.FindAllStringSubmatch(serve, -1) {
		if !slices.Contains(byChart, row[1]) {
			settings[camel(row[1])] = map[string]any{"type": "string"}
		}
	}
	// It stands in an expression of the admission policies.
	settings["workloadIdentityProvider"].(map[string]any)["pattern"] = `^[^'"\\\s]*$`
	s["properties"].(map[string]any)["settings"].(map[string]any)["properties"] = settings
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(s)
	return b.String(), err
}

// camel is a flag as a value of the chart: projectId of project-id.
func camel(flag string) string {
	words := strings.Split(flag, "-")
	for i, word := range words[1:] {
		words[i+1] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "")
}
