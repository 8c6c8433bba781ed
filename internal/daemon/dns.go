package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	conflict "k8s.io/client-go/util/retry"

	"gke-metadata-emulator/internal/dns"
)

// DNS is the settings of what edits the cluster's CoreDNS.
type DNS struct {
	Kubeconfig      string
	Namespace       string
	ConfigMap       string
	CustomConfigMap string
	Yes, DryRun     bool
}

// Complete returns a [*FlagError] for a setting that is wrong.
func (d *DNS) Complete() error {
	for _, name := range []struct{ flag, value, usual string }{
		{"namespace", d.Namespace, metav1.NamespaceSystem}, {"configmap", d.ConfigMap, "coredns"}, {"custom-configmap", d.CustomConfigMap, "coredns-custom"},
	} {
		if name.value == "" {
			return wrong(name.flag, "leave it out for "+name.usual, "is empty")
		}
	}
	if d.Yes && d.DryRun {
		return wrong("dry-run", "use one of them", "contradicts --yes")
	}
	return nil
}

// Install has the cluster's DNS answer for the metadata server.
func (d *DNS) Install(ctx context.Context, w io.Writer) error { return d.edit(ctx, w, dns.Install) }

// Uninstall undoes it.
func (d *DNS) Uninstall(ctx context.Context, w io.Writer) error { return d.edit(ctx, w, dns.Uninstall) }

// Status says whether it does, and fails where it does not.
func (d *DNS) Status(ctx context.Context, w io.Writer) error {
	c, err := d.connect()
	if err != nil {
		return err
	}
	now, err := c.read(ctx)
	if err != nil {
		return err
	}
	state, err := dns.StateOf(now.config)
	if err != nil {
		return err
	}
	switch state {
	case dns.Present:
		_, err = fmt.Fprintln(w, "The cluster's DNS answers for the metadata server.")
		return err
	case dns.Outdated:
		return errors.New("the cluster's DNS answers for the metadata server in an older way: run dns install")
	}
	return errors.New("the cluster's DNS has not been told of the metadata server: run dns install")
}

// edit shows what changes, and changes it with --yes. Should somebody else change
// the ConfigMap at the same time, theirs is kept: it is read and edited anew.
func (d *DNS) edit(ctx context.Context, w io.Writer, change func(dns.Config) (dns.Config, error)) error {
	c, err := d.connect()
	if err != nil {
		return err
	}
	backoff := wait.Backoff{Steps: 20, Duration: 20 * time.Millisecond, Factor: 1.3, Jitter: 0.5}
	var shown string
	return conflict.RetryOnConflict(backoff, func() error {
		now, err := c.read(ctx)
		if err != nil {
			return err
		}
		wanted, err := change(now.config)
		if err != nil {
			return err
		}
		diff := dns.Diff(now.config, wanted)
		if diff == "" {
			_, err := fmt.Fprintln(w, "Nothing to change.")
			return err
		}
		if diff != shown {
			if _, err := io.WriteString(w, diff); err != nil {
				return err
			}
			shown = diff
		}
		if d.DryRun {
			return nil
		}
		if !d.Yes {
			return wrong("yes", "run it again with --yes, or with --dry-run to be shown only", "is needed to change the ConfigMaps in %s as shown", d.Namespace)
		}
		if err := c.write(ctx, now, wanted); err != nil {
			return err
		}
		after := "CoreDNS notices within two minutes.\n"
		if !dns.Reloads(wanted) {
			after = fmt.Sprintf("CoreDNS has to be told: kubectl --namespace %s rollout restart deployment coredns\n", d.Namespace)
		}
		_, err = io.WriteString(w, after)
		return err
	})
}

func (d *DNS) connect() (*clusterDNS, error) {
	config, err := (&Serve{Kubeconfig: d.Kubeconfig}).cluster()
	if err != nil {
		return nil, err
	}
	clients, err := newClients(config)
	if err != nil {
		return nil, err
	}
	return &clusterDNS{maps: clients.requests, namespace: d.Namespace, name: d.ConfigMap, custom: d.CustomConfigMap}, nil
}

// configMapEditor is the API server, which keeps ConfigMaps (core/v1).
type configMapEditor interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	CreateConfigMap(ctx context.Context, m *corev1.ConfigMap) error
	// Both refuse where another has changed it since it was read.
	UpdateConfigMap(ctx context.Context, m *corev1.ConfigMap) error
	DeleteConfigMap(ctx context.Context, m *corev1.ConfigMap) error
}

// clusterDNS is the ConfigMaps of a cluster's CoreDNS.
type clusterDNS struct {
	maps                    configMapEditor
	namespace, name, custom string
}

// configMaps are as they have been read.
type configMaps struct {
	config       dns.Config
	main, custom *corev1.ConfigMap // custom is nil where there is none
}

const madeByUs = "app.kubernetes.io/managed-by"

func (c *clusterDNS) read(ctx context.Context) (*configMaps, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	main, err := c.maps.ConfigMap(ctx, c.namespace, c.name)
	if apierrors.IsNotFound(err) {
		return nil, wrong("configmap", "see docs/dns.md for clusters whose DNS is another", "%v", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", c.name, err)
	}
	corefile, there := main.Data[dns.Corefile]
	if !there {
		return nil, wrong("configmap", "see docs/dns.md for clusters whose DNS is another", "%s has no key %s", c.name, dns.Corefile)
	}
	now := &configMaps{config: dns.Config{Corefile: corefile}, main: main}
	custom, err := c.maps.ConfigMap(ctx, c.namespace, c.custom)
	if apierrors.IsNotFound(err) {
		return now, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", c.custom, err)
	}
	now.custom, now.config.Custom = custom, custom.Data
	return now, nil
}

// write changes what has changed since it was read, if nobody else has meanwhile:
// the versions are those that were read.
func (c *clusterDNS) write(ctx context.Context, now *configMaps, wanted dns.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if now.config.Corefile != wanted.Corefile {
		changed := now.main.DeepCopy()
		changed.Data[dns.Corefile] = wanted.Corefile
		if err := c.maps.UpdateConfigMap(ctx, changed); err != nil {
			return fmt.Errorf("change ConfigMap %s: %w", c.name, err)
		}
	}
	had, has := now.config.Custom[dns.ServerKey], wanted.Custom[dns.ServerKey]
	if had == has {
		return nil
	}
	err := c.writeCustom(ctx, now.custom, wanted.Custom)
	if err != nil {
		return fmt.Errorf("change ConfigMap %s: %w", c.custom, err)
	}
	return nil
}

func (c *clusterDNS) writeCustom(ctx context.Context, now *corev1.ConfigMap, data map[string]string) error {
	if now == nil {
		err := c.maps.CreateConfigMap(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: c.custom, Labels: map[string]string{madeByUs: "gke-metadata-emulator"}}, Data: data,
		})
		if apierrors.IsAlreadyExists(err) { // by somebody else, since it was read
			return apierrors.NewConflict(corev1.Resource("configmaps"), c.custom, err)
		}
		return err
	}
	if len(data)+len(now.BinaryData) == 0 && now.Labels[madeByUs] == "gke-metadata-emulator" {
		return c.maps.DeleteConfigMap(ctx, now)
	}
	changed := now.DeepCopy()
	changed.Data = data
	return c.maps.UpdateConfigMap(ctx, changed)
}
