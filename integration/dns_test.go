package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
	"gke-metadata-emulator/internal/dns"
)

// coredns is a cluster's DNS configuration in a namespace of the test's own.
type coredns struct {
	t         testing.TB
	namespace string
}

func newCoreDNS(t testing.TB, distribution string) *coredns {
	t.Helper()
	corefile, err := os.ReadFile("../internal/dns/testdata/" + distribution + ".Corefile")
	if err != nil {
		t.Fatal(err)
	}
	c := &coredns{t, cluster.Namespace(t, "dns-")}
	c.create("coredns", map[string]string{"Corefile": string(corefile), "NodeHosts": "kept"}, map[string]string{"label": "kept"})
	return c
}

func (c *coredns) create(name string, data, labels map[string]string) {
	c.t.Helper()
	_, err := cluster.Client.CoreV1().ConfigMaps(c.namespace).Create(c.t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: data}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}

// data is the data of a ConfigMap, nil if there is none.
func (c *coredns) data(name string) map[string]string {
	c.t.Helper()
	m, err := cluster.Client.CoreV1().ConfigMaps(c.namespace).Get(c.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if m.Data == nil {
		m.Data = map[string]string{}
	}
	return m.Data
}

// run runs a command of dns and returns its output.
func (c *coredns) run(command func(context.Context, *config.DNSEdit, io.Writer) error, change ...func(*config.DNSEdit)) (string, error) {
	c.t.Helper()
	d := config.NewDNSEdit()
	d.DNS.Kubernetes.Kubeconfig, d.DNS.Namespace, d.Yes = cluster.Kubeconfig(), c.namespace, true
	for _, f := range change {
		f(d)
	}
	if err := d.Complete(); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	var printed bytes.Buffer
	err := command(ctx, d, &printed)
	return printed.String(), err
}

func status(ctx context.Context, d *config.DNSEdit, w io.Writer) error {
	return daemon.DNSStatus(ctx, &config.DNSStatus{DNS: d.DNS}, w)
}

// Each way that clusters keep their DNS configuration: shown, changed, changed back.
func TestDNS_InstallAndUninstall(t *testing.T) {
	for name, test := range map[string]struct {
		distribution string
		custom       map[string]string // nil: there is none
		in, key      string            // of the server block
	}{
		"kind":                          {"kind", nil, "coredns", dns.Corefile},
		"minikube":                      {"minikube", nil, "coredns", dns.Corefile},
		"k3s without custom ConfigMap":  {"k3s", nil, "coredns-custom", dns.ServerKey},
		"AKS with an empty one":         {"aks", map[string]string{}, "coredns-custom", dns.ServerKey},
		"AKS with another server block": {"aks", map[string]string{"custom.server": "example.org {\n}\n", "log.override": "log"}, "coredns-custom", dns.ServerKey},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCoreDNS(t, test.distribution)
			if test.custom != nil {
				c.create("coredns-custom", test.custom, nil)
			}
			before, custom := c.data("coredns"), c.data("coredns-custom")
			unchanged := func(when string) {
				t.Helper()
				now, nowCustom := c.data("coredns"), c.data("coredns-custom")
				if !maps.Equal(before, now) || !maps.Equal(custom, nowCustom) || (custom == nil) != (nowCustom == nil) {
					t.Errorf("%s: %q and %q, were %q and %q", when, now, nowCustom, before, custom)
				}
			}
			if _, err := c.run(status); err == nil || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("status: %v", err)
			}
			shown, err := c.run(daemon.InstallDNS, func(d *config.DNSEdit) { d.Yes, d.DryRun = false, true })
			if err != nil || !strings.Contains(shown, "+metadata.google.internal:53 metadata:53 {\n") {
				t.Errorf("%v\n%s", err, shown)
			}
			unchanged("after a dry run")
			var refused *config.FlagError
			if repeated, err := c.run(daemon.InstallDNS, func(d *config.DNSEdit) { d.Yes = false }); !errors.As(err, &refused) || refused.Flag != "yes" || repeated != shown {
				t.Errorf("without --yes: %v\n%s", err, repeated)
			}
			unchanged("without --yes")

			done, err := c.run(daemon.InstallDNS)
			if err != nil || done != shown+"CoreDNS reloads its configuration within two minutes.\n" {
				t.Errorf("%v\n%s", err, done)
			}
			if text := c.data(test.in)[test.key]; !strings.Contains(text, "\nmetadata.google.internal:53 metadata:53 {\n") {
				t.Errorf("%s is %q", test.key, text)
			}
			if output, err := c.run(status); err != nil || output != "The cluster's DNS answers for the metadata server.\n" {
				t.Errorf("status: %v %q", err, output)
			}
			if repeated, err := c.run(daemon.InstallDNS); err != nil || repeated != "Nothing to change.\n" {
				t.Errorf("second install: %v\n%s", err, repeated)
			}
			if _, err := c.run(daemon.UninstallDNS); err != nil {
				t.Error(err)
			}
			unchanged("after uninstall")
			if repeated, err := c.run(daemon.UninstallDNS); err != nil || repeated != "Nothing to change.\n" {
				t.Errorf("second uninstall: %v\n%s", err, repeated)
			}
		})
	}
}

