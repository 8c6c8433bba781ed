package config

import (
	"time"

	"github.com/spf13/pflag"
)

// Probe is the settings of the readiness probe.
type Probe struct {
	Target      string        // base URL that pods use
	AdminListen string        // IP:PORT of the daemon's admin server
	Timeout     time.Duration // of all requests together
}

// Flags implements [Settings].
func (p *Probe) Flags() []Group {
	return []Group{newGroup("Requests", func(f *pflag.FlagSet) {
		f.StringVar(&p.Target, "target", standardTarget, "`URL` that pods send requests to")
		ipPortVar(f, &p.AdminListen, "admin-listen", standardAdminListen, "`IP:PORT` of the daemon's health and readiness")
		f.DurationVar(&p.Timeout, "timeout", 2*time.Second, "longest duration of all requests together")
	})}
}

// Complete implements [Settings].
func (p *Probe) Complete() error {
	if _, err := parseTarget(p.Target); err != nil {
		return err
	}
	if err := checkIPPort("admin-listen", p.AdminListen, standardAdminListen); err != nil {
		return err
	}
	if p.Timeout <= 0 {
		return FlagErrorf("timeout", "use 2s", "%s is not a positive duration", p.Timeout)
	}
	return nil
}
