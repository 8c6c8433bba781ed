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
	ctx     context.Context // of the present case
	secrets *secrets
	account string // as default/email says, once it has
}

// caller is what the server takes us for.
type caller string

const (
	linked    caller = "linked to a Google service account"
	unlinked  caller = "linked to no Google service account"
	principal caller = "shown as a principal identifier"
)

// reply is an answer, or why there is none.
type reply struct {
	request string
	status  int // 0 where there is no answer
	header  http.Header
	body    string
	seen    string // every byte
	rest    string // what came behind the answer, where that was read
	closed  bool   // no answer, as the server has closed the connection
	took    time.Duration
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

// ask sends a request on a connection of its own.
func (s *session) ask(request string) reply { return s.converse(request)[0] }

// converse sends requests in one write, and reads an answer to each.
func (s *session) converse(requests ...string) []reply {
	return s.on(func(c *conn) []reply {
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

// on calls f with a new connection; where there is none, that is the reply.
func (s *session) on(f func(*conn) []reply) []reply {
	c, err := s.dial()
	if err != nil {
		return []reply{{seen: err.Error()}}
	}
	defer c.Close()
	return f(c)
}

// limit is how much of a body is read.
const limit = 1 << 20

// read reads an answer. Where writing has failed it may have come all the same.
func (s *session) read(c *conn, request string, written error) reply {
	start := time.Now()
	r := reply{request: request}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(response.Body, limit))
	}
	r.took, r.seen, r.body = time.Since(start), c.seen.String(), string(body)
	c.seen.Reset()
	if err != nil {
		var timeout net.Error
		r.closed = !(errors.As(err, &timeout) && timeout.Timeout()) && r.seen == ""
		r.seen += fmt.Sprintf("(no whole answer: %v)", errors.Join(written, err))
		return r
	}
	r.status, r.header = response.StatusCode, response.Header
	s.secrets.learn(r)
	return r
}

// toTheEnd sends a request that closes the connection, and reads all that comes.
func (s *session) toTheEnd(request string) reply {
	return s.on(func(c *conn) []reply {
		request, err := s.fill(request)
		if err != nil {
			return []reply{{request: request, seen: err.Error()}}
		}
		_, err = io.WriteString(c, request)
		r := s.read(c, request, err)
		if r.status != 0 {
			rest, err := io.ReadAll(io.LimitReader(c.reader, limit))
			r.rest = string(rest)
			if r.seen += c.seen.String(); err != nil {
				r.status, r.seen = 0, r.seen+fmt.Sprintf("(the connection stays open: %v)", err)
			}
		}
		return []reply{r}
	})[0]
}

// email is what default/email says.
func (s *session) email() (string, error) {
	if s.account == "" {
		r := s.ask(get(sa + "default/email"))
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

// expect compares an answer with all that is expected of it.
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
