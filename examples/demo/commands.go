package main

import (
	"io"
	"strings"
	"text/template"
)

// printCommands prints commands to try while the demo runs.
func printCommands(out io.Writer, a addresses, s *cloudStorage) error {
	t, err := template.New("").Parse(commands)
	if err != nil {
		return err
	}
	return t.Execute(out, map[string]string{
		"Metadata": a.metadata, "Storage": s.url, "Proxy": s.proxyURL, "CA": s.caFile,
		"Bucket": bucket, "Object": object, "Environment": strings.Join(clientEnvironment(a, s), " "),
	})
}

const commands = `
The demo runs until Ctrl-C. Commands for another terminal:

# curl
curl -sH 'Metadata-Flavor: Google' http://{{.Metadata}}/computeMetadata/v1/instance/service-accounts/default/email; echo
curl -sH 'Metadata-Flavor: Google' http://{{.Metadata}}/computeMetadata/v1/instance/service-accounts/default/token; echo
curl -sH 'Metadata-Flavor: Google' http://{{.Metadata}}/computeMetadata/v1/project/project-id; echo
TOKEN=$(curl -sH 'Metadata-Flavor: Google' http://{{.Metadata}}/computeMetadata/v1/instance/service-accounts/default/token | cut -d'"' -f4)
curl -s -H "Authorization: Bearer $TOKEN" '{{.Storage}}/storage/v1/b/{{.Bucket}}/o/{{.Object}}?alt=media'

# gcloud
GCE_METADATA_ROOT={{.Metadata}} CLOUDSDK_CONFIG=$(mktemp -d) gcloud auth print-access-token
GCE_METADATA_ROOT={{.Metadata}} CLOUDSDK_CONFIG=$(mktemp -d) HTTPS_PROXY={{.Proxy}} REQUESTS_CA_BUNDLE={{.CA}} gcloud storage cat gs://{{.Bucket}}/{{.Object}}

# Python (pip install google-auth requests)
GCE_METADATA_HOST={{.Metadata}} GCE_METADATA_IP={{.Metadata}} python3 -c '
import google.auth, google.auth.transport.requests
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
print(credentials.service_account_email, project, credentials.expiry)'

# any other program
{{.Environment}} your-program

Requests to Cloud Storage, with their identities:
`
