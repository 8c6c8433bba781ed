package registry

import (
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// domain is behind the location in the names of all registries.
const domain = "-docker.pkg.dev"

// access is what a request does, and to which repository.
type access struct {
	image      string // PROJECT/REPOSITORY/IMAGE, as in a scope
	repository string // projects/P/locations/L/repositories/R
	id         string // the repository's last part
	permission string // of IAM
	action     string // of a scope: pull or push
}

// location is that of the registry that a request is for.
func location(r *http.Request) (string, bool) {
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return strings.CutSuffix(strings.ToLower(name), domain)
}

var (
	// Paths that go-containerregistry's registry serves; no others reach it. It looks for
	// the keyword in the same place, from the end.
	imagePath = regexp.MustCompile(`^/v2/(.+)/(blobs/uploads/?|(?:blobs/uploads|blobs|manifests)/[\w.:+-]+|tags/list)$`)
	// "Repository and image names".
	imageName = regexp.MustCompile(`^([a-z][a-z0-9-]{4,28}[a-z0-9])/([a-z][a-z0-9-]{0,62})(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)+$`)
)

// requestedAccess returns the access of a request, or the refusal of a request that the stand-in does
// not serve.
func requestedAccess(location string, r *http.Request) (access, *refusal) {
	found := imagePath.FindStringSubmatch(r.URL.EscapedPath())
	if found == nil {
		return access{}, methodUnknown()
	}
	a, ok := parseImage(location, found[1])
	if !ok {
		return access{}, nameInvalid()
	}
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		a.action, a.permission = "pull", download
	case r.Method == http.MethodDelete && !strings.HasPrefix(found[2], "blobs/uploads"):
		a.action, a.permission = "push", remove // a token for push is enough, IAM decides
	default:
		a.action, a.permission = "push", upload
	}
	return a, nil
}

// scope is the scope that a client needs for the access.
func (a access) scope() string {
	actions := a.action
	if actions == "push" {
		actions = "push,pull" // clients look before they push
	}
	return "repository:" + a.image + ":" + actions
}

// parseImage returns the repository of an image.
func parseImage(location, image string) (access, bool) {
	name := imageName.FindStringSubmatch(image)
	if name == nil {
		return access{}, false
	}
	repository := "projects/" + name[1] + "/locations/" + location + "/repositories/" + name[2]
	return access{image: image, repository: repository, id: name[2]}, true
}

// scopes parses the requested scopes, repository:IMAGE:ACTION,ACTION. Push comes before pull,
// so it is the one that a denial names. Other scopes are ignored.
func scopes(location string, asked []string) ([]access, *refusal) {
	var wanted []access
	for _, scope := range strings.Fields(strings.Join(asked, " ")) {
		image, ok := strings.CutPrefix(scope, "repository:")
		at := strings.LastIndex(image, ":")
		if !ok || at < 0 {
			continue
		}
		a, ok := parseImage(location, image[:at])
		if !ok {
			return nil, nameInvalid()
		}
		actions := strings.Split(image[at+1:], ",")
		for _, p := range [][2]string{{"push", upload}, {"pull", download}} {
			if slices.Contains(actions, p[0]) {
				a.action, a.permission = p[0], p[1]
				wanted = append(wanted, a)
			}
		}
	}
	return wanted, nil
}
