package buildcache

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

const (
	progressInterval = 15 * time.Second
	tailLines        = 40 // of the compilers' messages, in an error
)

// Build runs go build -v and logs its progress at intervals. If the build fails, the
// error has the compilers' messages.
func Build(cmd *exec.Cmd, program string, log io.Writer) error {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w; Go must be on the PATH", err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			lines <- scanner.Text()
		}
		_, _ = io.Copy(io.Discard, stderr) // a line too long to scan must not block the build
	}()

	var downloads, packages int
	var messages []string
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for open := true; open; {
		var line string
		select {
		case line, open = <-lines:
			switch {
			case strings.HasPrefix(line, "go: downloading "):
				downloads++
			case !strings.Contains(line, " "): // -v prints each package that it compiles
				packages++
			default:
				messages = append(messages, line)
			}
		case <-ticker.C:
			fmt.Fprintf(log, "%s: %s, %d modules downloaded, %d packages compiled\n",
				program, time.Since(start).Round(time.Second), downloads, packages)
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", cmd.Dir, err, strings.Join(messages[max(0, len(messages)-tailLines):], "\n"))
	}
	return nil
}
