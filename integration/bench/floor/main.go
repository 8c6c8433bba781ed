// Command floor returns the same bytes for every request, with Go's own HTTP server and
// nothing else. No server that is built on net/http can be faster.
//
// With -hard it also has the product's protection against slow and large requests, and the
// two headers that the product adds to every response.
//
// It reads the response from standard input as JSON. It prints the two addresses that it
// listens on: one for the response, one for its allocation statistics.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"
)

// response is a recorded response of the measured server.
type response struct {
	Header http.Header
	Body   []byte
}

func main() {
	hard := flag.Bool("hard", false, "use the timeouts, the header limit and the headers of the product")
	flag.Parse()
	if err := serve(*hard); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(hard bool) error {
	var r response
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		return fmt.Errorf("decode the response from standard input: %w", err)
	}
	responses, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	allocations, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: r}
	if hard {
		harden(server)
	} else {
		delete(r.Header, "Metadata-Flavor")
		delete(r.Header, "Server")
	}
	fmt.Println(responses.Addr(), allocations.Addr())
	failed := make(chan error, 2)
	go func() { failed <- (&http.Server{Handler: http.HandlerFunc(mallocs)}).Serve(allocations) }()
	go func() { failed <- server.Serve(responses) }()
	return <-failed
}

// harden sets what server/server.go of the product sets.
func harden(s *http.Server) {
	s.ReadTimeout, s.ReadHeaderTimeout = 5*time.Second, 5*time.Second
	s.WriteTimeout, s.IdleTimeout = 30*time.Second, 2*time.Minute
	s.MaxHeaderBytes = 16 << 10
}

func (r response) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	for name, values := range r.Header {
		header[name] = values
	}
	_, _ = w.Write(r.Body)
}

// mallocs responds in the text format of Prometheus, as the measured server does.
func mallocs(w http.ResponseWriter, _ *http.Request) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	_, _ = fmt.Fprintf(w, "go_memstats_mallocs_total %d\n", stats.Mallocs)
}
