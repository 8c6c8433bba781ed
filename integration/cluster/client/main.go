// Command client is a workload that requests its identity from the metadata server as its
// first action.
//
//	client once           write the answer where Kubernetes shows it, and end
//	client print SERVER   write the answer of a server at IP:PORT to standard output
//	client serve          answer /first with the first answer, /now with a new one,
//	                      and /lookup?name=NAME with the addresses of a name
//
// CLIENT_PATIENCE is how long it retries if the server asks for it; default: 20s.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

const metadata = "169.254.169.254"

// client asks a server.
type client struct {
	server   string
	patience time.Duration
}

// answer is the metadata server's answer. It contains a token in plain text. Only an
// offline Google accepts it.
type answer struct {
	Email   string        `json:"email"`
	Token   string        `json:"token"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took"`  // from the start to the token
	Again   int           `json:"again"` // number of retries
	Failed  string        `json:"failed,omitempty"`
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "print" {
		if err := json.NewEncoder(os.Stdout).Encode(client{os.Args[2], 3 * time.Second}.ask()); err != nil {
			os.Exit(1)
		}
		return
	}
	c := client{metadata, 20 * time.Second}
	if given, err := time.ParseDuration(os.Getenv("CLIENT_PATIENCE")); err == nil {
		c.patience = given
	}
	first := c.ask()
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		fmt.Fprintln(os.Stderr, c.serve(first))
		os.Exit(1)
	}
	content, err := json.Marshal(first)
	if err == nil {
		err = os.WriteFile("/dev/termination-log", content, 0o600)
	}
	if err != nil || first.Failed != "" {
		fmt.Fprintln(os.Stderr, first.Failed, err)
		os.Exit(1)
	}
}

func (c client) ask() answer {
	a := answer{Started: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), c.patience)
	defer cancel()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	content, err := c.get(ctx, &a, "token")
	a.Took = time.Since(a.Started)
	if err == nil {
		err = json.Unmarshal(content, &token)
	}
	if err == nil {
		content, err = c.get(ctx, &a, "email")
	}
	if err != nil {
		a.Failed = err.Error()
		return a
	}
	a.Token, a.Email = token.AccessToken, string(content)
	return a
}

// get retries if the server asks for it, as Google's clients do.
func (c client) get(ctx context.Context, a *answer, path string) ([]byte, error) {
	for {
		content, later, err := c.try(ctx, path)
		if later == 0 {
			return content, err
		}
		a.Again++
		select {
		case <-time.After(later):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// try also returns when to retry, if at all.
func (c client) try(ctx context.Context, path string) (content []byte, later time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.server+"/computeMetadata/v1/instance/service-accounts/default/"+path, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	// Each request has a new connection, because the caller is identified for each connection.
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	content, err = io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, response.Status, content)
	}
	if seconds, failure := strconv.Atoi(response.Header.Get("Retry-After")); failure == nil && response.StatusCode == http.StatusServiceUnavailable {
		later = time.Duration(seconds) * time.Second
	}
	return content, later, err
}

func (c client) serve(first answer) error {
	http.HandleFunc("/first", func(w http.ResponseWriter, _ *http.Request) { reply(w, first) })
	http.HandleFunc("/now", func(w http.ResponseWriter, _ *http.Request) { reply(w, c.ask()) })
	http.HandleFunc("/lookup", func(w http.ResponseWriter, r *http.Request) {
		addresses, err := net.DefaultResolver.LookupHost(r.Context(), r.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		reply(w, addresses)
	})
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: c.patience}
	return server.ListenAndServe()
}

func reply(w http.ResponseWriter, value any) {
	if err := json.NewEncoder(w).Encode(value); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
