package examples

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/oauth2"
)

// credentialsFile is the file that gcloud auth application-default login writes, in the
// home folder.
const credentialsFile = ".config/gcloud/application_default_credentials.json"

// unrelatedProject is the core/project of the operator's gcloud. The operator has no role in
// it.
const unrelatedProject = "yesterdays-project"

// commandWithin bounds a README's commands, or one command. A gcloud takes 2 s, and
// several times that on a busy machine.
const commandWithin = 10 * time.Minute

// makeHome makes the operator's home folder: logged in at Google as by both
// gcloud auth login and gcloud auth application-default login.
func (s *Fixture) makeHome() error {
	file := filepath.Join(s.home, credentialsFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	// No token_uri, as in gcloud's own.
	if err := os.WriteFile(file, s.Google.AuthorizedUser(Operator, ""), 0o600); err != nil {
		return err
	}
	// Commands that rely on core/project fail: the reader of a README may have set any other
	// project, or none.
	folder := filepath.Dir(file)
	if err := os.Mkdir(filepath.Join(folder, "configurations"), 0o700); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"active_config":                 "default",
		"configurations/config_default": "[core]\nproject = " + unrelatedProject + "\naccount = " + Operator + "\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(s.home, "bin"), 0o755)
}

// addProgram gives the operator a program besides the machine's.
func (s *Fixture) addProgram(name, path string) error {
	return os.Symlink(path, filepath.Join(s.home, "bin", name))
}

func (s *Fixture) tokenFile() string { return filepath.Join(s.home, "access-token") }

// login gives gcloud a token of the operator's, by the refresh token of the
// credentials file.
func (s *Fixture) login(ctx context.Context) error {
	credentials, err := os.ReadFile(filepath.Join(s.home, credentialsFile))
	if err != nil {
		return err
	}
	token, err := s.redeem(ctx, credentials)
	if err != nil {
		return fmt.Errorf("the operator's login: %w", err)
	}
	return os.WriteFile(s.tokenFile(), []byte(token), 0o600)
}

// redeem gets an access token for a credentials file of gcloud's.
func (s *Fixture) redeem(ctx context.Context, credentials []byte) (string, error) {
	var file struct {
		ID      string `json:"client_id"`
		Secret  string `json:"client_secret"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(credentials, &file); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config := oauth2.Config{ClientID: file.ID, ClientSecret: file.Secret, Endpoint: oauth2.Endpoint{TokenURL: s.Google.URL + "/token"}}
	token, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: file.Refresh}).Token()
	if err != nil {
		return "", err
	}
	return token.AccessToken, nil
}

// environment is the complete environment of the operator's programs. The caller's
// environment only contributes the locations of programs and caches.
func (s *Fixture) environment() []string {
	env := []string{
		"HOME=" + s.home,
		"PATH=" + filepath.Join(s.home, "bin") + ":" + os.Getenv("PATH"),
		"HTTPS_PROXY=" + s.internet.proxy,
		"NO_PROXY=127.0.0.1", // the cluster
		"SSL_CERT_FILE=" + s.CAFile,
		"CURL_CA_BUNDLE=" + s.CAFile,
		"REQUESTS_CA_BUNDLE=" + s.CAFile,
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE=" + s.CAFile,
		"CLOUDSDK_CONFIG=" + filepath.Join(s.home, ".config/gcloud"),
		"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE=" + s.tokenFile(),
		"CLOUDSDK_CORE_DISABLE_PROMPTS=1",
		"CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=1",
		"CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=1",
		"NO_GCE_CHECK=true",
	}
	if s.Cluster != nil {
		env = append(env, "KUBECONFIG="+s.Cluster.Kubeconfig())
	}
	for _, name := range []string{"TMPDIR", "LANG", "GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOFLAGS", "CLOUDSDK_PYTHON"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// runIn runs a program in a folder as the operator, and returns its standard output. Its
// child processes end with it.
func (s *Fixture) runIn(ctx context.Context, folder string, command ...string) (string, error) {
	if err := s.login(ctx); err != nil {
		return "", err
	}
	return s.execute(ctx, folder, command...)
}

// execute is runIn with the login that there is.
func (s *Fixture) execute(ctx context.Context, folder string, command ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandWithin, fmt.Errorf("not done within %s", commandWithin))
	defer cancel()
	path, err := s.find(command[0])
	if err != nil {
		return "", err
	}
	var output, failed strings.Builder
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = folder, s.environment(), &output, &failed
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	end := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = end, time.Second
	if err := cmd.Start(); err != nil {
		return "", err
	}
	err = cmd.Wait()
	_ = end() // nothing is left as a rule
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return output.String(), fmt.Errorf("%s: %w: %s\n%s", filepath.Base(path), err, failed.String(), output.String())
	}
	return output.String(), nil
}

// find is the operator's own program, or the machine's.
func (s *Fixture) find(name string) (string, error) {
	own := filepath.Join(s.home, "bin", name)
	if _, err := os.Stat(own); err == nil {
		return own, nil
	}
	return exec.LookPath(name)
}
