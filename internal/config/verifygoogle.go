package config

import (
	"regexp"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/googlecheck"
)

// VerifyGoogle is the settings of the check of the open facts about Google.
type VerifyGoogle struct {
	Project       string // ID of a scratch project
	ProjectNumber string // empty: the number in the name of a new pool
	OtherProject  string // empty: none
	Source        string // file of a credential; empty: Application Default Credentials
	Kubeconfig    string // empty: no cluster
	Only          string // a regular expression
	Keep          bool
	DisableAPIs   bool
	Propagation   time.Duration

	Google         Google
	ServiceUsage   string // base URL
	UniverseDomain string
}

// Flags implements [Settings].
func (v *VerifyGoogle) Flags() []Group {
	return []Group{newGroup("The project", v.projectFlags), newGroup("The checks", v.checkFlags), newGroup("Google", v.googleFlags)}
}

func (v *VerifyGoogle) projectFlags(f *pflag.FlagSet) {
	f.StringVar(&v.Project, "project", "", "`ID` of a scratch project, of which the credential is an owner (required)")
	setPattern(f, "project", projectID)
	f.StringVar(&v.ProjectNumber, "project-number", "", "`number` of that project (default: the number in the name of the pool that is created)")
	setPattern(f, "project-number", projectNumber)
	f.StringVar(&v.OtherProject, "other-project", "", "`ID` of a second project of yours, in which nothing is changed, for the check of addresses in another project's URL")
	setPattern(f, "other-project", projectID)
	f.StringVar(&v.Source, "source-credentials", "", "`file` of the credential, in any format of Google's libraries (default: Application Default Credentials)")
	f.StringVar(&v.Kubeconfig, "kubeconfig", "", "kubeconfig `file` of a cluster that is not GKE, whose keys and tokens are checked too (default: none)")
}

func (v *VerifyGoogle) checkFlags(f *pflag.FlagSet) {
	f.StringVar(&v.Only, "only", "", "run only the checks whose names contain this `text` or match this regular expression (default: all)")
	f.BoolVar(&v.Keep, "keep", false, "leave everything in the project, and print the commands that remove it")
	f.BoolVar(&v.DisableAPIs, "disable-apis", false, "permit checks that disable an API in the project for some minutes")
	f.DurationVar(&v.Propagation, "propagation", 10*time.Minute, "longest wait for a change to take effect at Google")
}

func (v *VerifyGoogle) googleFlags(f *pflag.FlagSet) {
	v.Google.endpointFlags(f)
	f.StringVar(&v.ServiceUsage, "service-usage-endpoint", "", "`URL` of Service Usage (default: https://serviceusage.UNIVERSE_DOMAIN)")
	setPattern(f, "service-usage-endpoint", httpURL)
	f.StringVar(&v.UniverseDomain, "universe-domain", "googleapis.com", "`domain` of Google's APIs")
	setPattern(f, "universe-domain", domain)
}

// Complete implements [Settings].
func (v *VerifyGoogle) Complete() error {
	if v.Project == "" {
		return FlagErrorf("project", "give the ID of a scratch project, for example from gcloud projects create", "is needed")
	}
	if err := checkProjectID("project", v.Project); err != nil {
		return err
	}
	if v.OtherProject != "" {
		if err := checkProjectID("other-project", v.OtherProject); err != nil {
			return err
		}
	}
	if v.OtherProject == v.Project {
		return FlagErrorf("other-project", "give the ID of another project or leave it out", "is the project of --project")
	}
	if v.ProjectNumber != "" {
		if err := checkProjectNumber(v.Project, v.ProjectNumber); err != nil {
			return err
		}
	}
	only, err := regexp.Compile(v.Only)
	if err != nil {
		return FlagErrorf("only", "give a part of a name, or a regular expression", "%v", err)
	}
	if !slices.ContainsFunc(googlecheck.Checks(), func(c googlecheck.Check) bool { return only.MatchString(c.Name) }) {
		return FlagErrorf("only", "see docs/facts.md for the names of the checks", "%q is in the name of no check", v.Only)
	}
	if v.Propagation < 0 {
		return FlagErrorf("propagation", "use 10m", "%s is negative", v.Propagation)
	}
	if err := checkUniverseDomain(v.UniverseDomain); err != nil {
		return err
	}
	return v.Google.completeEndpoints(v.UniverseDomain, endpoint{"service-usage-endpoint", "Service Usage", "serviceusage", &v.ServiceUsage})
}

// DottedProject is the project ID as it is in the names of hosts and e-mail addresses.
func (v *VerifyGoogle) DottedProject() string { return dottedProject(v.Project) }
