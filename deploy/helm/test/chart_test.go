package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write testdata from the chart")

const (
	deploy   = "../.."
	provider = "//iam.googleapis.com/projects/998877665544/locations/global/workloadIdentityPools/on-prem/providers/cluster-1"
)

// installations returns typical values of the chart, by the name of their golden file.
func installations() map[string]map[string]any {
	return map[string]map[string]any{
		"federation": {"settings": map[string]any{"projectId": "prod-project", "workloadIdentityProvider": provider}},
		"impersonation": {
			"settings":          map[string]any{"credentials": "impersonation", "projectId": "prod-project", "projectNumber": "998877665544", "impersonationPolicy": "file"},
			"sourceCredentials": map[string]any{"secretName": "source-credentials"},
			"handover":          map[string]any{"enabled": true, "keySecret": "seal"},
			"policy":            map[string]any{"allow": []any{map[string]any{"ksa": "team/app", "gsas": []any{"a@prod-project.iam.gserviceaccount.com"}}}},
		},
		"everything": {
			"image":             map[string]any{"repository": "example.com/gme", "digest": "sha256:" + strings.Repeat("0", 64), "pullPolicy": "Always"},
			"imagePullSecrets":  []any{"pull"},
			"settings":          map[string]any{"credentials": "fake", "zone": "europe-west1-b", "adminListen": "0.0.0.0:9090", "routing": "none", "listen": "127.0.0.1:8080", "identityWait": "1s"},
			"attributes":        map[string]any{"instance": map[string]any{"attributes": map[string]any{"team": "blue"}}},
			"admission":         map[string]any{"audiences": []any{"https://example.com/further"}, "excludedNamespaces": []any{"kube-system", "secret"}, "maxTokenSeconds": 7200},
			"startupTaint":      map[string]any{"enabled": true, "key": "example.com/wait"},
			"dns":               map[string]any{"enabled": true},
			"dmi":               map[string]any{"enabled": true},
			"resources":         map[string]any{"limits": map[string]any{"cpu": "1"}},
			"priorityClassName": "high",
			"tolerations":       nil,
			"nodeSelector":      map[string]any{"kubernetes.io/os": "linux"},
			"affinity":          map[string]any{"nodeAffinity": map[string]any{}},
			"updateStrategy":    map[string]any{"type": "OnDelete", "rollingUpdate": nil},
			"podAnnotations":    map[string]any{"a": "b"},
			"podLabels":         map[string]any{"c": "d"},
			"createNamespace":   true,
		},
		"no-policies": {
			"settings":  map[string]any{"projectId": "prod-project", "workloadIdentityProvider": provider},
			"admission": map[string]any{"enabled": false},
		},
	}
}

// all returns the manifests one after the other.
func (r rendered) all() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r)) {
		b.WriteString("---\n# " + name + "\n" + r[name])
	}
	return b.String()
}

func TestChart_RendersGoldenFiles(t *testing.T) {
	for name, values := range installations() {
		t.Run(name, func(t *testing.T) {
			manifests, err := render(deploy, values)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(file, []byte(manifests.all()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), manifests.all()); diff != "" {
				t.Errorf("%s (-file +chart; -update writes it):\n%s", file, diff)
			}
		})
	}
}

