package config

import (
	"time"

	"github.com/spf13/pflag"
)

const maxFakeTokenLife = time.Hour

// FakeGoogle is the settings of the offline Google as a server of its own.
type FakeGoogle struct {
	Listen    string
	State     string // path of a file; empty: no state
	AllowAll  bool
	TokenLife time.Duration

	Logging Logging
}

// Flags implements [Settings].
func (g *FakeGoogle) Flags() []Group {
	return []Group{newGroup("The fake", g.flags), g.Logging.group()}
}

func (g *FakeGoogle) flags(f *pflag.FlagSet) {
	ipPortVar(f, &g.Listen, "listen", standardFakeListen, "`IP:PORT` of all endpoints")
	f.StringVar(&g.State, "state", "", "`file` of providers, service accounts, bindings and users, see docs/fakegoogle.md")
	f.BoolVar(&g.AllowAll, "allow-all", false, "let every principal use every service account")
	f.DurationVar(&g.TokenLife, "token-life", maxFakeTokenLife, "lifetime (TTL) of the tokens, up to 1h")
}

// Complete implements [Settings].
func (g *FakeGoogle) Complete() error {
	if err := checkIPPort("listen", g.Listen, standardFakeListen); err != nil {
		return err
	}
	if g.TokenLife <= 0 || g.TokenLife > maxFakeTokenLife {
		return FlagErrorf("token-life", "use 1h or less", "%s is not between 0 and 1h", g.TokenLife)
	}
	return g.Logging.check()
}
