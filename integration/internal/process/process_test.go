package process

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// parentFolder is set in the process that TestProcess_EndsWithItsParent starts and
// kills: the folder for the log of its child.
const parentFolder = "PROCESS_TEST_PARENT"

func TestMain(m *testing.M) {
	if folder := os.Getenv(parentFolder); folder != "" {
		runParent(folder)
	}
	os.Exit(m.Run())
}

// runParent starts a process, prints its id, and waits to be killed.
func runParent(folder string) {
	p, err := Start("sleep", filepath.Join(folder, "log"), exec.Command("/bin/sleep", "600"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Pid())
	<-p.Done()
	os.Exit(1)
}

func TestProcess_EndsWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a signal for the death of the parent")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), parentFolder+"="+t.TempDir())
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(line, &child); err != nil {
		t.Fatalf("the parent printed %q: %v", line, err)
	}
	if !runs(t, child) {
		t.Fatal("the child does not run")
	}

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	ticker, deadline := time.NewTicker(5*time.Millisecond), time.After(time.Minute)
	defer ticker.Stop()
	for runs(t, child) {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("process %d outlives its parent", child)
		}
	}
}

func TestProcess_CrashShowsTheEndOfItsLogOnce(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := Start("seq", log, exec.Command("/bin/sh", "-c", "seq 100; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	err = p.Crashed()
	if err == nil || !strings.HasPrefix(err.Error(), "seq: ended on its own: exit status 3\nlast lines of its log:\n61\n") || !strings.HasSuffix(err.Error(), "\n100") {
		t.Errorf("error is %v", err)
	}
	if err := p.Crashed(); err != nil {
		t.Errorf("reported twice: %v", err)
	}
}

func runs(t testing.TB, pid int) bool {
	t.Helper()
	runs, err := Runs(pid)
	if err != nil {
		t.Fatal(err)
	}
	return runs
}