func TestGenerated_IsUpToDate(t *testing.T) {
	files, err := generated(deploy)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		got, err := os.ReadFile(filepath.Join(deploy, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(string(got), content); diff != "" {
			t.Errorf("%s (-file +chart; go run . in deploy/helm/test writes it):\n%s", name, diff)
		}
	}
}

func TestChart_RefusesUnknownAndInvalidValues(t *testing.T) {
	with := func(key string, value any) map[string]any {
		values := installations()["federation"]
		values[key] = value
		return values
	}
	settings := func(more map[string]any) map[string]any {
		values := installations()["federation"]
		maps.Copy(values["settings"].(map[string]any), more)
		return values
	}
	for name, test := range map[string]struct {
		values map[string]any
		text   string
	}{
		"no values":               {nil, "settings.workloadIdentityProvider: is required with settings.credentials=federation"},
		"a value":                 {with("imagee", "x"), "imagee"},
		"a setting":               {settings(map[string]any{"projectID": "x"}), "projectID"},
		"a flag set by the chart": {settings(map[string]any{"startupTaint": "x"}), "startupTaint"},
		"a routing mode":          {settings(map[string]any{"routing": "magic"}), "at '/settings/routing': value must be one of '', 'auto', 'ebpf', 'nftables', 'address', 'none'"},
		"the routing mode auto":   {settings(map[string]any{"routing": "auto"}), `settings.routing: "auto" is not supported by the chart; use one of address, ebpf, nftables, none`},
		"an attestation":          {settings(map[string]any{"attestation": "faith"}), "at '/settings/attestation': value must be one of '', 'require', 'prefer', 'ip'"},
		"a digest":                {with("image", map[string]any{"digest": "sha256:x"}), "digest"},
		"a token lifetime":        {with("admission", map[string]any{"maxTokenSeconds": 60}), "maxTokenSeconds"},
		"CEL in an audience":      {with("admission", map[string]any{"audiences": []any{"x'] + ['y"}}), "audiences"},
		"CEL in a namespace":      {with("admission", map[string]any{"excludedNamespaces": []any{"x'y"}}), "excludedNamespaces"},
		"CEL in a taint":          {with("startupTaint", map[string]any{"key": "x'y"}), "key"},
		"CEL in a provider":       {settings(map[string]any{"workloadIdentityProvider": "x' + 'y"}), "workloadIdentityProvider"},
		"CEL in a workload pool":  {settings(map[string]any{"workloadPool": "x' + 'y"}), "workloadPool"},
		"a fleet without a pool": {map[string]any{"existingConfigMap": "x", "settings": map[string]any{"workloadIdentityProvider": "https://gkehub.googleapis.com/projects/p/locations/global/memberships/m"}},
			"settings.workloadPool: is needed with a fleet's membership"},
		"metrics on loopback":    {with("monitoring", map[string]any{"serviceMonitor": true}), "monitoring.serviceMonitor: Prometheus cannot reach 127.0.0.1:8989; set settings.adminListen"},
		"an empty secret name":   {with("handover", map[string]any{"enabled": true, "keySecret": ""}), "keySecret"},
		"a handover flag":        {settings(map[string]any{"handoverFile": "/run/x"}), "handoverFile"},
		"a relative path":        {with("dmi", map[string]any{"productName": "product_name"}), "productName"},
		"a text for a boolean":   {with("startupTaint", map[string]any{"enabled": "yes"}), "enabled"},
		"tolerations as mapping": {with("tolerations", map[string]any{"operator": "Exists"}), "tolerations"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := render(deploy, test.values); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v, want an error that contains %q", err, test.text)
			}
		})
	}
}

// The daemon may request KSA tokens for the audience that it needs, and no other.
func TestChart_AudienceFollowsFromProvider(t *testing.T) {
	const membership = "https://gkehub.googleapis.com/projects/prod-project/locations/global/memberships/on-prem"
	for name, test := range map[string]struct {
		settings object
		want     string
	}{
		"a provider":                     {nil, "'https:' + '" + provider + "'"},
		"a provider as gcloud prints it": {object{"settings.workloadIdentityProvider": strings.TrimPrefix(provider, "//iam.googleapis.com/")}, "'https:' + '" + provider + "'"},
		"a membership":                   {object{"settings.workloadIdentityProvider": membership}, "'prod-project.svc.id.goog'"},
		"a membership of a domain's project": {object{
			"settings.workloadIdentityProvider": strings.Replace(membership, "prod-", "example.com:prod-", 1), "settings.projectId": "example.com:prod-project",
		}, "'prod-project.example.com.svc.id.goog'"},
		"another project's membership": {object{
			"settings.workloadIdentityProvider": strings.Replace(membership, "prod", "fleet", 1), "settings.workloadPool": "fleet-project.svc.id.goog",
		}, "'fleet-project.svc.id.goog'"},
	} {
		manifests, err := render(deploy, withValues("federation", test.settings))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := "expression: \"[" + test.want + "]\"\n"; !strings.Contains(manifests["admission.yaml"], want) {
			t.Errorf("%s: no %s in:\n%s", name, want, manifests["admission.yaml"])
		}
	}
}

