// Command executor does what kaniko's executor does in its pod, with the same libraries in
// the same order, for a Dockerfile without RUN: it checks whether it can push, downloads
// the context from Cloud Storage, builds the image, and pushes it. It replaces kaniko if a
// test has none.
//
// The libraries find the credentials: kaniko's keychain is Docker's configuration and then
// go-containerregistry's keychain for Google, which uses Google's default credentials
// first, and these use the metadata server.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/google"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"
)

// within bounds all of it.
const within = 5 * time.Minute

// report is the last line of the log.
type report struct {
	Digest     string        `json:"digest"`
	FirstToken time.Duration `json:"firstToken"` // from the process's start to the first token
	All        time.Duration `json:"all"`        // to the end
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	source := flag.String("context", "", "gs://BUCKET/FILE, a tar file, compressed")
	dockerfile := flag.String("dockerfile", "Dockerfile", "path in the context")
	destination := flag.String("destination", "", "image to push")
	flag.Parse()
	ctx, cancel := context.WithTimeoutCause(context.Background(), within, fmt.Errorf("not done within %s", within))
	defer cancel()
	target, err := name.NewTag(*destination)
	if err != nil {
		return fmt.Errorf("--destination: %w", err)
	}

	keychain := authn.NewMultiKeychain(authn.DefaultKeychain, google.Keychain)
	credential, err := authn.Resolve(ctx, keychain, target.Context())
	if err != nil {
		return err
	}
	if credential == authn.Anonymous {
		return errors.New("there are no credentials: neither Docker's configuration nor Google's default credentials has any")
	}
	output := report{FirstToken: sinceStart()}
	if err := remote.CheckPushPermission(target, keychain, http.DefaultTransport); err != nil {
		return fmt.Errorf("checking push permissions: %w", err)
	}
	files, err := fetch(ctx, *source)
	if err != nil {
		return fmt.Errorf("--context: %w", err)
	}
	image, err := build(files, *dockerfile)
	if err != nil {
		return fmt.Errorf("--dockerfile: %w", err)
	}
	if err := remote.Write(target, image, remote.WithContext(ctx), remote.WithAuth(credential)); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	output.Digest, output.All = digest.String(), sinceStart()
	return json.NewEncoder(os.Stdout).Encode(output)
}

// sinceStart is how long this process is there, by the kernel's own clock: it
// includes what goes on before main. It is exact to 10 ms.
func sinceStart() time.Duration {
	var now unix.Timespec
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	// The second field, a name in brackets, may hold anything. The 22nd is when the
	// process started, in hundredths of a second: proc_pid_stat(5).
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(now.Nano()) - time.Duration(ticks)*10*time.Millisecond
}
