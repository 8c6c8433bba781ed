package config

import (
	"strings"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/identity"
)

// Identities are the identities of the callers of standalone: a list, or one for all
// callers.
type Identities struct {
	File      string // path of a list by address; empty: the identity of the other fields
	Namespace string
	KSA       string
	GSA       string // e-mail address
}

func (i *Identities) flags(f *pflag.FlagSet) {
	f.StringVar(&i.File, "identities", "", "`file` that lists identities by the caller's address (default: one identity for all callers)")
	f.StringVar(&i.Namespace, "namespace", "default", "namespace of the one identity")
	f.StringVar(&i.KSA, "service-account", "default", "Kubernetes service account of the one identity")
	f.StringVar(&i.GSA, "gsa", "", "`e-mail` address of the Google service account of the one identity (default, with --credentials=fake: demo@PROJECT_ID.iam.gserviceaccount.com)")
}

func (i *Identities) complete(credentials, projectID string) error {
	switch {
	case i.File != "" && i.GSA != "":
		return FlagErrorf("gsa", "write it into the file", "contradicts --identities")
	case i.File != "" || i.GSA != "":
	case credentials == Fake:
		i.GSA = "demo@" + dottedProject(projectID) + ".iam.gserviceaccount.com"
	default:
		return FlagErrorf("gsa", "give the e-mail address of a Google service account, or a list in --identities", "is needed with --credentials=%s", credentials)
	}
	if i.File != "" {
		return nil
	}
	_, err := i.Read()
	return err
}

// Read returns the identities.
func (i *Identities) Read() (*identity.Static, error) {
	if i.File == "" {
		one, err := identity.SingleIdentity(i.Namespace, i.KSA, i.GSA)
		if err != nil {
			return nil, FlagErrorf("gsa", "give one like NAME@PROJECT_ID.iam.gserviceaccount.com", "%v", err)
		}
		return one, nil
	}
	document, err := readFile("identities", i.File)
	if err != nil {
		return nil, err
	}
	list, err := identity.ParseStatic(document)
	if err != nil {
		return nil, FlagErrorf("identities", "see docs/standalone.md", "%s: %v", i.File, err)
	}
	return list, nil
}

// dottedProject is a project ID as it is in the names of hosts and e-mail addresses:
// prod.example.com for example.com:prod.
func dottedProject(id string) string {
	if domain, project, scoped := strings.Cut(id, ":"); scoped {
		return project + "." + domain
	}
	return id
}
