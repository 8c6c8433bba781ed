package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/tokens"
)

const schemaFile = "helm/values.schema.json"

// byChart has the flags of serve that are not settings of the chart, with the remedy. The
// schema permits them, because a refusal by the schema has no remedy; the template
// "validate" refuses them.
var byChart = map[string]string{
	"node-name":          "leave it out: the pod sets it",
	"kubeconfig":         "leave it out: the daemon uses its own service account",
	"startup-taint":      "set startupTaint.enabled and startupTaint.key",
	"source-credentials": "set sourceCredentials.secretName and sourceCredentials.key",
	"attributes-file":    "set attributes to the content of the file",
	"policy-file":        "set policy to the content of the file",
	"dmi-product-name":   "set dmi.enabled and dmi.productName",
	"dmi-original":       "set dmi.enabled",
	"handover-file":      "set handover.enabled",
	"handover-key-file":  "set handover.enabled and handover.keySecret",
}

// wholeNumber is the pattern of flags whose value YAML can also state as a number.
const wholeNumber = `^[1-9][0-9]*$`

// maxExactInteger is the largest integer that survives JSON's floating point.
const maxExactInteger = 1 << 53

type object = map[string]any

// serveFlags returns the flags of serve by name.
func serveFlags() map[string]*pflag.Flag {
	flags := map[string]*pflag.Flag{}
	for _, group := range config.NewServe().Flags() {
		group.VisitAll(func(f *pflag.Flag) { flags[f.Name] = f })
	}
	return flags
}

// schema returns values.schema.json with the current flags of serve and policy.
func schema(deploy string) (string, error) {
	document, err := os.ReadFile(filepath.Join(deploy, schemaFile))
	if err != nil {
		return "", err
	}
	var s object
	if err := json.Unmarshal(document, &s); err != nil {
		return "", err
	}
	settings := object{}
	for name, f := range serveFlags() {
		if remedy, refused := byChart[name]; refused {
			settings[camel(name)] = object{"description": "Not a setting of the chart: " + remedy + "."}
			continue
		}
		if settings[camel(name)], err = settingSchema(f); err != nil {
			return "", err
		}
	}
	properties := s["properties"].(object)
	properties["settings"].(object)["properties"] = settings
	if properties["policy"], err = policySchema(); err != nil {
		return "", err
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(s)
	return b.String(), err
}

// settingSchema returns the schema of a flag's value. The empty value is the default.
func settingSchema(f *pflag.Flag) (object, error) {
	pattern := config.Pattern(f)
	switch kind := f.Value.Type(); {
	case config.Choices(f) != nil:
		return object{"enum": append([]string{""}, config.Choices(f)...)}, nil
	case kind == "bool":
		return object{"enum": []any{true, false, "true", "false", ""}}, nil
	case kind == "duration" && pattern == "":
		return nil, fmt.Errorf("--%s: a duration needs a pattern with its limits (config.Pattern)", f.Name)
	case pattern == wholeNumber:
		return object{"type": []string{"string", "integer"}, "pattern": "^$|" + pattern, "minimum": 1, "maximum": maxExactInteger}, nil
	case pattern != "":
		return object{"type": "string", "pattern": "^$|" + pattern}, nil
	case kind == "string":
		return object{"type": "string"}, nil
	default:
		return nil, fmt.Errorf("--%s: the schema has no rule for flags of type %s", f.Name, kind)
	}
}

// policySchema returns the schema of the policy file. The keys of its entries are those of
// the types in package tokens.
func policySchema() (object, error) {
	allow, err := entrySchema("allowed", "ksa", "gsas")
	if err != nil {
		return nil, err
	}
	limits, err := entrySchema("limits", "namespace")
	if err != nil {
		return nil, err
	}
	return object{
		"type":                 "object",
		"additionalProperties": false,
		"properties":           object{"allow": allow, "limits": limits},
	}, nil
}

// policyForms has the forms that [tokens.ParseRules] requires.
var policyForms = map[string]object{
	"ksa":       {"pattern": `^[^/*]+/([^/*]+|\*)$`},
	"namespace": {"pattern": `^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$`},
}

// entrySchema returns the schema of a list of the policy file, by the field of
// [tokens.Rules] in which the list is kept.
func entrySchema(field string, required ...string) (object, error) {
	list, found := reflect.TypeFor[tokens.Rules]().FieldByName(field)
	if !found || list.Type.Kind() != reflect.Slice {
		return nil, fmt.Errorf("tokens.Rules has no list %s: adapt policySchema", field)
	}
	properties := object{}
	for _, f := range reflect.VisibleFields(list.Type.Elem()) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key == "" {
			continue
		}
		property := object{"type": "string"}
		if f.Type.Kind() == reflect.Slice {
			property = object{"type": "array", "items": object{"type": "string"}}
		}
		for keyword, form := range policyForms[key] {
			property[keyword] = form
		}
		properties[key] = property
	}
	for _, key := range required {
		if properties[key] == nil {
			return nil, fmt.Errorf("an entry of tokens.Rules.%s has no key %s: adapt policySchema", field, key)
		}
	}
	return object{
		"type":  "array",
		"items": object{"type": "object", "additionalProperties": false, "properties": properties, "required": required},
	}, nil
}

// camel returns the chart's value for a flag, for example projectId for project-id.
func camel(flag string) string {
	words := strings.Split(flag, "-")
	for i, word := range words[1:] {
		words[i+1] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "")
}
