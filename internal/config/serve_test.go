package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gke-metadata-emulator/internal/facts"
	"gke-metadata-emulator/routing"
)

func TestServe_RefusesInvalidSettings(t *testing.T) {
	for _, test := range []struct {
		name     string
		valid    func(*testing.T) *Serve // nil: federation
		change   func(*Serve)
		flag     string
		fragment string // of the error
	}{
		{"unknown credentials", nil, func(s *Serve) { s.Credentials.Kind = "magic" }, "credentials", `"magic" is not known; use one of federation, impersonation, fake`},
		{"no credentials", nil, func(s *Serve) { s.Credentials.Kind = "" }, "credentials", `use one of`},
		{"no node", nil, func(s *Serve) { s.Node.Name = "" }, "node-name", "spec.nodeName"},

		{"federation without a provider", nil, func(s *Serve) { s.Provider.Name = "" }, "workload-identity-provider", "is needed with --credentials=federation"},
		{"a provider's URL", nil, func(s *Serve) { s.Provider.Name = "https:" + testProvider }, "workload-identity-provider", "give //iam.googleapis.com/projects/NUMBER"},
		{"a provider by project ID", nil, func(s *Serve) {
			s.Provider.Name = "//iam.googleapis.com/projects/prod-project/locations/global/workloadIdentityPools/p/providers/q"
		}, "workload-identity-provider", "is not the full name of a provider"},
		{"pool instead of a provider", nil, func(s *Serve) {
			s.Provider.Name = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p"
		}, "workload-identity-provider", "is not the full name of a provider"},
		{"provider with a line break", nil, func(s *Serve) { s.Provider.Name = testProvider + "\n" }, "workload-identity-provider", `\n" is not`},
		{"a fleet with the fake", fakeCredentials, func(s *Serve) { s.Provider.Name = testMembership }, "workload-identity-provider", "contradicts --credentials=fake"},
		{"another project's fleet", nil, func(s *Serve) { s.Provider.Name = strings.Replace(testMembership, "prod", "fleet", 1) }, "workload-pool", "gcloud container fleet memberships describe projects/fleet-project/locations/global/memberships/on-prem"},
		{"a fleet of another number", nil, func(s *Serve) {
			s.Provider.Name, s.Project.Number = strings.Replace(testMembership, "prod-project", "42", 1), "998877665544"
		}, "workload-pool", "is needed, because the fleet is of project 42"},
		{"a fleet without the project's number", nil, func(s *Serve) { s.Provider.Name = testMembership }, "project-number", "is needed"},
		{"pool besides a fleet", nil, func(s *Serve) {
			s.Provider.Name, s.Project.Number, s.Provider.Pool = testMembership, "998877665544", "on-prem"
		}, "workload-identity-pool", "contradicts --workload-identity-provider=https://gkehub"},
		{"pool of another provider", nil, func(s *Serve) { s.Provider.Pool = "other" }, "workload-identity-pool", "contradicts --workload-identity-provider=//iam"},
		{"pool by project ID", impersonation, func(s *Serve) {
			s.Provider.Pool = "projects/prod-project/locations/global/workloadIdentityPools/on-prem"
		}, "workload-identity-pool", "give POOL or projects/NUMBER"},
		{"placeholder as pool", impersonation, func(s *Serve) { s.Provider.Pool = "POOL" }, "workload-identity-pool", `"POOL" is not the name of a pool`},
		{"workload pool that is none", nil, func(s *Serve) { s.Project.WorkloadPool = "a'b" }, "workload-pool", "give one like PROJECT_ID.svc.id.goog"},
		{"a source credential with federation", nil, func(s *Serve) { s.Credentials.Source = "key.json" }, "source-credentials", "is not used with --credentials=federation"},
		{"a source credential with the fake", fakeCredentials, func(s *Serve) { s.Credentials.Source = "key.json" }, "source-credentials", "is not used with --credentials=fake"},
		{"an endpoint with the fake", fakeCredentials, func(s *Serve) { s.Google.STS = "https://sts.example.com" }, "sts-endpoint", "contradicts --credentials=fake"},
		{"another endpoint with the fake", fakeCredentials, func(s *Serve) { s.Google.IAMCredentials = "https://iam.example.com" }, "iam-credentials-endpoint", "contradicts --credentials=fake"},
		{"the third endpoint with the fake", fakeCredentials, func(s *Serve) { s.Google.IAM = "https://iam.example.com" }, "iam-endpoint", "contradicts --credentials=fake"},
		{"address of the fake without the fake", nil, func(s *Serve) { s.Google.FakeListen = "127.0.0.1:1" }, "fake-listen", "is not used with --credentials=federation"},
		{"invalid address of the fake", fakeCredentials, func(s *Serve) { s.Google.FakeListen = "fake" }, "fake-listen", `"fake" is not IP:PORT`},

		{"a policy with federation", nil, func(s *Serve) { s.Policy.Impersonation = PolicyOff }, "impersonation-policy", "where Google's IAM decides"},
		{"an unknown policy", impersonation, func(s *Serve) { s.Policy.Impersonation = "maybe" }, "impersonation-policy", "use one of iam, file, off"},
		{"missing policy file", impersonation, func(s *Serve) { s.Policy.Impersonation = PolicyFile }, "policy-file", "is needed with --impersonation-policy=file"},
		{"delegates with federation", nil, func(s *Serve) { s.Policy.Delegates = "a@p.iam.gserviceaccount.com" }, "delegates", "is not used with --credentials=federation"},
		{"invalid delegate", impersonation, func(s *Serve) { s.Policy.Delegates = "a@p.iam.gserviceaccount.com,b" }, "delegates", `"b" is not the e-mail address`},
		{"token lifetime too short", nil, func(s *Serve) { s.Policy.MaxTokenLife = time.Minute }, "max-token-life", "1m0s is not between 10m0s and 1h0m0s"},
		{"invalid scopes", nil, func(s *Serve) { s.Policy.MaxScopes = "a,,b" }, "max-scopes", `scopes[1]: "" is not one scope`},
		{"GSAs without a namespace", nil, func(s *Serve) { s.Policy.NamespaceGSAs = "a@p.iam.gserviceaccount.com" }, "namespace-gsas", "is not NAMESPACE=PATTERN"},
		{"invalid GSA", nil, func(s *Serve) { s.Policy.NamespaceGSAs = "ci=a b=*" }, "namespace-gsas", `gsas[0]: "a" is not the e-mail address`},

		{"no project", nil, func(s *Serve) { s.Project.ID = "" }, "project-id", "is needed"},
		{"a project's number as its ID", nil, func(s *Serve) { s.Project.ID = "998877665544" }, "project-id", "give the ID, not the number or the name"},
		{"a project's name as its ID", nil, func(s *Serve) { s.Project.ID = "Prod Project" }, "project-id", `"Prod Project" is not the ID`},
		{"no number with impersonation", impersonation, func(s *Serve) { s.Project.Number = "" }, "project-number", "gcloud projects describe prod-project"},
		{"invalid number", nil, func(s *Serve) { s.Project.Number = "12x" }, "project-number", `"12x" is not a number`},
		{"no cluster name", nil, func(s *Serve) { s.Project.ClusterName = "" }, "cluster-name", "is empty"},
		{"no location", nil, func(s *Serve) { s.Project.ClusterLocation = "" }, "cluster-location", `"" is neither`},
		{"a location without dashes", nil, func(s *Serve) { s.Project.ClusterLocation = "here" }, "cluster-location", "give a region (europe-west1) or a zone"},
		{"a location with too many", nil, func(s *Serve) { s.Project.ClusterLocation = "a-b-c-d" }, "cluster-location", "clients that read it fail"},
		{"a UUID as ID of the cluster", nil, func(s *Serve) { s.Project.ClusterUID = "6c1e0d6c-3f2b-4b5e-9a1d-2f7c8e9d0a1b" }, "cluster-uid", "is not 64 hexadecimal digits in lower case"},
		{"a region as zone", nil, func(s *Serve) { s.Project.Zone = "europe-west1" }, "zone", "give one like europe-west1-b"},
		{"a zone with slashes", nil, func(s *Serve) { s.Project.Zone = "projects/1/zones/europe-west1-b" }, "zone", "is not a zone"},
		{"a universe's URL", nil, func(s *Serve) { s.Project.UniverseDomain = "https://googleapis.com" }, "universe-domain", "give a bare domain like googleapis.com"},
		{"no universe", nil, func(s *Serve) { s.Project.UniverseDomain = "" }, "universe-domain", "is not a domain"},

		{"an endpoint without a scheme", nil, func(s *Serve) { s.Google.STS = "sts.example.com" }, "sts-endpoint", "give one like https://sts.googleapis.com"},
		{"an endpoint of another scheme", nil, func(s *Serve) { s.Google.IAM = "ftp://iam.example.com" }, "iam-endpoint", "is not a URL"},
		{"endpoint that is not a URL", nil, func(s *Serve) { s.Google.IAM = "https://iam\n" }, "iam-endpoint", "is not a URL"},
		{"unencrypted endpoint", nil, func(s *Serve) { s.Google.IAMCredentials = "http://iam.example.com" }, "iam-credentials-endpoint", "would send tokens unencrypted"},

		{"unknown routing", nil, func(s *Serve) { s.Routing.Mode = "iptables" }, "routing", "use one of auto, ebpf, nftables, address, none"},
		{"another address with routing", nil, func(s *Serve) { s.Listen.Address = "127.0.0.1:8080" }, "listen", "contradicts --routing=address"},
		{"another port with routing", nil, func(s *Serve) { s.Listen.Address = "169.254.169.254:8080" }, "listen", "contradicts --routing=address"},
		{"the metadata address as eBPF's target", nil, func(s *Serve) { s.Routing.Mode = routing.ModeEBPF }, "listen", "contradicts --routing=ebpf"},
		{"the metadata address as nftables' target", nil, func(s *Serve) { s.Routing.Mode = routing.ModeNFTables }, "listen", "contradicts --routing=nftables"},
		{"loopback as eBPF's target", nil, func(s *Serve) { s.Routing.Mode, s.Listen.Address = routing.ModeEBPF, "127.0.0.1:8987" }, "listen", "--routing=ebpf cannot redirect packets of pods"},
		{"any address as nftables' target", nil, func(s *Serve) { s.Routing.Mode, s.Listen.Address = routing.ModeNFTables, "0.0.0.0:8987" }, "listen", "status.hostIP"},
		{"loopback as auto's target", nil, func(s *Serve) { s.Routing.Mode, s.Listen.Address = routing.ModeAuto, "[::1]:8987" }, "listen", "--routing=auto cannot redirect packets of pods"},
		{"no interface for auto", nil, func(s *Serve) { s.Routing.Mode, s.Routing.Interface = routing.ModeAuto, "" }, "interface", "is needed with --routing=auto"},
		{"unknown attestation", nil, func(s *Serve) { s.Attestation.Policy = "maybe" }, "attestation", "use one of require, prefer, ip"},
		{"a host name to listen on", nil, func(s *Serve) { s.Listen.Address = "localhost:80" }, "listen", `"localhost:80" is not IP:PORT`},
		{"an address without a port", nil, func(s *Serve) { s.Listen.Address = "169.254.169.254" }, "listen", "give one like 169.254.169.254:80"},
		{"an empty port", nil, func(s *Serve) { s.Listen.Admin = "127.0.0.1:" }, "admin-listen", "give a port from 0 to 65535"},
		{"a port's name", nil, func(s *Serve) { s.Listen.Admin = "127.0.0.1:http" }, "admin-listen", "give a port from 0 to 65535"},
		{"a port too large", nil, func(s *Serve) { s.Listen.Admin = "127.0.0.1:65536" }, "admin-listen", "give a port from 0 to 65535"},
		{"a negative port", nil, func(s *Serve) { s.Listen.Admin = "127.0.0.1:-1" }, "admin-listen", "give a port from 0 to 65535"},
		{"no interface", nil, func(s *Serve) { s.Routing.Interface = "" }, "interface", "is needed with --routing=address"},
		{"one address for both", nil, func(s *Serve) { s.Listen.Admin = s.Listen.Address }, "admin-listen", "pods must not reach it"},
		{"no wait", nil, func(s *Serve) { s.Pods.IdentityWait = 0 }, "identity-wait", "use 2.5s"},
		{"wait too long", nil, func(s *Serve) { s.Pods.IdentityWait = time.Minute }, "identity-wait", "1m0s is not between 0 and 20s"},

		{"a collector without a scheme", nil, func(s *Serve) { s.Tracing.OTLPEndpoint = "collector:4318" }, "otlp-endpoint", "like http://collector:4318"},
		{"collector that is not a URL", nil, func(s *Serve) { s.Tracing.OTLPEndpoint = "http://collector\n" }, "otlp-endpoint", "is not an http or https URL"},

		{"handover file without a key", nil, func(s *Serve) { s.Handover.File = StandardHandoverFile }, "handover-key-file", "is needed with --handover-file"},
		{"handover key without a file", nil, func(s *Serve) { s.Handover.KeyFile = "/key" }, "handover-file", "give one on a tmpfs, like /run/"},
		{"relative handover file", nil, func(s *Serve) { s.Handover.File, s.Handover.KeyFile = "tokens", "/key" }, "handover-file", `"tokens" is not an absolute path`},
		{"handover of the fake's tokens", fakeCredentials, func(s *Serve) { s.Handover.File, s.Handover.KeyFile = StandardHandoverFile, "/key" }, "handover-file", "contradicts --credentials=fake"},

		{"unknown log level", nil, func(s *Serve) { s.Logging.Level = "trace" }, "log-level", "use one of debug, info, warn, error"},
		{"unknown log format", nil, func(s *Serve) { s.Logging.Format = "xml" }, "log-format", "use one of text, json"},

		{"invalid startup taint", nil, func(s *Serve) { s.StartupTaint.Key = "bad key=" }, "startup-taint", "give the key alone"},
		{"relative product name", nil, func(s *Serve) { s.DMI.ProductName = "name" }, "dmi-product-name", "on nodes of kind it is /kind/product_name"},
		{"relative original product name", nil, func(s *Serve) { s.DMI.ProductName, s.DMI.Original = "/name", "original" }, "dmi-original", `"original" is not an absolute path`},
		{"one file for both product names", nil, func(s *Serve) { s.DMI.ProductName, s.DMI.Original = "/name", "/name" }, "dmi-original", "is also the value of --dmi-product-name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			valid := federation
			if test.valid != nil {
				valid = test.valid
			}
			s := valid(t)
			test.change(s)
			checkFlagError(t, s.Complete(), test.flag, test.fragment)
		})
	}
}

