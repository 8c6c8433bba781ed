package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	uploader = "uploader@my-project.iam.gserviceaccount.com"
	google   = "127.0.0.1:9000" // of the stand-in for it

	// What gcloud auth application-default login and set-quota-project leave, but for token_uri.
	login = `{"type": "authorized_user", "quota_project_id": "my-project", "account": "", "client_id": "id", "client_secret": "secret", "refresh_token": "refresh", "universe_domain": "googleapis.com", "token_uri": "http://` + google + `/token"}`
	users = `
serviceAccounts: [` + uploader + `]
users:
- {email: developer@example.com, clientID: id, clientSecret: secret, refreshToken: refresh}
bindings:
- {resource: projects/my-project, role: roles/owner, member: "user:developer@example.com"}
`
	creator = `- {resource: ` + uploader + `, role: roles/iam.serviceAccountTokenCreator, member: "user:developer@example.com"}
`
)

// laptop is a machine with a developer's home.
type laptop struct {
	*namespace
	home        string
	environment []string
	wants       string // output of the README's commands
}

func newLaptop(t *testing.T, folder string, environment ...string) *laptop {
	t.Helper()
	l := &laptop{namespace: newNamespace(t), wants: uploader + "\nGo: " + uploader + "\n"}
	path := folder + ":"
	if python := python(t); python != "" {
		path += python + ":"
		l.wants += "Python: " + uploader + " my-project\n"
	}
	if _, err := exec.LookPath("gcloud"); err == nil {
		l.wants += uploader + "\n"
	}
	l.home = t.TempDir()
	write(t, login, l.home, ".config/gcloud/application_default_credentials.json")
	l.environment = append(environment, "HOME="+l.home, "TMPDIR="+l.home, "PATH="+path+os.Getenv("PATH"), "GOPROXY=off", "CLOUDSDK_CORE_DISABLE_PROMPTS=1")
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOTOOLCHAIN"} {
		l.environment = append(l.environment, name+"="+outside(t, ".", "go", "env", name))
	}
	return l
}

func (l *laptop) command(t *testing.T, program string, args ...string) *exec.Cmd {
	cmd := command(t, program, args...)
	cmd.Dir, cmd.Env = "../../examples/laptop", l.environment
	return cmd
}

// paste runs these sections of the README as a developer would paste them.
func (l *laptop) paste(t *testing.T, headings ...string) (string, error) {
	t.Helper()
	script := commands(t, "laptop", func(block string) string {
		for _, program := range []string{"gcloud", "python3"} {
			if _, err := exec.LookPath(program); err != nil && strings.Contains(block, program+" ") {
				return "this machine has no " + program
			}
		}
		return ""
	}, headings...)
	return l.run(t, l.command(t, "bash", "-c", script))
}

// google starts a stand-in for Google with these users, accounts and bindings.
func (l *laptop) google(t *testing.T, state string) {
	t.Helper()
	l.serve(t, l.command(t, "bash", "-c", `exec gke-metadata-emulator fakegoogle --listen=`+google+` --state="$0"`,
		write(t, state, t.TempDir(), "state.yaml")))
}

func TestLaptop(t *testing.T) {
	folder := program(t)
	outside(t, "../../examples/laptop", "go", "build", "-o", os.DevNull, ".") // there is no way to the Internet later
	fake, impersonation := "Start it without a Google account", "Or start it with your own account"

	t.Run("without an account", func(t *testing.T) {
		l := newLaptop(t, folder)
		// Before the first login there is no such file.
		if err := os.RemoveAll(filepath.Join(l.home, ".config")); err != nil {
			t.Fatal(err)
		}
		if output, err := l.paste(t, fake, "Use it"); err != nil || output != l.wants {
			t.Errorf("%v\n%s\nwant\n%s", err, output, l.wants)
		}
	})

	// The addresses of Google and the project's number, and no more, are set from outside of
	// the README.
	stand := []string{"GME_IAM_CREDENTIALS_ENDPOINT=http://" + google, "GME_IAM_ENDPOINT=http://" + google, "TOKENINFO=http://" + google + "/tokeninfo", "PROJECT_NUMBER=123456789012"}
	t.Run("with an account", func(t *testing.T) {
		l := newLaptop(t, folder, stand...)
		l.google(t, users+creator)
		if output, err := l.paste(t, impersonation, "Use it"); err != nil || output != l.wants {
			t.Errorf("%v\n%s\nwant\n%s", err, output, l.wants)
		}
	})

	t.Run("with an account that may not impersonate", func(t *testing.T) {
		l := newLaptop(t, folder, stand...)
		l.google(t, users)
		output, err := l.paste(t, impersonation, "Use it")
		if err == nil || !strings.Contains(err.Error(), "roles/iam.serviceAccountTokenCreator") || strings.Contains(output, "Go:") {
			t.Errorf("%v\n%s\nwant an error that names the role", err, output)
		}
	})
}

// python is a folder for PATH with a python3 that has google-auth, kept in the
// user's cache; "" if this machine has no Python.
func python(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		return ""
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	packages := []string{"google-auth==2.62.2", "requests==2.34.2"}
	folder := filepath.Join(caches, "gke-metadata-emulator", "local", strings.ReplaceAll(outside(t, ".", "python3", "--version"), " ", "-")+"-"+strings.Join(packages, "-"))
	if _, err := os.Stat(folder); err != nil {
		unfinished := fmt.Sprintf("%s.%d", folder, os.Getpid())
		outside(t, ".", "python3", "-m", "venv", unfinished)
		outside(t, ".", filepath.Join(unfinished, "bin/python3"), append([]string{"-m", "pip", "install", "--quiet", "--disable-pip-version-check"}, packages...)...)
		if err := os.Rename(unfinished, folder); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "bin")
}
