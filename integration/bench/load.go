package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	podIP     = "127.0.1.1"
	tokenPath = "/computeMetadata/v1/instance/service-accounts/default/token"
)

// load is requests for one path over some connections at a time, each with one request at
// a time. No two requests are alike: each has its own trace ID. Go's own client would cost
// more than the measured servers.
type load struct {
	sourceIP    string
	path        string
	connections int
	reconnect   bool // a new connection for each request
}

func (l load) String() string {
	if l.reconnect {
		return fmt.Sprintf("%d, new for each request", l.connections)
	}
	return fmt.Sprintf("%d kept", l.connections)
}

// outcome is the result of a load.
type outcome struct {
	requests  int
	elapsed   time.Duration
	latencies []time.Duration // sorted
}

func (o outcome) perSecond() float64 { return float64(o.requests) / o.elapsed.Seconds() }

// percentile returns a latency; p is from 0 to 100.
func (o outcome) percentile(p float64) time.Duration {
	if len(o.latencies) == 0 {
		return 0
	}
	return o.latencies[min(int(float64(len(o.latencies))*p/100), len(o.latencies)-1)]
}

// run sends requests to a server for the length of a window. A response other than 200 is
// an error.
func (l load) run(ctx context.Context, address string, window time.Duration) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, window+10*time.Second)
	defer cancel()
	latencies := make([][]time.Duration, l.connections)
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range latencies {
		g.Go(func() (err error) {
			latencies[i], err = l.client(ctx, i, address, start.Add(window))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return outcome{}, fmt.Errorf("GET %s from %s: %w", l.path, address, err)
	}
	o := outcome{elapsed: time.Since(start), latencies: slices.Concat(latencies...)}
	o.requests = len(o.latencies)
	slices.Sort(o.latencies)
	return o, nil
}

func (l load) client(ctx context.Context, i int, address string, until time.Time) ([]time.Duration, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(l.sourceIP)}}
	closing := ""
	if l.reconnect {
		closing = "Connection: close\r\n"
	}
	// The trace ID is the number of the connection and that of its request.
	request := []byte("GET " + l.path + " HTTP/1.1\r\nHost: metadata.google.internal\r\nUser-Agent: bench\r\nMetadata-Flavor: Google\r\n" + closing + fmt.Sprintf("X-Cloud-Trace-Context: %016d%016d\r\n\r\n", i, 0))
	number := request[len(request)-20 : len(request)-4]
	var conn net.Conn
	reader := bufio.NewReader(nil)
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	var latencies []time.Duration
	for now := time.Now(); now.Before(until); {
		if conn == nil {
			var err error
			if conn, err = dialer.DialContext(ctx, "tcp", address); err != nil {
				return nil, err
			}
			if err := conn.SetDeadline(until.Add(10 * time.Second)); err != nil {
				return nil, err
			}
			reader.Reset(conn)
		}
		increment(number)
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := readResponse(reader); err != nil {
			return nil, err
		}
		done := time.Now()
		latencies = append(latencies, done.Sub(now))
		now = done
		if l.reconnect {
			if err := conn.Close(); err != nil {
				return nil, err
			}
			conn = nil
		}
	}
	return latencies, nil
}

// increment adds one to a decimal number in ASCII. It wraps around.
func increment(digits []byte) {
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i]++; digits[i] <= '9' {
			return
		}
		digits[i] = '0'
	}
}

var contentLength = []byte("Content-Length: ")

// readResponse reads one response of a server that always sends Content-Length.
func readResponse(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		status := string(bytes.TrimSpace(line))
		rest, _ := io.ReadAll(io.LimitReader(r, 2<<10))
		return fmt.Errorf("%s: %s", status, rest)
	}
	length := -1
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return err
		}
		if len(line) == 2 {
			break
		}
		if value, found := bytes.CutPrefix(line, contentLength); found {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("the response has no Content-Length")
	}
	_, err = r.Discard(length)
	return err
}
