package local

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const (
	folder   = "../../examples/docker-compose"
	reporter = "reporter@my-project.iam.gserviceaccount.com"
	fake     = "127.0.0.1:8988" // in the emulator's container

	metadata = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/"
)

// composition is the example's compose.yaml, running without an engine.
type composition struct {
	project    *types.Project
	network    *network
	containers map[string]*namespace // by service
	hosts      string                // a file
}

func compose(t *testing.T) *composition {
	t.Helper()
	path, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(path, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// A key that is not in Compose's schema is an error.
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: path, ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: content}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &composition{project: project, network: newNetwork(t, project, "workloads"), containers: make(map[string]*namespace)}
	for name, service := range project.Services {
		if len(service.Networks) != 1 || service.Networks["workloads"] == nil {
			t.Fatalf("service %s: this test knows the network workloads alone: %v", name, service.Networks)
		}
		if name != "metadata" && len(service.Environment)+len(service.Volumes) > 0 {
			t.Errorf("service %s is to need no environment and no file: %v %v", name, service.Environment, service.Volumes)
		}
		c.containers[name] = c.network.join(t, service.Networks["workloads"].Ipv4Address)
	}
	c.hosts = write(t, c.network.hosts(project), t.TempDir(), "hosts")
	return c
}

// start starts the emulator in a root directory with the files of its image and the mounts
// of the Compose file.
func (c *composition) start(t *testing.T) {
	t.Helper()
	service, root := c.project.Services["metadata"], t.TempDir()
	if err := os.Rename(filepath.Join(program(t), "gke-metadata-emulator"), filepath.Join(root, "gke-metadata-emulator")); err != nil {
		t.Fatal(err)
	}
	for _, volume := range service.Volumes {
		content, err := os.ReadFile(volume.Source)
		if err != nil || volume.Type != types.VolumeTypeBind || !volume.ReadOnly {
			t.Fatalf("volume %+v is no file that is mounted read-only: %v", volume, err)
		}
		write(t, string(content), root, volume.Target)
	}
	c.containers["metadata"].serve(t, c.emulator(t, root, append(service.Entrypoint, service.Command...)...))

	check := service.HealthCheck
	if check == nil || len(check.Test) < 2 || check.Test[0] != "CMD" {
		t.Fatalf("service metadata has no health check that an image without a shell can run: %+v", check)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := c.containers["metadata"].run(t, c.emulator(t, root, check.Test[2:]...))
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the emulator is not healthy: %v", err)
		case <-ticker.C:
		}
	}
}

// emulator is the program in its root directory, with the file's environment and the
// one setting by which the test finds the fake Google.
func (c *composition) emulator(t *testing.T, root string, args ...string) *exec.Cmd {
	cmd := command(t, "/gke-metadata-emulator", args...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root}
	cmd.Env = []string{"GME_FAKE_LISTEN=" + fake}
	for name, value := range c.project.Services["metadata"].Environment {
		cmd.Env = append(cmd.Env, name+"="+*value)
	}
	return cmd
}

// in runs a program of this machine as the container's: with its network, Docker's
// names and no environment.
func (c *composition) in(t *testing.T, container *namespace, command ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `mount --bind "$0" /etc/hosts && exec "$@"`, c.hosts}, command...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	output, err := container.run(t, cmd)
	return strings.TrimSpace(output), err
}

// ask is the metadata server's answer in a container, and its status.
func (c *composition) ask(t *testing.T, container *namespace, path string) (body, status string) {
	t.Helper()
	output, err := c.in(t, container, "curl", "--silent", "--show-error", "--max-time", "10", "--header", "Metadata-Flavor: Google", "--write-out", "\n%{http_code}", metadata+path)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.LastIndex(output, "\n")
	return output[:i], output[i+1:]
}

func TestCompose(t *testing.T) {
	c := compose(t)
	c.start(t)
	want := map[string]string{"uploader": uploader, "reporter": reporter}
	if len(c.containers) != len(want)+1 {
		t.Fatalf("services %v, this test knows metadata, uploader and reporter", c.project.ServiceNames())
	}
	for service, gsa := range want {
		t.Run(service+"'s command", func(t *testing.T) {
			service := c.project.Services[service]
			words := append(service.Entrypoint, service.Command...)
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Skipf("not on this machine: %v", err)
			}
			if output, err := c.in(t, c.containers[service.Name], words...); err != nil || output != gsa {
				t.Errorf("%v: %q, %v, want %s", words, output, err, gsa)
			}
		})
		t.Run(service+"'s token", func(t *testing.T) {
			body, status := c.ask(t, c.containers[service], "token")
			var token struct {
				Value string `json:"access_token"`
			}
			if err := json.Unmarshal([]byte(body), &token); err != nil || token.Value == "" {
				t.Fatalf("%s, %v", status, err)
			}
			// The fake itself reports the principal of its token.
			output, err := c.in(t, c.containers["metadata"], "curl", "--silent", "--fail", "--header", "Authorization: Bearer "+token.Value, "http://"+fake+"/fakegoogle/v1/token")
			if err != nil {
				t.Fatal(err)
			}
			var grant struct{ Principal string }
			if err := json.Unmarshal([]byte(output), &grant); err != nil || grant.Principal != "serviceAccount:"+gsa {
				t.Errorf("a token of %s, want %s", grant.Principal, gsa)
			}
		})
	}
	t.Run("a container that is not listed", func(t *testing.T) {
		stranger := c.network.join(t, "169.254.169.99")
		for _, path := range []string{"token", "email", "identity?audience=x"} {
			if body, status := c.ask(t, stranger, path); status[0] != '4' || strings.Contains(body, "gserviceaccount.com") || !strings.Contains(body, "169.254.169.99") {
				t.Errorf("%s: %s %s, want a refusal that names the address", path, status, body)
			}
		}
	})
}

// The README's commands need an engine.
func TestCompose_ByDocker(t *testing.T) {
	docker := command(t, "docker", "info")
	docker.WaitDelay = time.Second
	if err := docker.Run(); err != nil {
		t.Skipf("the README's commands were not run, only TestCompose: no Docker engine: docker info: %v", err)
	}
	script := commands(t, "docker-compose", func(string) string { return "" }, "Identities for the containers of Docker Compose")
	output := outside(t, folder, "bash", "-c", script)
	t.Log("the README's commands were run by a Docker engine")
	for _, gsa := range []string{uploader, reporter} {
		if !strings.Contains(output, gsa) {
			t.Errorf("%s is missing in\n%s", gsa, output)
		}
	}
}
