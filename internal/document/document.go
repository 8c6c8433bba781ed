package document

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"sigs.k8s.io/yaml"
)

// Unmarshal reads a YAML document into a value with json tags. A field that the value does
// not have, or that is listed twice, is an error.
func Unmarshal(content []byte, into any) error {
	err := yaml.UnmarshalStrict(content, into)
	if err == nil {
		return nil
	}
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		kind, _, _ := strings.Cut(wrong.Value, " ") // "number 1.5"
		text := fmt.Sprintf("found %s instead of %s", cmp.Or(kinds[kind], wrong.Value), wanted(wrong.Type))
		if wrong.Field != "" { // without the index of an element
			text += " in the field " + wrong.Field
		}
		return errors.New(text)
	}
	text := err.Error()
	for _, step := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: ", "while decoding JSON: ", "json: ", "yaml: "} {
		text = strings.TrimPrefix(text, step)
	}
	return errors.New(text)
}

// kinds are YAML's words for those of JSON.
var kinds = map[string]string{"array": "a list", "object": "a mapping", "string": "text", "number": "a number", "bool": "true or false"}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return kinds["object"]
	case reflect.Slice, reflect.Array:
		return kinds["array"]
	case reflect.String:
		return kinds["string"]
	case reflect.Bool:
		return kinds["bool"]
	}
	return "a whole number"
}
