package config

import (
	"cmp"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/pflag"
)

const (
	anyFreePort        = "127.0.0.1:0"
	standardFakeListen = "127.0.0.1:8988"
)

// Google is the addresses of Google's services.
type Google struct {
	STS            string // base URL
	IAMCredentials string // base URL
	IAM            string // base URL
	FakeListen     string // IP:PORT of the built-in fake Google
}

func (g *Google) flags(f *pflag.FlagSet) {
	g.endpointFlags(f)
	ipPortVar(f, &g.FakeListen, "fake-listen", "", "`IP:PORT` of the built-in fake Google of --credentials=fake (default: a free port on loopback)")
}

func (g *Google) endpointFlags(f *pflag.FlagSet) {
	for _, e := range g.endpoints() {
		f.StringVar(e.url, e.flag, "", "`URL` of "+e.service+" (default: https://"+e.host+".UNIVERSE_DOMAIN)")
		setPattern(f, e.flag, httpURL)
	}
}

type endpoint struct {
	flag, service, host string
	url                 *string
}

func (g *Google) endpoints() []endpoint {
	return []endpoint{
		{"sts-endpoint", "the Security Token Service", "sts", &g.STS},
		{"iam-credentials-endpoint", "IAM Credentials", "iamcredentials", &g.IAMCredentials},
		{"iam-endpoint", "IAM", "iam", &g.IAM},
	}
}

// complete takes the kind of credentials, and the kind that the command has for the real
// Google.
func (g *Google) complete(credentials, realKind, universe string) error {
	if credentials != Fake && g.FakeListen != "" {
		return FlagErrorf("fake-listen", "use --credentials=fake or leave it out", "is not used with --credentials=%s", credentials)
	}
	g.FakeListen = cmp.Or(g.FakeListen, anyFreePort)
	if err := checkIPPort("fake-listen", g.FakeListen, standardFakeListen); err != nil {
		return err
	}
	for _, e := range g.endpoints() {
		if credentials == Fake && *e.url != "" {
			return FlagErrorf(e.flag, "leave it out, or use --credentials="+realKind, "contradicts --credentials=fake, which brings its own")
		}
	}
	return g.completeEndpoints(universe)
}

// completeEndpoints fills in the URLs of the services, and of more than these.
func (g *Google) completeEndpoints(universe string, more ...endpoint) error {
	for _, e := range append(g.endpoints(), more...) {
		standard := "https://" + e.host + "." + universe
		*e.url = strings.TrimSuffix(cmp.Or(*e.url, standard), "/")
		if !isHTTPURL(*e.url) {
			return FlagErrorf(e.flag, "give one like "+standard, "%q is not a URL", *e.url)
		}
		if u, err := url.Parse(*e.url); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			return FlagErrorf(e.flag, "use https", "%q would send tokens unencrypted", *e.url)
		}
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
