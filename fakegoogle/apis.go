package fakegoogle

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// The services whose APIs a project can enable and disable.
const (
	ServiceSTS            = "sts.googleapis.com"
	ServiceIAM            = "iam.googleapis.com"
	ServiceIAMCredentials = "iamcredentials.googleapis.com"
)

// Services lists the services whose APIs [Server.DisableAPI] disables.
func Services() []string { return []string{ServiceSTS, ServiceIAM, ServiceIAMCredentials} }

// serviceTitle is the name of an API in Google's texts.
func serviceTitle(service string) string {
	switch service {
	case ServiceIAM:
		return "Identity and Access Management (IAM) API" // openshift/installer#2187, 2019-08-08
	case ServiceIAMCredentials:
		return "IAM Service Account Credentials API" // google/kctf#194, 2021-01-13
	default:
		return "Security Token Service API" // Google's API library
	}
}

// gcloudProject is the number of gcloud's own project, to which the calls of a user
// without a quota project are billed (for example pulumi/pulumi-gcp#2896, 2025-01-24).
const gcloudProject = "764086051850"

// apiOfProject is the API of a service in the project that its calls are billed to.
type apiOfProject struct{ project, service string }

// DisableAPI disables a service's API in a project, which is where each project begins
// with Google: calls that are billed to the project are refused with SERVICE_DISABLED.
// A call is billed to
//
//   - the project of the header X-Goog-User-Project, or
//   - the project of the pool, of a federated token or a token exchange, or
//   - the project of the service account whose token it has, or
//   - gcloud's own project, 764086051850, of a user's token.
//
// Write the project as the call does: a quota project as in the header, that of a
// service account by its ID, that of a pool by its number. If the project has a pool of
// GKE, its ID and its number mean the same. DisableAPI panics if the service is not one
// of [Services].
func (s *Server) DisableAPI(project, service string) { s.blockAPI(project, service, serviceDisabled) }

// ProhibitAPI lets a perimeter of VPC Service Controls refuse the calls of a service's
// API. project and service are as in [Server.DisableAPI].
func (s *Server) ProhibitAPI(project, service string) { s.blockAPI(project, service, prohibited) }

// EnableAPI ends the effect of [Server.DisableAPI] and [Server.ProhibitAPI].
func (s *Server) EnableAPI(project, service string) { s.blockAPI(project, service, nil) }

func (s *Server) blockAPI(project, service string, refusal func(project, service string) *Error) {
	if !slices.Contains(Services(), service) {
		panic(fmt.Sprintf("fakegoogle: unknown service %q: the services are %s", service, strings.Join(Services(), ", ")))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.projectNames(project) {
		delete(s.blockedAPIs, apiOfProject{name, service})
	}
	if refusal != nil {
		s.blockedAPIs[apiOfProject{project, service}] = refusal
	}
}

// projectNames returns a project's ID and number, if both are known. The caller holds
// s.mu.
func (s *Server) projectNames(project string) []string {
	names := []string{project}
	for id, pool := range s.gkePools {
		number := poolProject(pool)
		switch {
		case id == gkePoolID(project):
			names = append(names, number)
		case number == project:
			names = append(names, scopedProject(strings.TrimSuffix(id, ".svc.id.goog")))
		}
	}
	return names
}

// poolProject is the project's number in a pool's name.
func poolProject(pool string) string {
	if m := poolName.FindStringSubmatch(pool); m != nil {
		return m[1]
	}
	return ""
}

// checkAPI refuses a call of an API that its project has not enabled.
func (s *Server) checkAPI(project, service string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.projectNames(project) {
		if refusal, ok := s.blockedAPIs[apiOfProject{name, service}]; ok {
			return refusal(project, service)
		}
	}
	return nil
}

// consumer returns the project to which a call with a token is billed.
func (g *grant) consumer(c *call) string {
	if project := quotaProject(c.Request); project != "" {
		return project
	}
	switch {
	case g.pool != "":
		return poolProject(g.pool)
	case g.client != "":
		return gcloudProject
	default:
		return accountProject(g.email)
	}
}

func serviceDisabled(project, service string) *Error {
	return ServiceDisabled(project, service, serviceTitle(service))
}

// ServiceDisabled is the refusal of a call to an API, with its title, that a project has not
// enabled. The details and their order are those of google-gemini/gemini-cli#1343,
// 2025-06-23.
func ServiceDisabled(project, service, title string) *Error {
	url := "https://console.developers.google.com/apis/api/" + service + "/overview?project=" + project
	e := &Error{
		Code:   http.StatusForbidden,
		Status: "PERMISSION_DENIED",
		Message: fmt.Sprintf("%s has not been used in project %s before or it is disabled. Enable it by visiting %s then retry. "+
			"If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry.", title, project, url),
		reason: "SERVICE_DISABLED",
		domain: "googleapis.com",
		metadata: map[string]string{
			"service": service, "serviceTitle": title,
			"consumer": "projects/" + project, "containerInfo": project, "activationUrl": url,
		},
	}
	e.details = []any{e.localizedMessage(), map[string]any{
		"@type": "type.googleapis.com/google.rpc.Help",
		"links": []any{map[string]string{"description": "Google developers console API activation", "url": url}},
	}}
	return e
}

// quotaProjectRequired is the refusal of a user's token without a quota project, as
// other APIs answer (pulumi/pulumi-gcp#2896, 2025-01-24). That IAM does so is inferred.
func quotaProjectRequired(service string) *Error {
	e := &Error{
		Code:   http.StatusForbidden,
		Status: "PERMISSION_DENIED",
		Message: "Your application is authenticating by using local Application Default Credentials. The " + service +
			" API requires a quota project, which is not set by default. To learn how to set your quota project, " +
			"see https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds .",
		reason:   "SERVICE_DISABLED",
		domain:   "googleapis.com",
		metadata: map[string]string{"service": service, "consumer": "projects/" + gcloudProject},
	}
	e.details = []any{e.localizedMessage()}
	return e
}

// prohibited is the refusal by VPC Service Controls (cloudquery/cloudquery#1062,
// 2022-07-03). Google logs the details of a refusal under the unique identifier.
func prohibited(project, service string) *Error {
	id := randomText(41)
	return &Error{
		Code:     http.StatusForbidden,
		Status:   "PERMISSION_DENIED",
		Message:  "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: " + id,
		reason:   "SECURITY_POLICY_VIOLATED",
		domain:   "googleapis.com",
		metadata: map[string]string{"service": service, "uid": id, "consumer": "projects/" + project},
		details: []any{map[string]any{
			"@type":      "type.googleapis.com/google.rpc.PreconditionFailure",
			"violations": []any{map[string]string{"type": "VPC_SERVICE_CONTROLS", "description": id}},
		}},
	}
}

func (e *Error) localizedMessage() map[string]string {
	return map[string]string{"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": e.Message}
}
