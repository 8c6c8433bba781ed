package config

import (
	"strings"

	"github.com/spf13/pflag"
)

const (
	standardAdminListen = "127.0.0.1:8989"
	adminListenUsage    = "`IP:PORT` of health, readiness and metrics"
)

// Listen is the addresses of the metadata server and of its admin server, as IP:PORT.
// Port 0 is any free port.
type Listen struct {
	Address string
	Admin   string
}

func (l *Listen) flags(f *pflag.FlagSet, standard, usage string) {
	ipPortVar(f, &l.Address, "listen", standard, usage)
	ipPortVar(f, &l.Admin, "admin-listen", standardAdminListen, adminListenUsage)
}

// check takes the default of --listen, which is the example in the error's remedy.
func (l *Listen) check(standard string) error {
	if err := checkIPPort("listen", l.Address, standard); err != nil {
		return err
	}
	if err := checkIPPort("admin-listen", l.Admin, standardAdminListen); err != nil {
		return err
	}
	if l.Admin == l.Address && !strings.HasSuffix(l.Address, ":0") {
		return FlagErrorf("admin-listen", "use another port", "%s is --listen too, and pods must not reach it", l.Admin)
	}
	return nil
}
