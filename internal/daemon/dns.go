package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/internal/dns"
)

// DNS is the settings of the commands that edit the cluster's CoreDNS.
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
			return FlagErrorf(name.flag, "leave it out for "+name.usual, "is empty")
		}
	}
	if d.Yes && d.DryRun {
		return FlagErrorf("dry-run", "use one of them", "contradicts --yes")
	}
	return nil
}

// Install makes the cluster's DNS answer for the metadata server.
func (d *DNS) Install(ctx context.Context, w io.Writer) error { return d.edit(ctx, w, dns.Install) }

// Uninstall undoes Install.
func (d *DNS) Uninstall(ctx context.Context, w io.Writer) error { return d.edit(ctx, w, dns.Uninstall) }

// Status reports whether the cluster's DNS answers for the metadata server, and fails
// if it does not.
func (d *DNS) Status(ctx context.Context, w io.Writer) error {
	cluster, err := d.connect()
	if err != nil {
		return err
	}
	state, err := cluster.State(ctx)
	if err != nil {
		return d.named(err)
	}
	switch state {
	case dns.Present:
		_, err = fmt.Fprintln(w, "The cluster's DNS answers for the metadata server.")
		return err
	case dns.Outdated:
		return errors.New("the cluster's DNS answers for the metadata server as an older version had it: run dns install")
	}
	return errors.New("the cluster's DNS does not answer for the metadata server: run dns install")
}

// edit prints the changes, and makes them with --yes.
func (d *DNS) edit(ctx context.Context, w io.Writer, edit func(dns.Config) (dns.Config, error)) error {
	cluster, err := d.connect()
	if err != nil {
		return err
	}
	var printed string
	config, written, err := cluster.Edit(ctx, edit, func(diff string) (bool, error) {
		if diff == "" {
			_, err := fmt.Fprintln(w, "Nothing to change.")
			return false, err
		}
		if diff != printed {
			if _, err := io.WriteString(w, diff); err != nil {
				return false, err
			}
			printed = diff
		}
		if !d.Yes && !d.DryRun {
			return false, FlagErrorf("yes", "run it again with --yes, or with --dry-run to only see the change", "is needed to change the ConfigMaps in %s as shown", d.Namespace)
		}
		return d.Yes, nil
	})
	if err != nil || !written {
		return d.named(err)
	}
	next := "CoreDNS reloads its configuration within two minutes.\n"
	if !dns.Reloads(config) {
		next = fmt.Sprintf("CoreDNS does not reload its configuration; restart it: kubectl --namespace %s rollout restart deployment coredns\n", d.Namespace)
	}
	_, err = io.WriteString(w, next)
	return err
}

// named returns err as an error of the flag that it is about.
func (d *DNS) named(err error) error {
	var missing *dns.NoCorefileError
	if errors.As(err, &missing) {
		return FlagErrorf("configmap", "see docs/dns.md for clusters whose DNS is another", "%v", err)
	}
	return err
}

func (d *DNS) connect() (*dns.Cluster, error) {
	clients, err := newClients(d.Kubeconfig)
	if err != nil {
		return nil, err
	}
	return &dns.Cluster{Client: clients.requests, Namespace: d.Namespace, ConfigMap: d.ConfigMap, Custom: d.CustomConfigMap}, nil
}
