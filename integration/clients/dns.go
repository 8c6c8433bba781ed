package clients

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is the cluster's DNS, with the names that it must have and Google's.
type nameServer struct {
	names map[string]string // to IPv4 addresses, without the last dot

	mu      sync.Mutex
	unknown []string // names that were looked up but do not exist, without the last dot
}

func startNameServer(t testing.TB, conn net.PacketConn, names map[string]string) *nameServer {
	s := &nameServer{names: names}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("name server: %v", err)
				}
				return
			}
			if answer, err := s.answer(buffer[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from) // the client has gone
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	return s
}

func (s *nameServer) answer(message []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	ip, known := s.names[name]
	switch {
	case !known:
		answer.RCode = dnsmessage.RCodeNameError
		s.mu.Lock()
		s.unknown = append(s.unknown, name)
		s.mu.Unlock()
	case question.Type == dnsmessage.TypeA:
		answer.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 30},
			Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(ip).To4())},
		}}
	}
	return answer.Pack()
}

// strangers returns the unknown names of which a client requested the address, except
// those in the cluster's domains.
func (s *nameServer) strangers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, name := range s.unknown {
		if !strings.HasSuffix(name, ".cluster.local") {
			names = append(names, name)
		}
	}
	return names
}
