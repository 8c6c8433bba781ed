package cluster

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

const (
	pauseImage = "localhost/gke-metadata-emulator/pause:1"
	dnsImage   = "localhost/gke-metadata-emulator/coredns:1"
)

// systemImages are the images of the pods that the cluster itself runs.
func (c *Cluster) systemImages(ctx context.Context) ([]Image, error) {
	pause, err := c.BuildStatic(ctx, "integration/cluster", "./pause", "pause")
	if err != nil {
		return nil, err
	}
	return []Image{
		{Name: pauseImage, Files: map[string]string{"/pause": pause}, Entrypoint: []string{"/pause"}},
		{Name: dnsImage, Files: map[string]string{"/coredns": c.binaries.coreDNS}, Entrypoint: []string{"/coredns"}},
	}, nil
}

func (c *Cluster) startDNS(ctx context.Context, hosts map[string]string) error {
	var block strings.Builder
	if len(hosts) > 0 {
		block.WriteString("hosts {\n")
		for _, name := range slices.Sorted(maps.Keys(hosts)) {
			fmt.Fprintf(&block, "            %s %s\n", hosts[name], name)
		}
		block.WriteString("            fallthrough\n        }\n        ")
	}
	manifests, err := render("dns.yaml", map[string]string{"DNSImage": dnsImage, "DNSAddress": dnsAddress, "Hosts": block.String()})
	if err != nil {
		return err
	}
	return c.Apply(ctx, manifests)
}

func (c *Cluster) awaitDNS(ctx context.Context) error {
	return Await(ctx, c.Client.AppsV1().Deployments(metav1.NamespaceSystem), "coredns", Available)
}

// Apply creates the objects of a YAML document, in their order, and replaces
// those that there are.
func (c *Cluster) Apply(ctx context.Context, manifests []byte) error {
	ctx, cancel := bounded(ctx, "manifests")
	defer cancel()
	client, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		return err
	}
	discoverer, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return err
	}
	known, err := restmapper.GetAPIGroupResources(discoverer)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(known)
	for document := range bytes.SplitSeq(manifests, []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			return fmt.Errorf("%w in\n%s", err, document)
		}
		if len(object.Object) == 0 {
			continue
		}
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return err
		}
		if mapping.Scope.Name() == meta.RESTScopeNameRoot {
			object.SetNamespace("") // kustomize gives one to all kinds that it does not know
		}
		resource := client.Resource(mapping.Resource).Namespace(object.GetNamespace())
		_, err = resource.Create(ctx, object, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			_, err = resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "test", Force: true})
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
		}
	}
	return nil
}
