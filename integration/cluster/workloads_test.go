package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gke-metadata-emulator/integration/cluster"
)

// machineImage has nothing but the way to the machine's own files, which pods get
// from their node.
const machineImage = "localhost/gke-metadata-emulator/machine:1"

// workload is an unmodified program that prints its GSA's address and a token, each on a
// line. If it cannot determine the address, it prints a dash.
type workload struct {
	shell string            // command line for the shell
	env   map[string]string // besides HOME
	paths []string          // folders of this machine, besides /usr
	third string            // of the lines, if any
}

// installedWorkload is one that this machine has, or the reason why it does not.
type installedWorkload struct {
	*workload
	missing string
}

// clients are the rows of the table. Each makes its program ready, or skips.
var clients = []struct {
	name    string
	prepare func(*testing.T) *workload
}{
	{"curl", func(t *testing.T) *workload {
		tell(t, "curl", "--version")
		const get = `curl --silent --show-error --fail --max-time 20 --header "Metadata-Flavor: Google" http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/`
		return &workload{shell: get + `email && echo && ` + get + `token | sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p'`}
	}},
	{"Python, with google-auth", func(t *testing.T) *workload {
		libraries := pythonLibraries(t)
		program := strings.Split(tell(t, "python3", "-c", "import sys, os; print(os.path.realpath(sys.executable)); print(sys.base_prefix)"), "\n")
		return &workload{
			shell: program[0] + " " + source(t, "workloads/python.py"), env: map[string]string{"PYTHONPATH": libraries, "PYTHONDONTWRITEBYTECODE": "1"},
			paths: []string{program[1], libraries, source(t, "workloads")},
		}
	}},
	{"Node, with google-auth-library", func(t *testing.T) *workload {
		libraries := nodeLibraries(t)
		program := tell(t, "node", "--print", "process.execPath")
		return &workload{
			shell: program + " " + source(t, "workloads/node.cjs"), env: map[string]string{"NODE_PATH": filepath.Join(libraries, "node_modules")},
			paths: []string{filepath.Dir(program), libraries, source(t, "workloads")},
		}
	}},
	{"JVM, dual-stack sockets", func(t *testing.T) *workload {
		classes, home := javaClasses(t), javaHome(t)
		return &workload{shell: home[0] + "/bin/java -cp " + classes + " Token", paths: append(home, classes), third: "tcp6"}
	}},
	{"gcloud", func(t *testing.T) *workload {
		program, err := exec.LookPath("gcloud")
		if err != nil {
			t.Skipf("not installed on this machine: %v", err)
		}
		if program, err = filepath.EvalSymlinks(program); err != nil {
			t.Fatal(err)
		}
		return &workload{
			shell: "echo - && " + program + " auth print-access-token --quiet", env: map[string]string{"CLOUDSDK_CONFIG": "/tmp/gcloud"},
			paths: []string{filepath.Dir(filepath.Dir(program))},
		}
	}},
}

func source(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// prepareClients makes the clients ready, before there is a cluster.
func prepareClients(t *testing.T) map[string]installedWorkload {
	t.Helper()
	all := map[string]installedWorkload{}
	for _, client := range clients {
		t.Run("install "+client.name, func(t *testing.T) {
			all[client.name] = installedWorkload{missing: "not installed on this machine"}
			all[client.name] = installedWorkload{workload: client.prepare(t)}
		})
	}
	return all
}

// topLevel are the folders that programs of a machine expect beside /usr: links into it on
// most, folders on some.
func topLevel(t *testing.T) (links map[string]string, folders []string) {
	t.Helper()
	links = map[string]string{}
	for _, path := range []string{"/bin", "/lib", "/lib64"} {
		info, err := os.Lstat(path)
		switch {
		case err != nil:
		case info.Mode()&os.ModeSymlink != 0:
			links[path] = path
		default:
			folders = append(folders, path)
		}
	}
	return links, folders
}

func loadMachine(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	links, _ := topLevel(t)
	if err := c.Load(t.Context(), cluster.Image{Name: machineImage, Files: links}); err != nil {
		t.Fatal(err)
	}
}

// spec is a pod that runs the workload once.
func (w *workload) spec(t *testing.T, ksa string) corev1.PodSpec {
	t.Helper()
	spec := podSpec(ksa, "", "")
	// Without a token, the client's error message is the reason for the failure.
	script := "{ " + w.shell + `; } >/tmp/out 2>/tmp/err; code=$?; [ $code = 0 ] || tail -c 3000 /tmp/err >>/tmp/out; cat /tmp/out >/dev/termination-log; exit $code`
	container := corev1.Container{
		Name: "client", Image: machineImage, ImagePullPolicy: corev1.PullNever,
		Command: []string{"/usr/bin/sh", "-c", script}, Env: []corev1.EnvVar{{Name: "HOME", Value: "/tmp"}, {Name: "PATH", Value: "/usr/bin:/bin"}},
		VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
	}
	for name, value := range w.env {
		container.Env = append(container.Env, corev1.EnvVar{Name: name, Value: value})
	}
	spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	_, folders := topLevel(t)
	paths := append(append([]string{"/usr"}, folders...), w.paths...)
	slices.Sort(paths)
	for i, path := range slices.Compact(paths) {
		if path != "/usr" && strings.HasPrefix(path, "/usr/") {
			continue
		}
		name := fmt.Sprintf("machine-%d", i)
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: true})
	}
	spec.Containers = []corev1.Container{container}
	return spec
}

// workloadsWithin bounds all of them together: some take seconds of a core's time
// to begin.
const workloadsWithin = 4 * time.Minute

// running are the clients' pods, which start together.
type running struct {
	namespace string
	gsas      map[string]string // by the client's name
	pods      map[string]string
}

func (e *environment) startClients(t *testing.T) *running {
	t.Helper()
	r := &running{namespace: e.Namespace(t), gsas: map[string]string{}, pods: map[string]string{}}
	for i, client := range clients {
		w := e.clients[client.name]
		if w.workload == nil {
			continue
		}
		pod := fmt.Sprintf("client-%d", i)
		r.pods[client.name], r.gsas[client.name] = pod, e.KSA(t, r.namespace, pod)
		e.pod(r.namespace, pod, w.spec(t, pod))
	}
	return r
}

// clientGetsItsToken is the check of one client.
func clientGetsItsToken(name string) func(*testing.T, *environment) {
	return func(t *testing.T, e *environment) {
		w := e.clients[name]
		if w.workload == nil {
			e.skip(w.missing)
		}
		pod := e.running.pods[name]
		var lines []string
		err := e.ends(workloadsWithin, e.running.namespace, pod, func(output string) error {
			lines = strings.Split(strings.TrimSpace(output), "\n")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		gsa := e.running.gsas[name]
		if len(lines) < 2 || lines[0] != gsa && lines[0] != "-" {
			t.Fatalf("it wrote %q, not %s and a token", lines, gsa)
		}
		if err := e.Right(lines[1], gsa); err != nil {
			t.Error(err)
		}
		if w.third != "" && !slices.Contains(lines[2:], w.third) {
			t.Errorf("it wrote %q besides, not %s", lines[2:], w.third)
		}
		e.proved(e.running.namespace, pod)
	}
}
