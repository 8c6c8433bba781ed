package cluster

import (
	"os/exec"
	"strings"
	"syscall"
	"time"

	"gke-metadata-emulator/integration/internal/process"
)

// pollInterval is between two looks at something that was just started or ended.
const pollInterval = 50 * time.Millisecond

// launcher joins cgroups before it becomes the program, so that the program has no
// child outside of them.
const launcher = `for group in $1; do echo 0 >"$group/cgroup.procs" || exit 125; done; shift; exec "$@"`

// launch is a program that is started in cgroups. It ends when they are killed.
type launch struct {
	name    string
	log     string   // a file to which the output is appended
	groups  []string // folders of the cgroups to join
	env     []string // the whole environment
	flags   uintptr  // namespaces to make
	command []string
}

func (l launch) start() (*process.Process, error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", launcher, "sh", strings.Join(l.groups, " ")}, l.command...)...)
	cmd.Env = l.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: l.flags}
	return process.Start(l.name, l.log, cmd)
}
