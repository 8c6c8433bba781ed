package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAWrongSettingOfServeIsAnErrorOfItsFlag(t *testing.T) {
	for _, test := range []struct {
		name  string
		of    func() *Serve // federation where nil
		spoil func(*Serve)
		flag  string
		text  string
	}{
		{"unknown credentials", nil, func(s *Serve) { s.Credentials = "magic" }, "credentials", `"magic" is not known; use one of federation, impersonation, fake`},
		{"no credentials", nil, func(s *Serve) { s.Credentials = "" }, "credentials", `use one of`},
		{"no node", nil, func(s *Serve) { s.NodeName = "" }, "node-name", "spec.nodeName"},

		{"federation without a provider", nil, func(s *Serve) { s.Provider = "" }, "workload-identity-provider", "is needed with --credentials=federation"},
		{"a provider's URL", nil, func(s *Serve) { s.Provider = "https:" + testProvider }, "workload-identity-provider", "give //iam.googleapis.com/projects/NUMBER"},
		{"a provider by project ID", nil, func(s *Serve) {
			s.Provider = "//iam.googleapis.com/projects/prod-project/locations/global/workloadIdentityPools/p/providers/q"
		}, "workload-identity-provider", "is not the full name of a provider"},
		{"a pool in the provider's place", nil, func(s *Serve) {
			s.Provider = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p"
		}, "workload-identity-provider", "is not the full name of a provider"},
		{"a provider with a line break", nil, func(s *Serve) { s.Provider = testProvider + "\n" }, "workload-identity-provider", `\n" is not`},
		{"a source credential with federation", nil, func(s *Serve) { s.SourceCredentials = "key.json" }, "source-credentials", "is not used with --credentials=federation"},
		{"a source credential with the fake", faked, func(s *Serve) { s.SourceCredentials = "key.json" }, "source-credentials", "is not used with --credentials=fake"},
		{"an endpoint with the fake", faked, func(s *Serve) { s.STS = "https://sts.example.com" }, "sts-endpoint", "contradicts --credentials=fake"},
		{"another endpoint with the fake", faked, func(s *Serve) { s.IAMCredentials = "https://iam.example.com" }, "iam-credentials-endpoint", "contradicts --credentials=fake"},
		{"the third endpoint with the fake", faked, func(s *Serve) { s.IAM = "https://iam.example.com" }, "iam-endpoint", "contradicts --credentials=fake"},
		{"the fake's address without the fake", nil, func(s *Serve) { s.FakeListen = "127.0.0.1:1" }, "fake-listen", "is not used with --credentials=federation"},
		{"the fake's address that is none", faked, func(s *Serve) { s.FakeListen = "fake" }, "fake-listen", `"fake" is not IP:PORT`},

		{"a policy with federation", nil, func(s *Serve) { s.Policy = PolicyOff }, "impersonation-policy", "where Google's IAM decides"},
		{"an unknown policy", impersonation, func(s *Serve) { s.Policy = "maybe" }, "impersonation-policy", "use one of iam, file, off"},
		{"a file of rules that is missing", impersonation, func(s *Serve) { s.Policy = PolicyFile }, "policy-file", "is needed with --impersonation-policy=file"},
		{"delegates with federation", nil, func(s *Serve) { s.Delegates = "a@p.iam.gserviceaccount.com" }, "delegates", "is not used with --credentials=federation"},
		{"delegates that are none", impersonation, func(s *Serve) { s.Delegates = "a@p.iam.gserviceaccount.com,b" }, "delegates", `"b" is not the e-mail address`},
		{"tokens that live too shortly", nil, func(s *Serve) { s.MaxTokenLife = time.Minute }, "max-token-life", "1m0s is not between 10m0s and 1h0m0s"},
		{"scopes that are none", nil, func(s *Serve) { s.MaxScopes = "a,,b" }, "max-scopes", `scopes[1]: "" is not one scope`},
		{"GSAs of no namespace", nil, func(s *Serve) { s.NamespaceGSAs = "a@p.iam.gserviceaccount.com" }, "namespace-gsas", "is not NAMESPACE=PATTERN"},
		{"GSAs that are none", nil, func(s *Serve) { s.NamespaceGSAs = "ci=a b=*" }, "namespace-gsas", `gsas[0]: "a" is not the e-mail address`},

		{"no project", nil, func(s *Serve) { s.ID = "" }, "project-id", "is needed"},
		{"a project's number as its ID", nil, func(s *Serve) { s.ID = "998877665544" }, "project-id", "give the ID, not the number or the name"},
		{"a project's name as its ID", nil, func(s *Serve) { s.ID = "Prod Project" }, "project-id", `"Prod Project" is not the ID`},
		{"no number with impersonation", impersonation, func(s *Serve) { s.Number = "" }, "project-number", "gcloud projects describe prod-project"},
		{"a number that is none", nil, func(s *Serve) { s.Number = "12x" }, "project-number", `"12x" is not a number`},
		{"no cluster name", nil, func(s *Serve) { s.ClusterName = "" }, "cluster-name", "is empty"},
		{"no location", nil, func(s *Serve) { s.ClusterLocation = "" }, "cluster-location", `"" is neither`},
		{"a location without dashes", nil, func(s *Serve) { s.ClusterLocation = "here" }, "cluster-location", "give a region (europe-west1) or a zone"},
		{"a location with too many", nil, func(s *Serve) { s.ClusterLocation = "a-b-c-d" }, "cluster-location", "software that reads it fails"},
		{"a region as zone", nil, func(s *Serve) { s.Zone = "europe-west1" }, "zone", "give one like europe-west1-b"},
		{"a zone with slashes", nil, func(s *Serve) { s.Zone = "projects/1/zones/europe-west1-b" }, "zone", "is not a zone"},
		{"a universe's URL", nil, func(s *Serve) { s.UniverseDomain = "https://googleapis.com" }, "universe-domain", "give a bare domain like googleapis.com"},
		{"no universe", nil, func(s *Serve) { s.UniverseDomain = "" }, "universe-domain", "is not a domain"},

		{"an endpoint without a scheme", nil, func(s *Serve) { s.STS = "sts.example.com" }, "sts-endpoint", "give one like https://sts.googleapis.com"},
		{"an endpoint of another scheme", nil, func(s *Serve) { s.IAM = "ftp://iam.example.com" }, "iam-endpoint", "is not a URL"},
		{"an endpoint that is no URL", nil, func(s *Serve) { s.IAM = "https://iam\n" }, "iam-endpoint", "is not a URL"},
		{"an endpoint in the clear", nil, func(s *Serve) { s.IAMCredentials = "http://iam.example.com" }, "iam-credentials-endpoint", "would send tokens in the clear"},

		{"unknown routing", nil, func(s *Serve) { s.Routing = "iptables" }, "routing", "use one of auto, ebpf, nftables, address, none"},
		{"another address with routing", nil, func(s *Serve) { s.Listen = "127.0.0.1:8080" }, "listen", "contradicts --routing=address"},
		{"another port with routing", nil, func(s *Serve) { s.Listen = "169.254.169.254:8080" }, "listen", "contradicts --routing=address"},
		{"the metadata address as eBPF's target", nil, func(s *Serve) { s.Routing = RoutingEBPF }, "listen", "contradicts --routing=ebpf"},
		{"the metadata address as nftables' target", nil, func(s *Serve) { s.Routing = RoutingNFTables }, "listen", "contradicts --routing=nftables"},
		{"loopback as eBPF's target", nil, func(s *Serve) { s.Routing, s.Listen = RoutingEBPF, "127.0.0.1:8987" }, "listen", "is not one that pods can be sent to"},
		{"any address as nftables' target", nil, func(s *Serve) { s.Routing, s.Listen = RoutingNFTables, "0.0.0.0:8987" }, "listen", "status.hostIP"},
		{"loopback as auto's target", nil, func(s *Serve) { s.Routing, s.Listen = RoutingAuto, "[::1]:8987" }, "listen", "by --routing=auto"},
		{"no interface for auto", nil, func(s *Serve) { s.Routing, s.Interface = RoutingAuto, "" }, "interface", "is needed with --routing=auto"},
		{"unknown attestation", nil, func(s *Serve) { s.Attestation = "maybe" }, "attestation", "use one of require, prefer, ip"},
		{"a host name to listen on", nil, func(s *Serve) { s.Listen = "localhost:80" }, "listen", `"localhost:80" is not IP:PORT`},
		{"an address without a port", nil, func(s *Serve) { s.Listen = "169.254.169.254" }, "listen", "give one like 127.0.0.1:8989"},
		{"an empty port", nil, func(s *Serve) { s.AdminListen = "127.0.0.1:" }, "admin-listen", "give a port from 0 to 65535"},
		{"a port's name", nil, func(s *Serve) { s.AdminListen = "127.0.0.1:http" }, "admin-listen", "give a port from 0 to 65535"},
		{"a port too large", nil, func(s *Serve) { s.AdminListen = "127.0.0.1:65536" }, "admin-listen", "give a port from 0 to 65535"},
		{"a negative port", nil, func(s *Serve) { s.AdminListen = "127.0.0.1:-1" }, "admin-listen", "give a port from 0 to 65535"},
		{"no interface", nil, func(s *Serve) { s.Interface = "" }, "interface", "is needed with --routing=address"},
		{"one address for both", nil, func(s *Serve) { s.AdminListen = s.Listen }, "admin-listen", "pods must not reach it"},
		{"no wait", nil, func(s *Serve) { s.IdentityWait = 0 }, "identity-wait", "use 2.5s"},
		{"too long a wait", nil, func(s *Serve) { s.IdentityWait = time.Minute }, "identity-wait", "1m0s is not between 0 and 20s"},

		{"a collector without a scheme", nil, func(s *Serve) { s.OTLPEndpoint = "collector:4318" }, "otlp-endpoint", "like http://collector:4318"},
		{"a collector that is no URL", nil, func(s *Serve) { s.OTLPEndpoint = "http://collector\n" }, "otlp-endpoint", "is no http or https URL"},

		{"a file to hand over without a key", nil, func(s *Serve) { s.HandoverFile = UsualHandoverFile }, "handover-key-file", "is needed with --handover-file"},
		{"a key without a file to hand over", nil, func(s *Serve) { s.HandoverKeyFile = "/key" }, "handover-file", "give one on a tmpfs, like /run/"},
		{"half a path to hand over", nil, func(s *Serve) { s.HandoverFile, s.HandoverKeyFile = "tokens", "/key" }, "handover-file", `"tokens" is not one`},
		{"tokens of the fake to hand over", faked, func(s *Serve) { s.HandoverFile, s.HandoverKeyFile = UsualHandoverFile, "/key" }, "handover-file", "contradicts --credentials=fake"},

		{"unknown log level", nil, func(s *Serve) { s.Level = "trace" }, "log-level", "use one of debug, info, warn, error"},
		{"unknown log format", nil, func(s *Serve) { s.Format = "xml" }, "log-format", "use one of text, json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			of := federation
			if test.of != nil {
				of = test.of
			}
			s := of()
			test.spoil(s)
			flagError(t, s.Complete(), test.flag, test.text)
		})
	}
}

