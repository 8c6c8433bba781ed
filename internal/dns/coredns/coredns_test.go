// Package coredns tests the configuration of internal/dns with the real CoreDNS. It is
// a module of its own, so the product does not depend on CoreDNS.
package coredns

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
	miekg "github.com/miekg/dns"

	"gke-metadata-emulator/internal/dns"
)

// kubernetesPlugin is the only part of the Corefiles that needs a cluster.
var kubernetesPlugin = regexp.MustCompile(`(?ms)^ +kubernetes [^{\n]*\{.*?\n *\}\n`)

var (
	serverBlock = regexp.MustCompile(`(?m)^\S.* \{$`) // its first line has zones with ports
	zonePort    = regexp.MustCompile(`:[0-9]+`)
)

// onAnyPort lets the kernel choose the ports of a configuration.
func onAnyPort(text string) string {
	return serverBlock.ReplaceAllStringFunc(text, func(line string) string { return zonePort.ReplaceAllString(line, ":0") })
}

// upstream is a DNS server that resolves every name to an address of its own.
func upstream(t *testing.T) string {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &miekg.Server{PacketConn: packets, Handler: miekg.HandlerFunc(func(w miekg.ResponseWriter, r *miekg.Msg) {
		m := new(miekg.Msg).SetReply(r)
		if r.Question[0].Qtype == miekg.TypeA {
			rr, _ := miekg.NewRR(r.Question[0].Name + " 60 IN A 192.0.2.1")
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
	return packets.LocalAddr().String()
}

// start runs CoreDNS with the configuration and returns its address by network.
func start(t *testing.T, config dns.Config) map[string]string {
	t.Helper()
	folder := t.TempDir()
	for key, text := range config.Custom {
		if err := os.MkdirAll(filepath.Join(folder, "custom"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "custom", key), []byte(onAnyPort(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	corefile := kubernetesPlugin.ReplaceAllString(onAnyPort(config.Corefile), "")
	corefile = regexp.MustCompile(`import \S*custom/`).ReplaceAllString(corefile, "import "+folder+"/custom/")
	corefile = strings.NewReplacer("/etc/resolv.conf", upstream(t), "/etc/coredns/NodeHosts", "/dev/null",
		"prometheus :9153", "prometheus 127.0.0.1:0", "prometheus 0.0.0.0:9153", "prometheus 127.0.0.1:0").Replace(corefile)
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(corefile), Filepath: filepath.Join(folder, "Corefile"), ServerTypeName: "dns"})
	if err != nil {
		t.Fatalf("%v\n%s", err, corefile)
	}
	t.Cleanup(func() { _ = instance.Stop() })
	for _, server := range instance.Servers() {
		if server.LocalAddr() != nil {
			return map[string]string{"udp": loopback(server.LocalAddr()), "tcp": loopback(server.Addr())}
		}
	}
	t.Fatal("CoreDNS does not listen")
	return nil
}

func loopback(address net.Addr) string {
	_, port, _ := net.SplitHostPort(address.String())
	return "127.0.0.1:" + port
}

func TestCoreDNS_ResolvesMetadataServer(t *testing.T) {
	dnsserver.Quiet = true
	caddy.Quiet = true
	for name, custom := range map[string]map[string]string{
		"kind": nil, "kubeadm": nil, "minikube": nil,
		"k3s": {}, "aks": {}, "gardener": {"changeme.server": "# checkout the docs", "changeme.override": "# checkout the docs"},
	} {
		t.Run(name, func(t *testing.T) {
			corefile, err := os.ReadFile(filepath.Join("..", "testdata", name+".Corefile"))
			if err != nil {
				t.Fatal(err)
			}
			config, err := dns.Install(dns.Config{Corefile: string(corefile), Custom: custom})
			if err != nil {
				t.Fatal(err)
			}
			addresses := start(t, config)
			for _, query := range []struct {
				name  string
				kind  uint16
				rcode int
				want  string // the address; empty for an answer without one
			}{
				{"metadata.google.internal.", miekg.TypeA, miekg.RcodeSuccess, "169.254.169.254"},
				{"Metadata.Google.INTERNAL.", miekg.TypeA, miekg.RcodeSuccess, "169.254.169.254"},
				{"metadata.", miekg.TypeA, miekg.RcodeSuccess, "169.254.169.254"},
				{"metadata.google.internal.", miekg.TypeAAAA, miekg.RcodeSuccess, ""},
				{"metadata.", miekg.TypeAAAA, miekg.RcodeSuccess, ""},
				{"metadata.google.internal.", miekg.TypeHTTPS, miekg.RcodeSuccess, ""},
				{"x.metadata.google.internal.", miekg.TypeA, miekg.RcodeNameError, ""},
				{"google.internal.", miekg.TypeA, miekg.RcodeSuccess, "192.0.2.1"},
				{"example.org.", miekg.TypeA, miekg.RcodeSuccess, "192.0.2.1"},
			} {
				for _, network := range []string{"udp", "tcp"} { // the upstream answers only by UDP; TCP gets its cached answer
					client := &miekg.Client{Net: network, Timeout: 5 * time.Second}
					answer, _, err := client.ExchangeContext(t.Context(), new(miekg.Msg).SetQuestion(query.name, query.kind), addresses[network])
					if err != nil {
						t.Errorf("%s: %v", query.name, err)
						continue
					}
					var got []string
					for _, rr := range answer.Answer {
						if a, ok := rr.(*miekg.A); ok {
							got = append(got, a.A.String())
						} else {
							got = append(got, fmt.Sprint(rr))
						}
					}
					var want []string
					if query.want != "" {
						want = []string{query.want}
					}
					if answer.Rcode != query.rcode || !slices.Equal(got, want) {
						t.Errorf("%s %s by %s: %s %v, want %s %v", query.name, miekg.TypeToString[query.kind], network,
							miekg.RcodeToString[answer.Rcode], got, miekg.RcodeToString[query.rcode], want)
					}
				}
			}
		})
	}
}
