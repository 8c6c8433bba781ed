package config

import "github.com/spf13/pflag"

// DNS identifies the cluster and the ConfigMaps of its CoreDNS.
type DNS struct {
	Kubernetes      Kubernetes
	Namespace       string
	ConfigMap       string
	CustomConfigMap string
}

const (
	standardDNSNamespace    = "kube-system"
	standardConfigMap       = "coredns"
	standardCustomConfigMap = "coredns-custom"
)

func (d *DNS) flags(f *pflag.FlagSet) {
	d.Kubernetes.flags(f)
	f.StringVar(&d.Namespace, "namespace", standardDNSNamespace, "`namespace` of CoreDNS")
	f.StringVar(&d.ConfigMap, "configmap", standardConfigMap, "`name` of the ConfigMap that contains the Corefile")
	f.StringVar(&d.CustomConfigMap, "custom-configmap", standardCustomConfigMap, "`name` of the ConfigMap with custom server blocks, for a Corefile that imports custom/*.server")
}

func (d *DNS) group() Group { return newGroup("The cluster", d.flags) }

func (d *DNS) check() error {
	for _, name := range []struct{ flag, value, standard string }{
		{"namespace", d.Namespace, standardDNSNamespace}, {"configmap", d.ConfigMap, standardConfigMap}, {"custom-configmap", d.CustomConfigMap, standardCustomConfigMap},
	} {
		if name.value == "" {
			return FlagErrorf(name.flag, "leave it out for "+name.standard, "is empty")
		}
	}
	return nil
}

// DNSStatus is the settings of dns status.
type DNSStatus struct {
	DNS DNS
}

// Flags implements [Settings].
func (d *DNSStatus) Flags() []Group { return []Group{d.DNS.group()} }

// Complete implements [Settings].
func (d *DNSStatus) Complete() error { return d.DNS.check() }

// DNSEdit is the settings of dns install and dns uninstall.
type DNSEdit struct {
	Yes, DryRun bool
	DNS         DNS
}

// NewDNSEdit returns the defaults of the flags.
func NewDNSEdit() *DNSEdit {
	d := &DNSEdit{}
	d.Flags()
	return d
}

// Flags implements [Settings].
func (d *DNSEdit) Flags() []Group {
	return []Group{newGroup("The change", func(f *pflag.FlagSet) {
		f.BoolVar(&d.Yes, "yes", false, "make the change; without --yes or --dry-run, the change is only printed, with exit code 2")
		f.BoolVar(&d.DryRun, "dry-run", false, "only print the change, with exit code 0")
	}), d.DNS.group()}
}

// Complete implements [Settings].
func (d *DNSEdit) Complete() error {
	if err := d.DNS.check(); err != nil {
		return err
	}
	if d.Yes && d.DryRun {
		return FlagErrorf("dry-run", "use one of them", "contradicts --yes")
	}
	return nil
}
