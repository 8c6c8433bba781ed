package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
)

// applier applies manifests as helm and kubectl do.
type applier struct {
	client dynamic.Interface
	mapper meta.RESTMapper
}

func newApplier(t *testing.T, cluster *kubernetes.Cluster) *applier {
	t.Helper()
	resources, err := restmapper.GetAPIGroupResources(cluster.Client.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	return &applier{client, restmapper.NewDiscoveryRESTMapper(resources)}
}

// apply applies a manifest and returns the resource versions of its objects.
func (a *applier) apply(t *testing.T, manifest string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	versions := map[string]string{}
	for part := range strings.SplitSeq("\n"+manifest, "\n---\n") {
		document, err := yaml.YAMLToJSON([]byte(part))
		if err != nil {
			t.Fatal(err)
		}
		if string(document) == "null" {
			continue
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(document); err != nil {
			t.Fatal(err)
		}
		kind := object.GroupVersionKind()
		mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			t.Fatal(err)
		}
		yes := true
		applied, err := a.client.Resource(mapping.Resource).Namespace(object.GetNamespace()).Patch(ctx, object.GetName(), types.ApplyPatchType, document,
			metav1.PatchOptions{FieldManager: "helm", Force: &yes, FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			t.Errorf("%s %s: %v", kind.Kind, object.GetName(), err)
			continue
		}
		versions[kind.Kind+" "+object.GetName()] = applied.GetResourceVersion()
	}
	return versions
}

// A real API server accepts all manifests, knows each field, and changes nothing when
// they are applied a second time.
func TestManifests_AreAcceptedByAPIServer(t *testing.T) {
	cluster := kubernetes.Start(t)
	cluster.Namespace(t, namespace)
	applier := newApplier(t, cluster)
	manifests := map[string]string{
		"kustomize federation":    build(t, "federation", placeholderProvider, provider),
		"kustomize impersonation": build(t, "impersonation"),
	}
	for name, values := range installations() {
		rendered, err := render(deploy, values)
		if err != nil {
			t.Fatal(err)
		}
		manifests[name] = rendered.all()
	}
	for name, manifest := range manifests {
		t.Run(name, func(t *testing.T) {
			first := applier.apply(t, manifest)
			if len(first) < 4 {
				t.Fatalf("applied %v", first)
			}
			for object, version := range applier.apply(t, manifest) {
				if first[object] != version {
					t.Errorf("%s changes when it is applied a second time", object)
				}
			}
		})
	}
}

// The RBAC rules of the chart are enough for the jobs of dns.enabled.
func TestDNSJobs_HaveNeededPermissions(t *testing.T) {
	cluster := kubernetes.Start(t)
	cluster.Namespace(t, namespace)
	values := installations()["federation"]
	values["dns"] = map[string]any{"enabled": true}
	manifests, err := render(deploy, values)
	if err != nil {
		t.Fatal(err)
	}
	newApplier(t, cluster).apply(t, manifests["dns.yaml"])
	kubeconfig, err := cluster.KubeconfigFor(t.Context(), namespace, "gke-metadata-emulator-dns")
	if err != nil {
		t.Fatal(err)
	}
	maps := cluster.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	for _, distribution := range []string{"kind", "k3s"} { // k3s: the custom ConfigMap is created and removed
		t.Run(distribution, func(t *testing.T) {
			corefile, err := os.ReadFile("../../../internal/dns/testdata/" + distribution + ".Corefile")
			if err != nil {
				t.Fatal(err)
			}
			coredns := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "coredns"}, Data: map[string]string{"Corefile": string(corefile)}}
			if _, err := maps.Create(t.Context(), coredns, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = maps.Delete(t.Context(), "coredns", metav1.DeleteOptions{}) }()
			d := config.NewDNSEdit()
			d.DNS.Kubernetes.Kubeconfig, d.Yes = kubeconfig, true
			status := func(ctx context.Context, d *config.DNSEdit, w io.Writer) error {
				return daemon.DNSStatus(ctx, &config.DNSStatus{DNS: d.DNS}, w)
			}
			for _, step := range []func(context.Context, *config.DNSEdit, io.Writer) error{daemon.InstallDNS, status, daemon.UninstallDNS} {
				deadline := time.Now().Add(20 * time.Second) // RBAC is effective a moment later
				err := step(t.Context(), d, io.Discard)
				for apierrors.IsForbidden(err) && time.Now().Before(deadline) {
					err = step(t.Context(), d, io.Discard)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
