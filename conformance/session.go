package conformance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// session is one run against one server.
type session struct {
	options Options
	ctx     context.Context // of the case that is running
	secrets *secrets
	account string // the value of default/email, once it has been read
}

// caller is the kind of identity that the server gives this program.
type caller string

const (
	linked    caller = "linked to a Google service account"
	unlinked  caller = "linked to no Google service account"
	principal caller = "shown as a principal identifier"
)

// reply is an answer, or the reason why there is none.
type reply struct {
	request  string
	status   int // 0 if there is no answer
	header   http.Header
	body     string
	seen     string // every byte
	trailing string // the bytes after the answer, if they were read
	closed   bool   // the server has closed the connection without an answer
	duration time.Duration
}

// conn is a connection with the deadline of the case.
type conn struct {
	net.Conn
	reader *bufio.Reader
	seen   *bytes.Buffer
	stop   func() bool
}

func (s *session) dial() (*conn, error) {
	raw, err := s.options.Dial(s.ctx, "tcp", s.options.Target)
	if err != nil {
		return nil, err
	}
	deadline, _ := s.ctx.Deadline()
	_ = raw.SetDeadline(deadline)
	c := &conn{Conn: raw, seen: &bytes.Buffer{}, stop: context.AfterFunc(s.ctx, func() { _ = raw.Close() })}
	c.reader = bufio.NewReader(io.TeeReader(raw, c.seen))
	return c, nil
}

func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// send sends a request on its own connection.
func (s *session) send(request string) reply { return s.pipeline(request)[0] }

// pipeline sends requests in one write, and reads an answer to each.
func (s *session) pipeline(requests ...string) []reply {
	return s.withConn(func(c *conn) []reply {
		var filled []string
		for _, request := range requests {
			f, err := s.fill(request)
			if err != nil {
				return []reply{{request: request, seen: err.Error()}}
			}
			filled = append(filled, f)
		}
		_, err := io.WriteString(c, strings.Join(filled, ""))
		var replies []reply
		for _, request := range filled {
			replies = append(replies, s.read(c, request, err))
		}
		return replies
	})
}

// withConn calls f with a new connection. If it cannot connect, the error is the
// reply.
func (s *session) withConn(f func(*conn) []reply) []reply {
	c, err := s.dial()
	if err != nil {
		return []reply{{seen: err.Error()}}
	}
	defer c.Close()
	return f(c)
}

// maxBody is the part of a body that is read, in bytes.
const maxBody = 1 << 20

// read reads an answer. The server can have answered even if writing failed.
func (s *session) read(c *conn, request string, writeErr error) reply {
	start := time.Now()
	r := reply{request: request}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(response.Body, maxBody))
	}
	r.duration, r.seen, r.body = time.Since(start), c.seen.String(), string(body)
	c.seen.Reset()
	if err != nil {
		var timeout net.Error
		r.closed = !(errors.As(err, &timeout) && timeout.Timeout()) && r.seen == ""
		r.seen += fmt.Sprintf("(incomplete answer: %v)", errors.Join(writeErr, err))
		return r
	}
	r.status, r.header = response.StatusCode, response.Header
	s.secrets.learn(r)
	return r
}

// sendAndReadToEOF sends a request that closes the connection, and reads until the
// connection ends.
func (s *session) sendAndReadToEOF(request string) reply {
	return s.withConn(func(c *conn) []reply {
		request, err := s.fill(request)
		if err != nil {
			return []reply{{request: request, seen: err.Error()}}
		}
		_, err = io.WriteString(c, request)
		r := s.read(c, request, err)
		if r.status != 0 {
			trailing, err := io.ReadAll(io.LimitReader(c.reader, maxBody))
			r.trailing = string(trailing)
			if r.seen += c.seen.String(); err != nil {
				r.status, r.seen = 0, r.seen+fmt.Sprintf("(the connection stays open: %v)", err)
			}
		}
		return []reply{r}
	})[0]
}

// email returns the value of default/email.
func (s *session) email() (string, error) {
	if s.account == "" {
		r := s.send(get(sa + "default/email"))
		if err := s.expect(r, status(http.StatusOK)); err != nil {
			return "", err
		}
		s.account = strings.TrimSpace(r.body)
	}
	return s.account, nil
}

func (s *session) caller() (caller, error) {
	email, err := s.email()
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(email, "principal:"):
		return principal, nil
	case strings.Contains(email, "@"):
		return linked, nil
	}
	return unlinked, nil
}

// expect checks an answer. The error lists the expectations that are not met.
func (s *session) expect(r reply, expectations ...expectation) error {
	var missing []string
	if r.status == 0 {
		missing = append(missing, "an answer")
	} else {
		for _, e := range expectations {
			if m := e(s, r); m != "" {
				missing = append(missing, m)
			}
		}
	}
	if missing == nil {
		return nil
	}
	return &mismatch{request: r.request, expected: strings.Join(missing, "\n"), seen: r.seen}
}
