// Command coredns is CoreDNS with the plugins that a cluster's Corefile uses,
// and without those that bring the SDKs of clouds with them.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order in which plugins see a query, as in CoreDNS's plugin.cfg.
	dnsserver.Directives = []string{
		"reload", "health", "ready", "errors", "log", "cache", "rewrite",
		"template", "hosts", "kubernetes", "loop",
	}
	coremain.Run()
}