// Concurrent changes to the same ConfigMap are not lost.
func TestDNS_KeepsConcurrentChanges(t *testing.T) {
	for _, distribution := range []string{"kind", "aks"} {
		t.Run(distribution, func(t *testing.T) {
			c := newCoreDNS(t, distribution)
			c.create("coredns-custom", map[string]string{}, nil)
			stop, stopped := make(chan struct{}), sync.WaitGroup{}
			wrote := 0
			stopped.Go(func() {
				pace := time.NewTicker(20 * time.Millisecond)
				defer pace.Stop()
				for {
					select {
					case <-stop:
						return
					case <-pace.C:
					}
					for _, name := range []string{"coredns", "coredns-custom"} {
						err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
							m, err := cluster.Client.CoreV1().ConfigMaps(c.namespace).Get(t.Context(), name, metav1.GetOptions{})
							if err != nil {
								return err
							}
							if m.Data == nil {
								m.Data = map[string]string{}
							}
							m.Data["others"] += "x"
							_, err = cluster.Client.CoreV1().ConfigMaps(c.namespace).Update(t.Context(), m, metav1.UpdateOptions{})
							return err
						})
						if err == nil {
							wrote++
						}
					}
				}
			})
			for range 5 {
				if _, err := c.run(daemon.InstallDNS); err != nil {
					t.Error(err)
				}
				if _, err := c.run(status); err != nil {
					t.Error(err)
				}
				if _, err := c.run(daemon.UninstallDNS); err != nil {
					t.Error(err)
				}
			}
			close(stop)
			stopped.Wait()
			if got := len(c.data("coredns")["others"]) + len(c.data("coredns-custom")["others"]); got != wrote || wrote == 0 {
				t.Errorf("%d changes of others are there, of %d", got, wrote)
			}
		})
	}
}

func TestDNS_UnknownConfigurationIsLeftAlone(t *testing.T) {
	c := newCoreDNS(t, "kind")
	const odd = ".:53 {\n    bind 169.254.20.10\n}\n"
	c.create("odd", map[string]string{"Corefile": odd}, nil)
	c.create("kube-dns", map[string]string{"stubDomains": "{}"}, nil)
	for name, text := range map[string]string{"odd": "line 2: the server block binds its own addresses", "kube-dns": "kube-dns has no key Corefile", "nosuch": "not found"} {
		if _, err := c.run(daemon.InstallDNS, func(d *config.DNSEdit) { d.DNS.ConfigMap = name }); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", name, err, text)
		}
	}
	if got := c.data("odd")["Corefile"]; got != odd {
		t.Error(got)
	}
}
