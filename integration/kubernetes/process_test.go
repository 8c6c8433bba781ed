package kubernetes

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

// Set in the process that TestProcessEndsWithItsParent starts and kills: the
// folder for its child's log.
const parentFolder = "KUBERNETES_TEST_PARENT"

func TestMain(m *testing.M) {
	if folder := os.Getenv(parentFolder); folder != "" {
		beParent(folder)
	}
	os.Exit(m.Run())
}

// beParent starts a process, says which, and waits to be killed.
func beParent(folder string) {
	p, err := startProcess("sleep", filepath.Join(folder, "log"), "/bin/sleep", "600")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.os.Pid)
	<-p.done
	os.Exit(1)
}

func TestProcessEndsWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has it")
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
	said, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(said, &child); err != nil {
		t.Fatalf("the parent said %q: %v", said, err)
	}
	if !running(t, child) {
		t.Fatal("the child does not run")
	}

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	ticker, deadline := time.NewTicker(5*time.Millisecond), time.After(10*time.Second)
	defer ticker.Stop()
	for running(t, child) {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("process %d outlives its parent", child)
		}
	}
}

func TestErrorHasTheEndOfTheLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := startProcess("seq", log, "/bin/sh", "-c", "seq 100; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	err = p.crashed()
	if err == nil || !strings.HasPrefix(err.Error(), "seq: ended on its own: exit status 3\nlast lines of its log:\n61\n") || !strings.HasSuffix(err.Error(), "\n100") {
		t.Errorf("error is %v", err)
	}
	if err := p.crashed(); err != nil {
		t.Errorf("told twice: %v", err)
	}
}