func TestAWrongSettingOfStandaloneIsAnErrorOfItsFlag(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*Standalone)
		flag  string
		text  string
	}{
		{"federation", func(s *Standalone) { s.Credentials = Federation }, "credentials", "use one of fake, impersonation"},
		{"an address that is none", func(s *Standalone) { s.Listen = "8080" }, "listen", "is not IP:PORT"},
		{"one address for both", func(s *Standalone) { s.AdminListen = s.Listen }, "admin-listen", "use another port"},
		{"impersonation without a project", func(s *Standalone) { s.Credentials = Impersonation }, "project-id", "is needed"},
		{"impersonation of nobody", func(s *Standalone) { s.Credentials, s.ID, s.Number = Impersonation, "prod-project", "1" }, "gsa", "is needed with --credentials=impersonation"},
		{"a person", func(s *Standalone) { s.GSA = "dev" }, "gsa", "give one like NAME@PROJECT_ID.iam.gserviceaccount.com"},
		{"one identity and a list", func(s *Standalone) { s.GSA, s.Identities = "a@b.iam.gserviceaccount.com", "list.yaml" }, "gsa", "contradicts --identities"},
		{"a list that is missing", func(s *Standalone) { s.Identities = "/nonexistent/list.yaml" }, "identities", "/nonexistent/list.yaml"},
		{"a log level", func(s *Standalone) { s.Level = "" }, "log-level", "use one of"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := standalone()
			test.spoil(s)
			flagError(t, s.Complete(), test.flag, test.text)
		})
	}
	for name, content := range map[string]string{
		"empty":                 "",
		"of another form":       "identities: 7",
		"no YAML":               "identities: [",
		"with a repeated field": "identities:\n- gsa: a@b.c\n  gsa: a@b.c\n- gsa: a@b.c\n  gsa: a@b.c\n",
		"with an unknown field": "identities: [{gsa: a@b.iam.gserviceaccount.com, pod: x}]",
	} {
		t.Run("a list that is "+name, func(t *testing.T) {
			s := standalone()
			s.Identities = file(t, content)
			flagError(t, s.Complete(), "identities", s.Identities)
		})
	}
}

