package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/dns"
)

// InstallDNS makes the cluster's DNS answer for the metadata server. It prints the
// changes, and makes them with --yes.
func InstallDNS(ctx context.Context, d *config.DNSEdit, w io.Writer) error {
	return editDNS(ctx, d, w, dns.Install)
}

// UninstallDNS undoes [InstallDNS].
func UninstallDNS(ctx context.Context, d *config.DNSEdit, w io.Writer) error {
	return editDNS(ctx, d, w, dns.Uninstall)
}

// DNSStatus reports whether the cluster's DNS answers for the metadata server, and fails
// if it does not.
func DNSStatus(ctx context.Context, d *config.DNSStatus, w io.Writer) error {
	cluster, err := connectDNS(d.DNS)
	if err != nil {
		return err
	}
	state, err := cluster.State(ctx)
	if err != nil {
		return corefileError(err)
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

func editDNS(ctx context.Context, d *config.DNSEdit, w io.Writer, edit func(dns.Config) (dns.Config, error)) error {
	cluster, err := connectDNS(d.DNS)
	if err != nil {
		return err
	}
	var printed string
	edited, written, err := cluster.Edit(ctx, edit, func(diff string) (bool, error) {
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
			return false, config.FlagErrorf("yes", "run it again with --yes, or with --dry-run to only see the change", "is needed to change the ConfigMaps in %s as shown", d.DNS.Namespace)
		}
		return d.Yes, nil
	})
	if err != nil || !written {
		return corefileError(err)
	}
	next := "CoreDNS reloads its configuration within two minutes.\n"
	if !dns.Reloads(edited) {
		next = fmt.Sprintf("CoreDNS does not reload its configuration; restart it: kubectl --namespace %s rollout restart deployment coredns\n", d.DNS.Namespace)
	}
	_, err = io.WriteString(w, next)
	return err
}

// corefileError returns an error of the flag if the ConfigMap has no Corefile.
func corefileError(err error) error {
	var missing *dns.NoCorefileError
	if errors.As(err, &missing) {
		return config.FlagErrorf("configmap", "see docs/dns.md for clusters whose DNS is another", "%v", err)
	}
	return err
}

func connectDNS(d config.DNS) (*dns.Cluster, error) {
	clients, err := newClients(d.Kubernetes.Kubeconfig)
	if err != nil {
		return nil, err
	}
	return &dns.Cluster{Client: clients.requests, Namespace: d.Namespace, ConfigMap: d.ConfigMap, Custom: d.CustomConfigMap}, nil
}
