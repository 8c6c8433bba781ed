package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	tableBegins = "<!-- made from deploy/helm/values.yaml -->\n"
	tableEnds   = "<!-- end -->\n"
)

// document returns docs/install.md with the current values of the chart.
func document(deploy string) (string, error) {
	text, err := os.ReadFile(filepath.Join(deploy, "..", "docs", "install.md"))
	if err != nil {
		return "", err
	}
	before, rest, begins := strings.Cut(string(text), tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		return "", fmt.Errorf("docs/install.md lacks %q and %q", tableBegins, tableEnds)
	}
	values, err := os.ReadFile(filepath.Join(deploy, "helm", "values.yaml"))
	if err != nil {
		return "", err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(values, &root); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("| Value | Default | Meaning |\n|---|---|---|\n")
	if err := rows(&b, "", root.Content[0]); err != nil {
		return "", err
	}
	return before + tableBegins + b.String() + tableEnds + after, nil
}

// rows writes a row for each value that a comment explains.
func rows(b *strings.Builder, prefix string, mapping *yaml.Node) error {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		name := prefix + key.Value
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && value.Content[0].HeadComment != "" {
			if err := rows(b, name+".", value); err != nil {
				return err
			}
			continue
		}
		var meaning []string
		for line := range strings.SplitSeq(key.HeadComment, "\n") {
			meaning = append(meaning, strings.TrimSpace(strings.TrimPrefix(line, "#")))
		}
		if key.HeadComment == "" {
			return fmt.Errorf("values.yaml, line %d: no comment explains %s", key.Line, name)
		}
		var decoded any
		if err := value.Decode(&decoded); err != nil {
			return err
		}
		shown, err := json.Marshal(decoded)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", name, shown, strings.Join(meaning, " "))
	}
	return nil
}
