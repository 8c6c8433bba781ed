// Command floor answers every request with the same bytes, with Go's own HTTP server and
// nothing else. No server in Go can be faster.
//
// It reads the answer from standard input as JSON. It prints the two addresses that it
// listens on: one for the answer, one for its allocation statistics.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"
)

// answer is an answer of the measured server.
type answer struct {
	Header http.Header
	Body   []byte
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	var a answer
	if err := json.NewDecoder(os.Stdin).Decode(&a); err != nil {
		return fmt.Errorf("standard input is no answer: %w", err)
	}
	answers, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	allocations, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(answers.Addr(), allocations.Addr())
	failed := make(chan error, 2)
	go func() { failed <- listen(allocations, http.HandlerFunc(mallocs)) }()
	go func() { failed <- listen(answers, a) }()
	return <-failed
}

func listen(l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	return server.Serve(l)
}

func (a answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	for name, values := range a.Header {
		header[name] = values
	}
	_, _ = w.Write(a.Body)
}

// mallocs is in the form of Prometheus, as is the measured server's.
func mallocs(w http.ResponseWriter, _ *http.Request) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	_, _ = fmt.Fprintf(w, "go_memstats_mallocs_total %d\n", stats.Mallocs)
}
