package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/internal/config"
)

// withValues returns the values of an installation with some of them replaced. The path of
// a value has dots.
func withValues(installation string, changes object) object {
	values := installations()[installation]
	for path, value := range changes {
		keys := strings.Split(path, ".")
		mapping := values
		for _, key := range keys[:len(keys)-1] {
			if mapping[key] == nil {
				mapping[key] = object{}
			}
			mapping = mapping[key].(object)
		}
		mapping[keys[len(keys)-1]] = value
	}
	return values
}

// environment returns the daemon's environment variables in rendered manifests.
func environment(t *testing.T, manifests rendered) map[string]string {
	t.Helper()
	var configMap corev1.ConfigMap
	if err := yaml.UnmarshalStrict([]byte(manifests["configmap.yaml"]), &configMap); err != nil {
		t.Fatal(err)
	}
	return configMap.Data
}

// serveError returns the error of serve with these environment variables.
func serveError(variables map[string]string) error {
	serve := &config.Serve{}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	for _, group := range serve.Flags() {
		flags.AddFlagSet(group.FlagSet)
	}
	if _, err := config.FromEnvironment(flags, func(name string) (string, bool) {
		value, found := variables[name]
		return value, found
	}); err != nil {
		return err
	}
	return serve.Complete()
}

// validSettings is one valid value for each setting, with the installation that can have it.
var validSettings = map[string]struct{ installation, value string }{
	"adminListen":              {"federation", "0.0.0.0:9090"},
	"attestation":              {"federation", "ip"},
	"auditLog":                 {"federation", "-"},
	"bpffs":                    {"federation", "/sys/fs/bpf"},
	"cgroupRoot":               {"federation", "/sys/fs/cgroup/kubelet"},
	"clusterLocation":          {"federation", "europe-west1"},
	"clusterUid":               {"federation", strings.Repeat("0f", 32)},
	"clusterName":              {"federation", "on-prem"},
	"credentials":              {"federation", "federation"},
	"delegates":                {"impersonation", "a@prod-project.iam.gserviceaccount.com"},
	"events":                   {"federation", "false"},
	"fakeListen":               {"everything", "127.0.0.1:8988"},
	"iamCredentialsEndpoint":   {"federation", "https://iamcredentials.example.com"},
	"iamEndpoint":              {"federation", "https://iam.example.com/v1"},
	"identityWait":             {"federation", "1.5s"},
	"impersonationPolicy":      {"impersonation", "off"},
	"interface":                {"federation", "dummy0"},
	"listen":                   {"everything", "127.0.0.1:8081"},
	"logFormat":                {"federation", "json"},
	"logLevel":                 {"federation", "debug"},
	"maxScopes":                {"federation", "https://www.googleapis.com/auth/devstorage.read_only"},
	"maxTokenLife":             {"federation", "15m"},
	"namespaceGsas":            {"federation", "ci=*@ci-project.iam.gserviceaccount.com"},
	"otlpEndpoint":             {"federation", "http://collector:4318"},
	"prefetch":                 {"federation", "false"},
	"projectId":                {"federation", "example.com:prod-project"},
	"projectNumber":            {"federation", "123456789012"},
	"routing":                  {"federation", "none"},
	"stsEndpoint":              {"federation", "https://sts.example.com"},
	"universeDomain":           {"federation", "example.com"},
	"workloadIdentityPool":     {"impersonation", "on-prem"},
	"workloadIdentityProvider": {"federation", provider},
	"workloadPool":             {"federation", "pool.svc.id.goog"},
	"zone":                     {"federation", "europe-west1-b"},
}