func TestAWrongSettingOfTheOtherCommandsIsAnErrorOfItsFlag(t *testing.T) {
	fake := FakeGoogle{Logging: logSettings, Listen: "127.0.0.1:0", TokenLife: time.Hour}
	for _, test := range []struct {
		spoil func(*FakeGoogle)
		flag  string
		text  string
	}{
		{func(f *FakeGoogle) { f.Listen = "here" }, "listen", "is not IP:PORT"},
		{func(f *FakeGoogle) { f.TokenLife = 0 }, "token-life", "use 1h or less"},
		{func(f *FakeGoogle) { f.TokenLife = 2 * time.Hour }, "token-life", "2h0m0s is not between"},
		{func(f *FakeGoogle) { f.Format = "" }, "log-format", "use one of"},
	} {
		f := fake
		test.spoil(&f)
		flagError(t, f.Complete(), test.flag, test.text)
	}
	flagError(t, (&Cleanup{}).Complete(), "interface", "use lo")
	flagError(t, (&Cleanup{Interface: "lo", HandoverFile: "tokens"}).Complete(), "handover-file", "give a whole path")
}

func TestWhatFollowsFromOtherSettingsIsFilledIn(t *testing.T) {
	type filled struct{ ID, Number, Pool, Zone, Provider, Policy, STS, IAMCredentials, IAM, FakeListen string }
	usual := filled{
		ID: "prod-project", Number: "998877665544", Pool: "prod-project.svc.id.goog", Zone: "europe-west1-a", Provider: testProvider, Policy: PolicyIAM,
		STS: "https://sts.googleapis.com", IAMCredentials: "https://iamcredentials.googleapis.com", IAM: "https://iam.googleapis.com", FakeListen: "127.0.0.1:0",
	}
	for _, test := range []struct {
		name string
		of   func() *Serve
		set  func(*Serve)
		want func(*filled)
	}{
		{"federation: the provider's project number", federation, func(*Serve) {}, func(*filled) {}},
		{"a number of one's own", federation, func(s *Serve) { s.Number = "42" }, func(f *filled) { f.Number = "42" }},
		{"a zonal cluster's zone", federation, func(s *Serve) { s.ClusterLocation = "us-east1-c" }, func(f *filled) { f.Zone = "us-east1-c" }},
		{"a zone of one's own", federation, func(s *Serve) { s.Zone = "europe-west1-d" }, func(f *filled) { f.Zone = "europe-west1-d" }},
		{"a pool of one's own", federation, func(s *Serve) { s.WorkloadPool = "other.svc.id.goog" }, func(f *filled) { f.Pool = "other.svc.id.goog" }},
		{"another universe", federation, func(s *Serve) { s.UniverseDomain = "apis.example" }, func(f *filled) {
			f.STS, f.IAMCredentials, f.IAM = "https://sts.apis.example", "https://iamcredentials.apis.example", "https://iam.apis.example"
		}},
		{"an endpoint of one's own", federation, func(s *Serve) { s.STS = "http://127.0.0.1:8988/" }, func(f *filled) { f.STS = "http://127.0.0.1:8988" }},
		{"loopback by name and by IPv6", federation, func(s *Serve) { s.STS, s.IAM = "http://localhost:1", "http://[::1]:1" }, func(f *filled) { f.STS, f.IAM = "http://localhost:1", "http://[::1]:1" }},
		{"a project of a domain", federation, func(s *Serve) { s.ID = "example.com:prod-project" }, func(f *filled) {
			f.ID, f.Pool = "example.com:prod-project", "example.com:prod-project.svc.id.goog"
		}},
		{"impersonation", impersonation, func(*Serve) {}, func(f *filled) { f.Provider = "" }},
		{"a file of rules", impersonation, func(s *Serve) { s.Policy, s.PolicyFile = PolicyFile, "rules.yaml" }, func(f *filled) { f.Provider, f.Policy = "", PolicyFile }},
		{"the fake needs nothing", faked, func(*Serve) {}, func(f *filled) {
			f.ID, f.Number, f.Pool, f.Provider = fakeProjectID, fakeProjectNumber, fakeProjectID+".svc.id.goog", fakeProvider
		}},
		{"the fake with a project of one's own", faked, func(s *Serve) { s.ID, s.Number, s.FakeListen = "other-project", "7", "127.0.0.1:8988" }, func(f *filled) {
			f.ID, f.Number, f.Pool, f.Provider, f.FakeListen = "other-project", "7", "other-project.svc.id.goog", fakeProvider, "127.0.0.1:8988"
		}},
		{"no routing, anywhere", federation, func(s *Serve) { s.Routing, s.Listen, s.AdminListen, s.Interface = RoutingNone, "[::]:0", "[::]:0", "" }, func(*filled) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.of()
			test.set(s)
			if err := s.Complete(); err != nil {
				t.Fatal(err)
			}
			want := usual
			test.want(&want)
			got := filled{s.ID, s.Number, s.WorkloadPool, s.Zone, s.Provider, s.Policy, s.STS, s.IAMCredentials, s.IAM, s.FakeListen}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestServe_StartupTaintMustBeAKey(t *testing.T) {
	for taint, text := range map[string]string{"": "", "gke-metadata-emulator/not-ready": "", "not-ready": "", "key=value:NoSchedule": "give the key alone", "a/b/c": "give the key alone"} {
		s := federation()
		s.StartupTaint = taint
		err := s.Complete()
		if text == "" {
			if err != nil {
				t.Errorf("%q: %v", taint, err)
			}
			continue
		}
		flagError(t, err, "startup-taint", text)
	}
}

func TestComplete_ChecksTheDMIFiles(t *testing.T) {
	for _, test := range []struct{ file, original, flag, text string }{
		{"product_name", "", "dmi-product-name", "/kind/product_name"},
		{KindProductName, "product_name", "dmi-original", "a file of its own"},
		{KindProductName, KindProductName, "dmi-original", "a file of its own"},
	} {
		s := federation()
		s.DMIProductName, s.DMIOriginal = test.file, test.original
		flagError(t, s.Complete(), test.flag, test.text)
		flagError(t, (&Cleanup{Interface: "lo", DMIProductName: test.file, DMIOriginal: test.original}).Complete(), test.flag, test.text)
	}
	s := federation()
	s.DMIProductName = KindProductName
	if err := s.Complete(); err != nil || s.DMIOriginal != OriginalProductName {
		t.Errorf("%v, what it held is kept in %q", err, s.DMIOriginal)
	}
}

func TestComplete_RefusesABadAttributesFile(t *testing.T) {
	s := federation()
	s.AttributesFile = file(t, "instance:\n  attributes:\n    a: [b]\n")
	err := s.Complete()
	if want := "--attributes-file: " + s.AttributesFile + ": line 3: the value of a is not a string; see docs/attributes.md"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestProbe_CompleteChecksTheSettings(t *testing.T) {
	right := Probe{Target: "http://169.254.169.254", AdminListen: "127.0.0.1:8989", Timeout: time.Second}
	for flag, change := range map[string]func(*Probe){
		"":             func(*Probe) {},
		"target":       func(p *Probe) { p.Target = "169.254.169.254" },
		"admin-listen": func(p *Probe) { p.AdminListen = "8989" },
		"timeout":      func(p *Probe) { p.Timeout = 0 },
	} {
		p := right
		change(&p)
		err := p.Complete()
		if flag == "" && err != nil || flag != "" && (err == nil || !strings.HasPrefix(err.Error(), "--"+flag+": ")) {
			t.Errorf("--%s: %v", flag, err)
		}
	}
}
