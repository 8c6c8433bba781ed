package server

import (
	"testing"
)

// alt selects the form of keys and of recursive answers; listings and tokens have
// one form.
func TestAlt_SelectsForm(t *testing.T) {
	r := serve(t, linked())
	const scopes = "https://www.googleapis.com/auth/cloud-platform"
	for _, c := range []struct{ path, contentType, body string }{
		{root + "/project/project-id?alt=json", contentJSON, `"demo-project"`},
		{root + "/project/project-id?alt=text", contentText, "demo-project"},
		{root + "/project/numeric-project-id?alt=json", contentJSON, `123456789012`},
		{root + "/instance/id?alt=json", contentJSON, `5534023222112865485`},
		{accounts + "/default/aliases?alt=json", contentJSON, `["default"]`},
		{accounts + "/default/scopes?alt=json", contentJSON, `["` + scopes + `","https://www.googleapis.com/auth/userinfo.email"]`},
		{accounts + "/default/?alt=json", contentText, "aliases\nemail\nidentity\nscopes\ntoken\n"},
		{accounts + "/default/identity?audience=x&alt=json", contentIDToken, idSecret},
		{root + "/project/?recursive=true", contentJSON, `{"numericProjectId":123456789012,"projectId":"demo-project"}`},
		{root + "/project/?recursive=true&alt=json", contentJSON, `{"numericProjectId":123456789012,"projectId":"demo-project"}`},
		{root + "/project/?recursive=true&alt=text", contentText, "numeric-project-id 123456789012\nproject-id demo-project\n"},
		{accounts + "/?recursive=true&alt=text", contentText,
			"default/aliases default\ndefault/email " + testGSA + "\ndefault/scopes " + scopes + "\ndefault/scopes https://www.googleapis.com/auth/userinfo.email\n" +
				testGSA + "/aliases default\n" + testGSA + "/email " + testGSA + "\n" + testGSA + "/scopes " + scopes + "\n" + testGSA + "/scopes https://www.googleapis.com/auth/userinfo.email\n"},
	} {
		got := r.do(t, get(c.path))
		if got.Header.Get("Content-Type") != c.contentType || got.body != c.body {
			t.Errorf("%s: %s\n%q\nwant %s\n%q", c.path, got.Header.Get("Content-Type"), got.body, c.contentType, c.body)
		}
	}
}