func TestSettings_AreVariablesThatServeAccepts(t *testing.T) {
	for name := range serveFlags() {
		setting := camel(name)
		if byChart[name] != "" {
			continue
		}
		valid, found := validSettings[setting]
		if !found {
			t.Errorf("validSettings has no value for settings.%s", setting)
			continue
		}
		manifests, err := render(deploy, withValues(valid.installation, object{"settings." + setting: valid.value}))
		if err != nil {
			t.Errorf("settings.%s=%s: %v", setting, valid.value, err)
			continue
		}
		variables := environment(t, manifests)
		if got := variables[config.EnvName(name)]; got != valid.value {
			t.Errorf("settings.%s: %s is %q, want %q", setting, config.EnvName(name), got, valid.value)
		}
		variables["GME_NODE_NAME"] = "node-1"
		if err := serveError(variables); err != nil {
			t.Errorf("settings.%s=%s: serve refuses the rendered settings: %v", setting, valid.value, err)
		}
	}
	if len(validSettings) != len(serveFlags())-len(byChart) {
		t.Errorf("validSettings has %d values, serve has %d flags, of which the chart sets %d", len(validSettings), len(serveFlags()), len(byChart))
	}
}

func TestSettings_ServeAcceptsEachInstallation(t *testing.T) {
	for name, values := range installations() {
		manifests, err := render(deploy, values)
		if err != nil {
			t.Fatal(err)
		}
		variables := environment(t, manifests)
		variables["GME_NODE_NAME"] = "node-1"
		if err := serveError(variables); err != nil {
			t.Errorf("%s: serve refuses the rendered settings: %v", name, err)
		}
	}
}

