package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// knownCaller is a pod and a token that need no waiting.
type knownCaller struct {
	workload identity.Workload
	token    tokens.Token
}

func (c knownCaller) Pod(context.Context, identity.Connection) (identity.Pod, error) {
	return c.workload.Pod, nil
}
func (c knownCaller) Workload(context.Context, identity.Pod) (identity.Workload, error) {
	return c.workload, nil
}
func (c knownCaller) Changed() <-chan struct{} { return nil }
func (c knownCaller) AccessToken(context.Context, identity.Workload, tokens.Scopes) (tokens.Token, error) {
	return c.token, nil
}
func (c knownCaller) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return c.token, nil
}

// discard is a [http.ResponseWriter] that drops the response.
type discard struct{ header http.Header }

func (b *discard) Header() http.Header         { return b.header }
func (b *discard) Write(p []byte) (int, error) { return len(p), nil }
func (b *discard) WriteHeader(int)             {}

func hotRequest(tb testing.TB, path string) func() {
	tb.Helper()
	c := knownCaller{workload: linked().workload, token: tokens.NewToken(accessSecret, time.Now().Add(time.Hour))}
	s := New(Options{Identity: c, Tokens: c, Facts: func() Facts { return testFacts }, Metrics: prometheus.NewRegistry()})
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set(flavorHeader, flavor)
	r = r.WithContext(withConn(r.Context(), &conn{
		addresses: identity.Connection{Remote: netip.MustParseAddrPort("10.0.0.1:4000"), Local: netip.MustParseAddrPort("169.254.169.254:80")},
	}))
	w := &discard{http.Header{}}
	return func() {
		clear(w.header)
		s.ServeHTTP(w, r)
		if w.header["Content-Type"] == nil {
			tb.Fatalf("%s: no response: %v", path, w.header)
		}
	}
}

// The handler's allocations are most of the difference to a bare net/http server.
func TestCachedToken_AllocatesLittle(t *testing.T) {
	for path, maximum := range map[string]float64{
		accounts + "/default/token":                 1,
		accounts + "/default/identity?audience=abc": 8,
		root + "/project/project-id":                5,
	} {
		if got := testing.AllocsPerRun(100, hotRequest(t, path)); got > maximum {
			t.Errorf("%s: %.0f allocations, want at most %.0f", path, got, maximum)
		}
	}
}

func BenchmarkCachedToken(b *testing.B) {
	handle := hotRequest(b, accounts+"/default/token")
	b.ReportAllocs()
	for b.Loop() {
		handle()
	}
}

// BenchmarkKeptConnections compares a cached token with a bare net/http handler that
// writes the same answer. The clients only write and read bytes, so the profile is
// the server's.
func BenchmarkKeptConnections(b *testing.B) {
	c := knownCaller{workload: linked().workload, token: tokens.NewToken(accessSecret, time.Now().Add(time.Hour))}
	s := New(Options{Identity: c, Tokens: c, Facts: func() Facts { return testFacts }, Metrics: prometheus.NewRegistry()})
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{contentJSON}
		_, _ = io.WriteString(w, `{"access_token":"`+accessSecret+`","expires_in":3599,"token_type":"Bearer"}`)
	})
	for _, subject := range []struct {
		name  string
		serve func(context.Context, net.Listener) error
	}{
		{"server", s.Serve},
		{"bare", func(ctx context.Context, l net.Listener) error {
			server := &http.Server{Handler: bare}
			context.AfterFunc(ctx, func() { _ = server.Close() })
			if err := server.Serve(l); err != http.ErrServerClosed {
				return err
			}
			return nil
		}},
	} {
		b.Run(subject.name, func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			served := make(chan error, 1)
			go func() { served <- subject.serve(ctx, listener) }()
			defer func() {
				cancel()
				if err := <-served; err != nil {
					b.Error(err)
				}
			}()
			request := []byte(get(accounts + "/default/token"))
			b.ReportAllocs()
			b.SetParallelism(8) // times GOMAXPROCS: 16 connections on two cores
			b.RunParallel(func(pb *testing.PB) {
				conn, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					b.Error(err)
					return
				}
				defer conn.Close()
				buffer := make([]byte, 4<<10)
				for pb.Next() {
					if _, err := conn.Write(request); err != nil {
						b.Error(err)
						return
					}
					for n := 0; ; {
						read, err := conn.Read(buffer[n:])
						if err != nil {
							b.Error(err)
							return
						}
						if n += read; bytes.HasSuffix(buffer[:n], []byte(`"token_type":"Bearer"}`)) {
							break
						}
					}
				}
			})
		})
	}
}
