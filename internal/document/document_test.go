package document

import (
	"strings"
	"testing"
)

func TestUnmarshal_ErrorsAreForTheAuthorOfTheDocument(t *testing.T) {
	type entry struct {
		Name    string `json:"name"`
		Enabled bool   `json:"enabled"`
		Count   int    `json:"count"`
	}
	for content, want := range map[string]string{
		"foo":                         "found text instead of a mapping",
		"- a":                         "found a list instead of a mapping",
		"list: foo":                   "found text instead of a list in the field list",
		"list: [foo]":                 "found text instead of a mapping in the field list",
		"list: {}":                    "found a mapping instead of a list in the field list",
		"list: [{name: [a]}]":         "found a list instead of text in the field list.name",
		"list: [{enabled: perhaps}]":  "found text instead of true or false in the field list.enabled",
		"list: [{count: many}]":       "found text instead of a whole number in the field list.count",
		"list: [{count: 1.5}]":        "found a number instead of a whole number in the field list.count",
		"list: [{nme: a}]":            `unknown field "nme"`,
		"list: [{name: a, name: b}]":  `key "name" already set in map`,
		"list: [":                     "line 1: did not find expected node content",
		"list: [{name: a, count: 1}]": "",
		"":                            "",
	} {
		var into struct {
			List []entry `json:"list"`
		}
		err := Unmarshal([]byte(content), &into)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", content, err, want)
		case err != nil && (strings.Contains(err.Error(), "struct") || strings.Contains(err.Error(), "JSON")):
			t.Errorf("%s: %v", content, err)
		}
	}
}
