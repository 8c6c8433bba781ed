package config

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/facts"
)

var (
	projectID     = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	projectNumber = regexp.MustCompile(`^[1-9][0-9]*$`)
	clusterUID    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	location      = regexp.MustCompile(`^[a-z0-9]+-[a-z0-9]+(-[a-z0-9]+)?$`)
	zone          = regexp.MustCompile(`^[a-z0-9]+-[a-z0-9]+-[a-z0-9]+$`)
	workloadPool  = regexp.MustCompile(`^[a-z0-9.:-]+$`)
	domain        = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
)

// Project is the project and the cluster that the metadata describes.
type Project struct {
	ID              string
	Number          string
	WorkloadPool    string
	ClusterName     string
	ClusterLocation string // a region or a zone
	ClusterUID      string // empty: derived from the namespace kube-system
	Zone            string // of the node; empty: its label, or else DefaultZone
	AttributesFile  string // empty: no further attributes
	UniverseDomain  string
}

func (p *Project) flags(f *pflag.FlagSet) {
	f.StringVar(&p.ID, "project-id", "", "`ID` of the Google project that pods see as their own (required, except with --credentials=fake)")
	setPattern(f, "project-id", projectID)
	f.StringVar(&p.Number, "project-number", "", "`number` of that project (default, with federation: the number in --workload-identity-provider)")
	setPattern(f, "project-number", projectNumber)
	f.StringVar(&p.WorkloadPool, "workload-pool", "", "workload identity `pool`, reported as the e-mail address of service accounts without a GSA (default: PROJECT_ID.svc.id.goog; PROJECT.DOMAIN.svc.id.goog for project DOMAIN:PROJECT)")
	setPattern(f, "workload-pool", workloadPool)
	f.StringVar(&p.ClusterName, "cluster-name", "kubernetes", "`name` of the cluster")
	f.StringVar(&p.ClusterLocation, "cluster-location", "local-1", "`region` or zone of the cluster")
	setPattern(f, "cluster-location", location)
	f.StringVar(&p.ClusterUID, "cluster-uid", "", "`ID` of the cluster, 64 hexadecimal digits (default: the SHA-256 sum of the UID of the namespace kube-system)")
	setPattern(f, "cluster-uid", clusterUID)
	f.StringVar(&p.Zone, "zone", "", "`zone` of the node (default: its label topology.kubernetes.io/zone, or else derived from --cluster-location)")
	setPattern(f, "zone", zone)
	f.StringVar(&p.AttributesFile, "attributes-file", "", "YAML `file` of further instance and project attributes; changes are read while the daemon runs, see docs/attributes.md")
	f.StringVar(&p.UniverseDomain, "universe-domain", "googleapis.com", "`domain` of Google's APIs")
	setPattern(f, "universe-domain", domain)
}

// complete takes the kind of credentials and the number of the provider's project, which
// is empty if there is no provider.
func (p *Project) complete(credentials, providerNumber string) error {
	switch credentials {
	case Fake:
		p.ID, p.Number = cmp.Or(p.ID, fakeProjectID), cmp.Or(p.Number, fakeProjectNumber)
	case Federation:
		p.Number = cmp.Or(p.Number, providerNumber)
	}
	p.WorkloadPool = cmp.Or(p.WorkloadPool, p.DottedID()+".svc.id.goog")
	return p.check()
}

func (p *Project) check() error {
	if p.ID == "" {
		return FlagErrorf("project-id", "give the ID of the Google project that pods see as their own", "is needed")
	}
	if err := checkProjectID("project-id", p.ID); err != nil {
		return err
	}
	if err := checkProjectNumber(p.ID, p.Number); err != nil {
		return err
	}
	if !workloadPool.MatchString(p.WorkloadPool) {
		return FlagErrorf("workload-pool", "give one like PROJECT_ID.svc.id.goog", "%q is not the name of a workload identity pool", p.WorkloadPool)
	}
	if p.ClusterName == "" {
		return FlagErrorf("cluster-name", "leave it out for kubernetes", "is empty, so clients that read it would wait for a value forever")
	}
	if !location.MatchString(p.ClusterLocation) {
		return FlagErrorf("cluster-location", "give a region (europe-west1) or a zone (europe-west1-b)", "%q is neither, and clients that read it fail on other forms", p.ClusterLocation)
	}
	if p.ClusterUID != "" && !clusterUID.MatchString(p.ClusterUID) {
		return FlagErrorf("cluster-uid", "leave it out, or give the output of: gcloud container clusters describe CLUSTER --location=LOCATION --format='value(id)'", "%q is not 64 hexadecimal digits in lower case", p.ClusterUID)
	}
	if p.Zone != "" && !zone.MatchString(p.Zone) {
		return FlagErrorf("zone", "give one like europe-west1-b", "%q is not a zone", p.Zone)
	}
	return checkUniverseDomain(p.UniverseDomain)
}

func checkProjectID(flag, id string) error {
	if !projectID.MatchString(id) {
		return FlagErrorf(flag, "give the ID, not the number or the name", "%q is not the ID of a Google project", id)
	}
	return nil
}

func checkProjectNumber(id, number string) error {
	command := "gcloud projects describe " + id + " --format='value(projectNumber)'"
	if number == "" {
		return FlagErrorf("project-number", command, "is needed")
	}
	if !projectNumber.MatchString(number) {
		return FlagErrorf("project-number", command, "%q is not a number", number)
	}
	return nil
}

func checkUniverseDomain(name string) error {
	if !domain.MatchString(name) {
		return FlagErrorf("universe-domain", "give a bare domain like googleapis.com", "%q is not a domain", name)
	}
	return nil
}

// DefaultZone is the zone that follows from the cluster's location.
func (p *Project) DefaultZone() string {
	if strings.Count(p.ClusterLocation, "-") == 1 {
		return p.ClusterLocation + "-a"
	}
	return p.ClusterLocation
}

// DottedID is the project ID as it is in the names of hosts and e-mail addresses:
// prod.example.com for example.com:prod.
func (p *Project) DottedID() string { return dottedProject(p.ID) }

// ReadAttributes returns the attributes of the attributes file, none if there is no file.
func (p *Project) ReadAttributes() (facts.Attributes, error) {
	if p.AttributesFile == "" {
		return facts.Attributes{}, nil
	}
	document, err := readFile("attributes-file", p.AttributesFile)
	if err != nil {
		return facts.Attributes{}, err
	}
	attributes, err := facts.ParseAttributes(document)
	if err != nil {
		return facts.Attributes{}, FlagErrorf("attributes-file", "see docs/attributes.md", "%s: %v", p.AttributesFile, err)
	}
	return attributes, nil
}
