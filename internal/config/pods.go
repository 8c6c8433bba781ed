package config

import (
	"regexp"
	"time"

	"github.com/spf13/pflag"
)

const maxIdentityWait = 20 * time.Second

// identityWaitForm is the form of --identity-wait in the Helm chart: positive, and no
// more than maxIdentityWait.
var identityWaitForm = regexp.MustCompile(`^(([1-9][0-9]{0,3}|1[0-9]{4}|20000)ms|(0\.[0-9]*[1-9][0-9]*|([1-9]|1[0-9])(\.[0-9]+)?|20(\.0+)?)s)$`)

// Pods has the services of the daemon for the pods of its node.
type Pods struct {
	Events       bool
	Prefetch     bool
	IdentityWait time.Duration // of a request whose pod the API server has not announced
}

func (p *Pods) flags(f *pflag.FlagSet) {
	f.BoolVar(&p.Events, "events", true, "write a Kubernetes event to a pod that gets no identity or no token, with the reason and the remedy")
	f.BoolVar(&p.Prefetch, "prefetch", true, "request the access tokens of each pod whose KSA is linked to a GSA (with the default scopes, and for cloud-platform) when the pod is bound to the node, so they are cached before its containers start")
	f.DurationVar(&p.IdentityWait, "identity-wait", 2500*time.Millisecond, "how long a request waits for the API server to announce its pod, before it is answered with 503")
	setPattern(f, "identity-wait", identityWaitForm)
}

func (p *Pods) check() error {
	if p.IdentityWait <= 0 || p.IdentityWait > maxIdentityWait {
		return FlagErrorf("identity-wait", "use 2.5s: Node's library gives up after 3s", "%s is not between 0 and %s", p.IdentityWait, maxIdentityWait)
	}
	return nil
}
