package clients

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/clients.md")

// The situations in which every client has to work, as docs/clients.md has them.
var situations = []struct {
	name string
	try  func(c client, t *testing.T, i installed, r *row)
}{
	{"serve", func(c client, t *testing.T, i installed, r *row) {
		m := startServe(t, serveOptions{})
		c.works(t, i, m)
		r.requests = distinct(accesses(t, m.log.String()), m.gsa, c.sometimes)
	}},
	{"standalone", func(c client, t *testing.T, i installed, _ *row) { c.works(t, i, startStandalone(t)) }},
	{"early", func(c client, t *testing.T, i installed, _ *row) { c.startsWithServer(t, i) }},
	{"renewal", func(c client, t *testing.T, i installed, _ *row) { c.outlivesToken(t, i) }},
}

// Every client does everything that it can in each situation, and docs/clients.md matches.
func TestClients(t *testing.T) {
	var mu sync.Mutex
	rows := map[string]row{}
	clients := all()
	t.Cleanup(func() { checkTable(t, clients, rows) }) // after the last of them
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := c.install(t)
			r := row{name: c.name, version: i.version, did: c.does}
			for _, situation := range situations {
				t.Run(situation.name, func(t *testing.T) {
					situation.try(c, t, i, &r)
					if !t.Failed() && !t.Skipped() {
						r.situations = append(r.situations, situation.name)
					}
				})
			}
			mu.Lock()
			defer mu.Unlock()
			if len(r.situations) == len(situations) { // else this has failed already, or ran in part
				rows[c.name] = r
			}
		})
	}
}

// checkTable compares the results with docs/clients.md, or writes them there with -update.
func checkTable(t *testing.T, clients []client, rows map[string]row) {
	if *update {
		if err := write(tableFile, clients, rows); err != nil {
			t.Error(err)
		}
		return
	}
	old, err := committed(tableFile)
	if err != nil {
		t.Error(err)
	}
	for _, c := range clients {
		r, ran := rows[c.name]
		if !ran {
			continue
		}
		if differs := r.compare(old[c.name], c.anyVersion); differs != "" {
			t.Errorf("docs/clients.md is not what was seen; if it should be, run: go test ./... -update\n%s", differs)
		}
	}
}

// works is a pod that has long been known.
func (c client) works(t *testing.T, i installed, m *metadataServer) {
	s := newSession(t, m, i)
	w, err := c.open(s, i)
	if err == nil {
		err = w.work()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.written("wine.txt"); err != nil {
		t.Error(err)
	}
	if names := s.dns.strangers(); names != nil {
		t.Log("looked up names that do not exist here: ", names)
	}
}

// startsWithServer: the server has just begun to listen, and the API server learns
// the pod's address only when the client's request is waiting for it.
func (c client) startsWithServer(t *testing.T, i installed) {
	m := startServe(t, serveOptions{early: true})
	s := newSession(t, m, i)
	done := make(chan error, 1)
	go func() {
		w, err := c.open(s, i)
		if err == nil {
			_, err = s.write(w, "early.txt")
		}
		done <- err
	}()
	if _, err := s.waiting(clientTime); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "the server holds the request", func() error {
		if first := firstIdentity(accesses(t, m.log.String())); first != nil {
			t.Fatalf("%s was answered with %d before the pod was known", first.URI, first.Status)
		}
		return m.holds()
	})
	cluster.SetPodIP(t, m.early, m.podIP)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	switch first := firstIdentity(accesses(t, m.log.String())); {
	case first == nil:
		t.Error("no request for an identity was logged")
	case first.Status != http.StatusOK:
		t.Errorf("the first request for an identity was answered with %d after %.3f s", first.Status, first.Seconds)
	}
}

// firstIdentity is the first request that needed the pod's identity.
func firstIdentity(requests []access) *access {
	for i, a := range requests {
		if strings.Contains(a.URI, "/service-accounts/") {
			return &requests[i]
		}
	}
	return nil
}

// outlivesToken: the token of the first upload has expired at the second one.
func (c client) outlivesToken(t *testing.T, i installed) {
	life := cmp.Or(c.shortLife, shortLife)
	s := newSession(t, startServe(t, serveOptions{tokenLife: life}), i)
	w, err := c.open(s, i)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.write(w, "first.txt")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, life+time.Minute, "the first token has expired", func() error {
		if left := time.Until(first.expiry); left > 0 {
			return fmt.Errorf("%s are left", left)
		}
		return nil
	})
	second, err := s.write(w, "second.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !second.expiry.After(first.expiry) {
		t.Errorf("both tokens expire at %s", first.expiry)
	}
}

func all() []client {
	return []client{golang(), python(), node(), java(), gcloud(), gsutil(), rclone(), gcrane(), crane()}
}