func TestServe_CompletesDerivedSettings(t *testing.T) {
	type completed struct{ ID, Number, Pool, Zone, Provider, Policy, STS, IAMCredentials, IAM, FakeListen string }
	standard := completed{
		ID: "prod-project", Number: "998877665544", Pool: "prod-project.svc.id.goog", Zone: "europe-west1-a", Provider: testProvider, Policy: PolicyIAM,
		STS: "https://sts.googleapis.com", IAMCredentials: "https://iamcredentials.googleapis.com", IAM: "https://iam.googleapis.com", FakeListen: "127.0.0.1:0",
	}
	for _, test := range []struct {
		name   string
		valid  func(*testing.T) *Serve
		change func(*Serve)
		want   func(*completed)
	}{
		{"federation: the provider's project number", federation, func(*Serve) {}, func(*completed) {}},
		{"explicit number", federation, func(s *Serve) { s.Project.Number = "42" }, func(f *completed) { f.Number = "42" }},
		{"a zonal cluster's zone", federation, func(s *Serve) { s.Project.ClusterLocation = "us-east1-c" }, func(f *completed) { f.Zone = "us-east1-c" }},
		{"explicit zone", federation, func(s *Serve) { s.Project.Zone = "europe-west1-d" }, func(f *completed) { f.Zone = "europe-west1-d" }},
		{"explicit pool", federation, func(s *Serve) { s.Project.WorkloadPool = "other.svc.id.goog" }, func(f *completed) { f.Pool = "other.svc.id.goog" }},
		{"another universe", federation, func(s *Serve) { s.Project.UniverseDomain = "apis.example" }, func(f *completed) {
			f.STS, f.IAMCredentials, f.IAM = "https://sts.apis.example", "https://iamcredentials.apis.example", "https://iam.apis.example"
		}},
		{"explicit endpoint", federation, func(s *Serve) { s.Google.STS = "http://127.0.0.1:8988/" }, func(f *completed) { f.STS = "http://127.0.0.1:8988" }},
		{"loopback by name and by IPv6", federation, func(s *Serve) { s.Google.STS, s.Google.IAM = "http://localhost:1", "http://[::1]:1" }, func(f *completed) { f.STS, f.IAM = "http://localhost:1", "http://[::1]:1" }},
		{"a project of a domain", federation, func(s *Serve) { s.Project.ID = "example.com:prod-project" }, func(f *completed) {
			f.ID, f.Pool = "example.com:prod-project", "prod-project.example.com.svc.id.goog"
		}},
		{"impersonation", impersonation, func(*Serve) {}, func(f *completed) { f.Provider = "" }},
		{"a file of rules", impersonation, func(s *Serve) { s.Policy.Impersonation, s.Policy.File = PolicyFile, "rules.yaml" }, func(f *completed) { f.Provider, f.Policy = "", PolicyFile }},
		{"fake without further settings", fakeCredentials, func(*Serve) {}, func(f *completed) {
			f.ID, f.Number, f.Pool, f.Provider = fakeProjectID, fakeProjectNumber, fakeProjectID+".svc.id.goog", FakeProvider
		}},
		{"fake with an explicit project", fakeCredentials, func(s *Serve) {
			s.Project.ID, s.Project.Number, s.Google.FakeListen = "other-project", "7", "127.0.0.1:8988"
		}, func(f *completed) {
			f.ID, f.Number, f.Pool, f.Provider, f.FakeListen = "other-project", "7", "other-project.svc.id.goog", FakeProvider, "127.0.0.1:8988"
		}},
		{"no routing, anywhere", federation, func(s *Serve) {
			s.Routing.Mode, s.Listen.Address, s.Listen.Admin, s.Routing.Interface = routing.ModeNone, "[::]:0", "[::]:0", ""
		}, func(*completed) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.valid(t)
			test.change(s)
			if err := s.Complete(); err != nil {
				t.Fatal(err)
			}
			want := standard
			test.want(&want)
			zone := s.Project.Zone
			if zone == "" {
				zone = s.Project.DefaultZone()
			}
			got := completed{s.Project.ID, s.Project.Number, s.Project.WorkloadPool, zone, s.Provider.Name, s.Policy.Impersonation, s.Google.STS, s.Google.IAMCredentials, s.Google.IAM, s.Google.FakeListen}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestProject_ReadsAttributesFile(t *testing.T) {
	s := federation(t)
	s.Project.AttributesFile = writeFile(t, "instance:\n  attributes:\n    a: [b]\n")
	_, err := s.Project.ReadAttributes()
	if want := "--attributes-file: " + s.Project.AttributesFile + ": line 3: the value of a is not a string; see docs/attributes.md"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	const document = "instance:\n  attributes: {team: blue}\n"
	want, err := facts.ParseAttributes([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	s.Project.AttributesFile = writeFile(t, document)
	if got, err := s.Project.ReadAttributes(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	s.Project.AttributesFile = ""
	if got, err := s.Project.ReadAttributes(); err != nil || !reflect.DeepEqual(got, facts.Attributes{}) {
		t.Errorf("without a file: %v, %v", got, err)
	}
}

func TestServe_StartupTaintMustBeAKey(t *testing.T) {
	for taint, fragment := range map[string]string{"": "", "gke-metadata-emulator/not-ready": "", "not-ready": "", "key=value:NoSchedule": "give the key alone", "a/b/c": "give the key alone"} {
		s := federation(t)
		s.StartupTaint.Key = taint
		err := s.Complete()
		if fragment == "" {
			if err != nil {
				t.Errorf("%q: %v", taint, err)
			}
			continue
		}
		checkFlagError(t, err, "startup-taint", fragment)
	}
}