func TestSettings_AcceptsBooleansAndNumbers(t *testing.T) {
	fromFile := func(document string) any {
		values, err := common.ReadValues([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		return values["value"]
	}
	for name, test := range map[string]struct {
		setting string
		value   any
		text    string
	}{
		"boolean":                     {"events", false, "false"},
		"boolean as text":             {"events", "false", "false"},
		"boolean true":                {"prefetch", true, "true"},
		"boolean of another setting":  {"prefetch", false, "false"},
		"number of --set":             {"projectNumber", int64(123456789012), "123456789012"},
		"number in a values file":     {"projectNumber", fromFile("value: 123456789012"), "123456789012"},
		"number as floating point":    {"projectNumber", float64(123456789012), "123456789012"},
		"number with exponent":        {"projectNumber", json.Number("1.23456789012e11"), "123456789012"},
		"largest number":              {"projectNumber", float64(maxExactInteger), "9007199254740992"},
		"number as text":              {"projectNumber", "123456789012", "123456789012"},
		"empty text for a number":     {"projectNumber", "", ""},
		"empty text for a boolean":    {"events", "", ""},
		"empty text for a choice":     {"logLevel", "", ""},
		"empty text for a duration":   {"identityWait", "", ""},
		"shortest lifetime of tokens": {"maxTokenLife", "10m", "10m"},
		"audit log on standard out":   {"auditLog", "-", "-"},
	} {
		manifests, err := render(deploy, withValues("federation", object{"settings." + test.setting: test.value}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		flag := config.EnvName(map[string]string{"projectNumber": "project-number", "logLevel": "log-level", "identityWait": "identity-wait", "maxTokenLife": "max-token-life", "auditLog": "audit-log"}[test.setting])
		if flag == config.EnvName("") {
			flag = config.EnvName(test.setting)
		}
		if got := environment(t, manifests)[flag]; got != test.text {
			t.Errorf("%s: %s is %q, want %q", name, flag, got, test.text)
		}
		if events := strings.Contains(manifests["rbac.yaml"], "resources: [events]"); events != (test.setting != "events" || test.text == "") {
			t.Errorf("%s: the daemon has the right to write events: %t", name, events)
		}
	}
}

func TestValues_RefusesWrongValues(t *testing.T) {
	for _, test := range []struct {
		installation string
		path         string
		value        any
		text         string
		serve        bool // serve refuses it too
	}{
		{"federation", "settings.credentials", "impersonate", "at '/settings/credentials': value must be one of", true},
		{"federation", "settings.logLevel", "trace", "at '/settings/logLevel': value must be one of", true},
		{"federation", "settings.logFormat", "xml", "at '/settings/logFormat': value must be one of", true},
		{"federation", "settings.identityWait", "abc", "at '/settings/identityWait': 'abc' does not match", true},
		{"federation", "settings.identityWait", "21s", "at '/settings/identityWait': '21s' does not match", true},
		{"federation", "settings.maxTokenLife", "5m", "at '/settings/maxTokenLife': '5m' does not match", true},
		{"federation", "settings.maxTokenLife", "2h", "at '/settings/maxTokenLife': '2h' does not match", true},
		{"federation", "settings.workloadIdentityProvider", "foo", "at '/settings/workloadIdentityProvider': 'foo' does not match", true},
		{"impersonation", "settings.workloadIdentityPool", "POOL", "at '/settings/workloadIdentityPool': 'POOL' does not match", true},
		{"federation", "settings.projectId", "998877665544", "at '/settings/projectId': '998877665544' does not match", true},
		{"federation", "settings.projectNumber", "prod", "at '/settings/projectNumber': 'prod' does not match", true},
		{"federation", "settings.projectNumber", 1.5, "at '/settings/projectNumber'", true},
		{"federation", "settings.projectNumber", 0, "at '/settings/projectNumber'", true},
		{"federation", "settings.events", "no", "at '/settings/events': value must be one of", true},
		{"federation", "settings.prefetch", 1, "at '/settings/prefetch': value must be one of", false},
		{"federation", "settings.zone", "Europe", "at '/settings/zone': 'Europe' does not match", true},
		{"federation", "settings.adminListen", ":8989", "at '/settings/adminListen': ':8989' does not match", true},
		{"federation", "settings.stsEndpoint", "sts.example.com", "at '/settings/stsEndpoint': 'sts.example.com' does not match", true},
		{"federation", "settings.projectId", "", "settings.projectId is needed: set it to the ID", true},
		{"impersonation", "settings.projectId", "", "settings.projectId is needed: set it to the ID", true},
		{"federation", "settings.workloadIdentityProvider", "", "settings.workloadIdentityProvider: is required with settings.credentials=federation", true},
		{"no-policies", "settings.workloadIdentityProvider", "", "settings.workloadIdentityProvider: is required with settings.credentials=federation", true},
		{"impersonation", "settings.projectNumber", "", "settings.projectNumber is needed with settings.credentials=impersonation: gcloud projects describe prod-project", true},
		{"impersonation", "sourceCredentials.secretName", "", "sourceCredentials.secretName is needed with settings.credentials=impersonation: set it to the name of the Secret", false},
		{"federation", "sourceCredentials.secretName", "source", "sourceCredentials.secretName: is not used with settings.credentials=federation; leave it out", false},
		{"federation", "settings.impersonationPolicy", "iam", "settings.impersonationPolicy: is not used with settings.credentials=federation; leave it out", true},
		{"federation", "settings.delegates", "a@prod-project.iam.gserviceaccount.com", "settings.delegates: is not used with settings.credentials=federation; leave it out", true},
		{"impersonation", "policy", nil, "settings.impersonationPolicy: file needs rules; set policy", false},
		{"federation", "settings.fakeListen", "127.0.0.1:8988", "settings.fakeListen: is not used with settings.credentials=federation; leave it out", true},
		{"everything", "settings.stsEndpoint", "https://sts.example.com", "settings.stsEndpoint: contradicts settings.credentials=fake", true},
		{"everything", "handover.enabled", true, "handover.enabled: contradicts settings.credentials=fake", false},
		{"federation", "settings.listen", "10.0.0.1:8080", "settings.listen: 10.0.0.1:8080 contradicts settings.routing=address", true},
		{"everything", "settings.routing", "ebpf", "settings.listen: settings.routing=ebpf cannot redirect packets of pods to 127.0.0.1:8080; leave it out", true},
		{"federation", "settings.auditLog", "/var/log/gme.log", `settings.auditLog: "/var/log/gme.log" is a file, but the daemon's root file system is read-only; use "-"`, false},
		{"federation", "updateStrategy", object{"type": "RollingUpdate", "rollingUpdate": object{"maxSurge": 1}}, "at '/updateStrategy/rollingUpdate/maxSurge': value must be one of 0", false},
		{"federation", "updateStrategy", object{"rollingUpdate": object{"maxSurge": "10%"}}, "at '/updateStrategy/rollingUpdate/maxSurge': value must be one of 0", false},
		{"federation", "updateStrategy", object{"type": "Recreate"}, "at '/updateStrategy/type': value must be one of", false},
	} {
		t.Run(fmt.Sprintf("%s %s=%v", test.installation, test.path, test.value), func(t *testing.T) {
			if _, err := render(deploy, withValues(test.installation, object{test.path: test.value})); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("the error is %v, want one that contains %q", err, test.text)
			}
			if !test.serve {
				return
			}
			manifests, err := render(deploy, installations()[test.installation])
			if err != nil {
				t.Fatal(err)
			}
			variables := environment(t, manifests)
			variables["GME_NODE_NAME"] = "node-1"
			setting := strings.TrimPrefix(test.path, "settings.")
			for name := range serveFlags() {
				if camel(name) == setting {
					variables[config.EnvName(name)] = fmt.Sprint(test.value)
				}
			}
			if err := serveError(variables); err == nil {
				t.Error("serve accepts what the chart refuses")
			}
		})
	}
}

// An existing ConfigMap has the settings, so the chart cannot miss one.
func TestValues_ExistingConfigMapNeedsNoSettings(t *testing.T) {
	for _, credentials := range []string{"impersonation", "fake"} {
		if _, err := render(deploy, object{"existingConfigMap": "own", "settings": object{"credentials": credentials}}); err != nil {
			t.Errorf("%s: %v", credentials, err)
		}
	}
}

func TestValues_FakeCredentialsNeedNoProject(t *testing.T) {
	if _, err := render(deploy, object{"settings": object{"credentials": "fake"}}); err != nil {
		t.Error(err)
	}
}

func TestValues_DefaultsPassHelmLint(t *testing.T) {
	chart, err := loader.LoadDir(filepath.Join(deploy, "helm"))
	if err != nil {
		t.Fatal(err)
	}
	values, err := util.ToRenderValues(chart, nil, common.ReleaseOptions{Name: "test", Namespace: namespace}, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (engine.Engine{LintMode: true}).Render(chart, values); err != nil {
		t.Error(err)
	}
}

func TestSettings_RefusesFlagsThatTheChartSets(t *testing.T) {
	flags := serveFlags()
	for name, remedy := range byChart {
		if flags[name] == nil {
			t.Errorf("serve has no flag --%s", name)
		}
		text := fmt.Sprintf("settings.%s: is not a setting of the chart; %s", camel(name), remedy)
		for _, value := range []string{"x", ""} {
			if _, err := render(deploy, withValues("federation", object{"settings." + camel(name): value})); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("the error is %v, want one that contains %q", err, text)
			}
		}
	}
}

func TestSchema_EnumsEqualChoicesOfFlags(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(deploy, schemaFile))
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties struct {
			Settings struct {
				Properties map[string]struct{ Enum []any }
			}
		}
	}
	if err := json.Unmarshal(document, &s); err != nil {
		t.Fatal(err)
	}
	enums := 0
	for name, f := range serveFlags() {
		choices := config.Choices(f)
		if choices == nil {
			continue
		}
		enums++
		want := []any{""} // the default
		for _, choice := range choices {
			want = append(want, choice)
		}
		if diff := cmp.Diff(want, s.Properties.Settings.Properties[camel(name)].Enum); diff != "" {
			t.Errorf("settings.%s (-flag +schema):\n%s", camel(name), diff)
		}
	}
	if enums < 6 {
		t.Errorf("serve has %d flags with choices, want 6 or more", enums)
	}
}

// The chart supports each mode of the flags but auto.
func TestModes_EqualChoicesOfFlags(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(deploy, "helm", "modes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var all modes
	if err := yaml.UnmarshalStrict(document, &all); err != nil {
		t.Fatal(err)
	}
	for name, table := range all {
		choices := slices.DeleteFunc(config.Choices(serveFlags()[name]), func(choice string) bool { return choice == "auto" })
		slices.Sort(choices)
		if diff := cmp.Diff(choices, slices.Sorted(maps.Keys(table))); diff != "" {
			t.Errorf("%s (-flag +modes.yaml):\n%s", name, diff)
		}
	}
}
