package built

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

const (
	progressEvery = 15 * time.Second
	tailLines     = 40 // of what the compilers said, in an error
)

// Go runs go build -v and says at intervals how far it is. When
// the build fails, the error has what the compilers said.
func Go(cmd *exec.Cmd, what string, log io.Writer) error {
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
	var said []string
	ticker := time.NewTicker(progressEvery)
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
				said = append(said, line)
			}
		case <-ticker.C:
			fmt.Fprintf(log, "%s: %s, %d modules downloaded, %d packages compiled\n",
				what, time.Since(start).Round(time.Second), downloads, packages)
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", cmd.Dir, err, strings.Join(said[max(0, len(said)-tailLines):], "\n"))
	}
	return nil
}