func daemonSet(t *testing.T, values map[string]any) appsv1.DaemonSet {
	t.Helper()
	manifests, err := render(deploy, values)
	if err != nil {
		t.Fatal(err)
	}
	var d appsv1.DaemonSet
	if err := yaml.UnmarshalStrict([]byte(manifests["daemonset.yaml"]), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// modes is modes.yaml.
type modes map[string]map[string]struct {
	Capabilities []corev1.Capability
	Read, Write  []string
	OnNode       bool
}

func TestDaemonSet_HasOnlyThePrivilegesOfItsModes(t *testing.T) {
	table, err := os.ReadFile(filepath.Join(deploy, "helm", "modes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var all modes
	if err := yaml.UnmarshalStrict(table, &all); err != nil {
		t.Fatal(err)
	}
	for routing, one := range all["routing"] {
		for attestation, other := range all["attestation"] {
			t.Run(routing+" and "+attestation, func(t *testing.T) {
				values := installations()["federation"]
				settings := values["settings"].(map[string]any)
				settings["routing"], settings["attestation"] = routing, attestation
				spec := daemonSet(t, values).Spec.Template.Spec
				no, yes := false, true
				capabilities := slices.Concat(one.Capabilities, other.Capabilities)
				slices.Sort(capabilities)
				want := &corev1.SecurityContext{
					Privileged: &no, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: slices.Compact(capabilities)},
				}
				if diff := cmp.Diff(want, spec.Containers[0].SecurityContext, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("-want +chart:\n%s", diff)
				}
				if spec.HostPID || spec.HostIPC || !spec.HostNetwork || spec.SecurityContext != nil {
					t.Errorf("host PID %t, IPC %t, network %t, %v", spec.HostPID, spec.HostIPC, spec.HostNetwork, spec.SecurityContext)
				}
				folders := map[string]bool{} // of the node; true is read-only
				for _, mount := range spec.Containers[0].VolumeMounts {
					folders[mount.MountPath] = mount.ReadOnly
				}
				wanted := map[string]bool{}
				for _, folder := range slices.Concat(one.Read, other.Read) {
					wanted[folder] = true
				}
				for _, folder := range one.Write {
					wanted[folder] = false
				}
				if !maps.Equal(folders, wanted) || len(spec.Volumes) != len(wanted) {
					t.Errorf("folders of the node %v, want %v", folders, wanted)
				}
				listens := slices.ContainsFunc(spec.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == "GME_LISTEN" && e.Value == "$(HOST_IP):8987" })
				if listens != one.OnNode {
					t.Errorf("listens on the node's address: %t", listens)
				}
				// A declared port on the node's network would be a host port, so only one such
				// pod could run on a node.
				if len(spec.Containers) != 1 || len(spec.Containers[0].Ports) != 0 {
					t.Errorf("containers %v", spec.Containers)
				}
			})
		}
	}
}

func TestDaemonSet_RestartsForSettingsAndPolicyButNotForAttributes(t *testing.T) {
	annotations := func(change func(map[string]any)) map[string]string {
		values := installations()["impersonation"]
		values["attributes"] = map[string]any{"instance": map[string]any{"attributes": map[string]any{"a": "b"}}}
		change(values)
		return daemonSet(t, values).Spec.Template.Annotations
	}
	before := annotations(func(map[string]any) {})
	for name, test := range map[string]struct {
		change  func(map[string]any)
		restart bool
	}{
		"setting": {func(v map[string]any) { v["settings"].(map[string]any)["zone"] = "europe-west1-b" }, true},
		"policy": {func(v map[string]any) {
			v["policy"] = map[string]any{"allow": []any{map[string]any{"ksa": "team/app", "gsas": []any{"b@prod-project.iam.gserviceaccount.com"}}}}
		}, true},
		"attributes": {func(v map[string]any) { v["attributes"] = map[string]any{"project": map[string]any{}} }, false},
	} {
		if after := annotations(test.change); maps.Equal(before, after) == test.restart {
			t.Errorf("%s: annotations %v and %v, want a restart: %t", name, before, after, test.restart)
		}
	}
}
