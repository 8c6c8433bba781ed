package daemon

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gke-metadata-emulator/internal/facts"
	"gke-metadata-emulator/tokens"
)

// FlagError is a setting that is wrong or contradicts another.
type FlagError struct {
	Flag    string // without dashes
	Problem string
	Remedy  string
}

func (e *FlagError) Error() string {
	return fmt.Sprintf("--%s: %s; %s", e.Flag, e.Problem, e.Remedy)
}

// FlagErrorf returns a [*FlagError] on one line; errors of YAML have several.
func FlagErrorf(flag, remedy, format string, args ...any) error {
	return &FlagError{Flag: flag, Problem: strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "), Remedy: remedy}
}

// The values of --credentials.
const (
	Federation    = "federation"
	Impersonation = "impersonation"
	Fake          = "fake"
)

// The values of --impersonation-policy.
const (
	PolicyIAM  = "iam"
	PolicyFile = "file"
	PolicyOff  = "off"
)

// MetadataAddress is where software looks for the metadata server.
const MetadataAddress = "169.254.169.254"

// Logging says what is logged and how.
type Logging struct {
	Level  string // debug, info, warn, error
	Format string // text, json
}

// Project says where the metadata server claims to be.
type Project struct {
	ID              string
	Number          string
	WorkloadPool    string
	ClusterName     string
	ClusterLocation string
	Zone            string
	UniverseDomain  string
	AttributesFile  string

	zoneGiven  bool // it does not follow from the cluster's location
	attributes facts.Attributes
}

// Google says where Google's services are.
type Google struct {
	STS            string
	IAMCredentials string
	IAM            string
	FakeListen     string // where the built-in fake listens
}

// Serve is the settings of [Serve.Run], the daemon of a node.
type Serve struct {
	Project
	Google
	Logging

	NodeName   string
	Kubeconfig string

	Listen       string
	AdminListen  string
	IdentityWait time.Duration
	Routing      string
	Interface    string
	BPFFS        string // where the redirect of --routing=ebpf is kept
	Attestation  string
	CgroupRoot   string // empty for the usual places
	StartupTaint string // the key; empty where there is none
	Prefetch     bool   // ask for the tokens of pods before they do
	OTLPEndpoint string // base URL of a collector of traces; empty where there is none
	Events       bool   // say on pods why they get no token

	DMIProductName string // the file that containers see as their DMI product name; empty where it is left alone
	DMIOriginal    string // where what it held is kept

	Credentials       string
	Provider          string
	SourceCredentials string
	Delegates         string // e-mail addresses, with commas between
	Policy            string
	PolicyFile        string
	NamespaceGSAs     string // NAMESPACE=PATTERN,… with spaces between
	MaxScopes         string // with commas between
	MaxTokenLife      time.Duration
	AuditLog          string // a file, - for standard output, empty for none
	HandoverFile      string // where the tokens are left for the next instance; empty where they are not
	HandoverKeyFile   string

	limits, rules *tokens.Rules // of the flags and of the file

	// Listening is told the addresses that pods and operators connect to, once
	// they can; nil where nobody wants to know.
	Listening func(pods, admin net.Addr)
}

const (
	fakeProjectID     = "demo-project"
	fakeProjectNumber = "123456789012"
	fakePool          = "//iam.googleapis.com/projects/" + fakeProjectNumber + "/locations/global/workloadIdentityPools/demo-pool"
	fakeProvider      = fakePool + "/providers/demo-provider"
)

var (
	projectID     = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	projectNumber = regexp.MustCompile(`^[1-9][0-9]*$`)
	providerName  = regexp.MustCompile(`^//iam\.googleapis\.com/projects/([0-9]+)/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$`)
	location      = regexp.MustCompile(`^[a-z0-9]+-[a-z0-9]+(-[a-z0-9]+)?$`)
	domain        = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
)

// Complete fills in what follows from other settings, and returns a [*FlagError]
// for the first that is wrong or contradicts another.
func (s *Serve) Complete() error {
	if err := oneOf("credentials", s.Credentials, Federation, Impersonation, Fake); err != nil {
		return err
	}
	if s.NodeName == "" {
		return FlagErrorf("node-name", "set it to the node's name, in a pod by the downward API (spec.nodeName)", "is needed to watch the pods of this node only")
	}
	for _, complete := range []func() error{s.credentials, s.policy, s.project, s.checkRouting, s.checkAttestation, s.addresses, s.checkStartupTaint, s.checkProductName, s.checkTracing, s.checkHandover, s.Logging.check} {
		if err := complete(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Serve) credentials() error {
	if s.Credentials != Impersonation && s.SourceCredentials != "" {
		return FlagErrorf("source-credentials", "use --credentials=impersonation or leave it out", "is not used with --credentials=%s", s.Credentials)
	}
	if s.Credentials == Fake {
		for _, e := range s.endpoints() {
			if *e.url != "" {
				return FlagErrorf(e.flag+"-endpoint", "leave it out, or use --credentials=federation", "contradicts --credentials=fake, which brings its own")
			}
		}
		s.ID, s.Number = cmp.Or(s.ID, fakeProjectID), cmp.Or(s.Number, fakeProjectNumber)
		s.Provider = cmp.Or(s.Provider, fakeProvider)
	} else if s.FakeListen != "" {
		return FlagErrorf("fake-listen", "use --credentials=fake or leave it out", "is not used with --credentials=%s", s.Credentials)
	}
	s.FakeListen = cmp.Or(s.FakeListen, "127.0.0.1:0")
	if s.Credentials == Federation && s.Provider == "" {
		return FlagErrorf("workload-identity-provider", "see docs/federation.md, or use --credentials=impersonation on a laptop", "is needed with --credentials=federation")
	}
	if s.Provider != "" && !providerName.MatchString(s.Provider) {
		return FlagErrorf("workload-identity-provider", "give //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER", "%q is not the full name of a provider", s.Provider)
	}
	return nil
}

func (s *Serve) policy() error {
	if s.Credentials != Impersonation && s.Policy != "" {
		return FlagErrorf("impersonation-policy", "use --credentials=impersonation or leave it out", "is not used with --credentials=%s, where Google's IAM decides", s.Credentials)
	}
	s.Policy = cmp.Or(s.Policy, PolicyIAM)
	if err := oneOf("impersonation-policy", s.Policy, PolicyIAM, PolicyFile, PolicyOff); err != nil {
		return err
	}
	if s.Policy == PolicyFile && s.PolicyFile == "" {
		return FlagErrorf("policy-file", "give the path of a file of rules", "is needed with --impersonation-policy=file")
	}
	if s.Credentials != Impersonation && s.Delegates != "" {
		return FlagErrorf("delegates", "use the annotation iam.gke.io/gcp-service-account-delegates", "is not used with --credentials=%s", s.Credentials)
	}
	return s.readLimits()
}

func (s *Serve) project() error {
	if s.Number == "" && s.Credentials == Federation {
		s.Number = providerName.FindStringSubmatch(s.Provider)[1]
	}
	if err := s.Project.complete(); err != nil {
		return err
	}
	return s.Google.complete(s.UniverseDomain)
}

func (p *Project) complete() error {
	if p.ID == "" {
		return FlagErrorf("project-id", "give the ID of the Google project that the pods work in", "is needed")
	}
	if !projectID.MatchString(p.ID) {
		return FlagErrorf("project-id", "give the ID, not the number or the name", "%q is not the ID of a Google project", p.ID)
	}
	if p.Number == "" {
		return FlagErrorf("project-number", "gcloud projects describe "+p.ID+" --format='value(projectNumber)'", "is needed")
	}
	if !projectNumber.MatchString(p.Number) {
		return FlagErrorf("project-number", "gcloud projects describe "+p.ID+" --format='value(projectNumber)'", "%q is not a number", p.Number)
	}
	if p.ClusterName == "" {
		return FlagErrorf("cluster-name", "leave it out for kubernetes", "is empty, so that software that asks for it would be told to wait for ever")
	}
	if !location.MatchString(p.ClusterLocation) {
		return FlagErrorf("cluster-location", "give a region (europe-west1) or a zone (europe-west1-b)", "%q is neither, and software that reads it fails on other forms", p.ClusterLocation)
	}
	p.zoneGiven = p.Zone != ""
	if !p.zoneGiven {
		p.Zone = p.ClusterLocation
		if strings.Count(p.Zone, "-") == 1 {
			p.Zone += "-a"
		}
	}
	if !location.MatchString(p.Zone) || strings.Count(p.Zone, "-") != 2 {
		return FlagErrorf("zone", "give one like europe-west1-b", "%q is not a zone", p.Zone)
	}
	if !domain.MatchString(p.UniverseDomain) {
		return FlagErrorf("universe-domain", "give a bare domain like googleapis.com", "%q is not a domain", p.UniverseDomain)
	}
	p.WorkloadPool = cmp.Or(p.WorkloadPool, p.ID+".svc.id.goog")
	return p.readAttributes()
}

func (g *Google) complete(universe string) error {
	for _, e := range g.endpoints() {
		usual := "https://" + strings.ReplaceAll(e.flag, "-", "") + "." + universe
		*e.url = strings.TrimSuffix(cmp.Or(*e.url, usual), "/")
		u, err := url.Parse(*e.url)
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			return FlagErrorf(e.flag+"-endpoint", "give one like "+usual, "%q is not a URL", *e.url)
		}
		if u.Scheme == "http" && !isLoopback(u.Hostname()) {
			return FlagErrorf(e.flag+"-endpoint", "use https", "%q would send tokens in the clear", *e.url)
		}
	}
	return nil
}

type endpoint struct {
	flag string // without -endpoint
	url  *string
}

func (g *Google) endpoints() []endpoint {
	return []endpoint{{"sts", &g.STS}, {"iam-credentials", &g.IAMCredentials}, {"iam", &g.IAM}}
}

func (s *Serve) addresses() error {
	if err := hostPort("admin-listen", s.AdminListen); err != nil {
		return err
	}
	if s.AdminListen == s.Listen && !strings.HasSuffix(s.Listen, ":0") {
		return FlagErrorf("admin-listen", "use another port", "%s is --listen too, and pods must not reach it", s.AdminListen)
	}
	if err := hostPort("fake-listen", s.FakeListen); err != nil {
		return err
	}
	if s.IdentityWait <= 0 || s.IdentityWait > 20*time.Second {
		return FlagErrorf("identity-wait", "use 2.5s: Node's library gives up after 3s", "%s is not between 0 and 20s", s.IdentityWait)
	}
	return nil
}

func (l Logging) check() error {
	if err := oneOf("log-level", l.Level, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	return oneOf("log-format", l.Format, "text", "json")
}

func oneOf(flag, value string, values ...string) error {
	if slices.Contains(values, value) {
		return nil
	}
	return FlagErrorf(flag, "use one of "+strings.Join(values, ", "), "%q is not known", value)
}

func hostPort(flag, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) == nil {
		return FlagErrorf(flag, "give one like 127.0.0.1:8989", "%q is not IP:PORT", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return FlagErrorf(flag, "give a port from 0 to 65535", "%q is not IP:PORT", address)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readFile names the flag that asked for the file.
func readFile(flag, path string) ([]byte, error) {
	document, err := os.ReadFile(path)
	if err != nil {
		return nil, FlagErrorf(flag, "give the path of a file that can be read", "%v", err)
	}
	return document, nil
}
