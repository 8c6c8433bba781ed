// Command client is a workload that asks the metadata server who it is, as the
// first thing that it does.
//
//	client once     write the answer where Kubernetes shows it, and end
//	client serve    answer /first with the first answer, /now with another one,
//	                and /lookup?name=NAME with the addresses of a name
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

const (
	metadata = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/"
	patience = 20 * time.Second
)

// answer is what the metadata server said. It has a token in the clear: it is
// for an offline Google's only.
type answer struct {
	Email  string `json:"email"`
	Token  string `json:"token"`
	Took   string `json:"took"`
	Again  int    `json:"again"` // how often it was asked again
	Failed string `json:"failed,omitempty"`
}

func main() {
	first := ask()
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		fmt.Fprintln(os.Stderr, serve(first))
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

func ask() answer {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var a answer
	var token struct {
		AccessToken string `json:"access_token"`
	}
	content, err := a.get(ctx, "token")
	if err == nil {
		err = json.Unmarshal(content, &token)
	}
	if err == nil {
		content, err = a.get(ctx, "email")
	}
	a.Token, a.Email, a.Took = token.AccessToken, string(content), time.Since(start).Round(time.Millisecond).String()
	if err != nil {
		a.Failed = err.Error()
	}
	return a
}

// get asks again where it is told to, as Google's clients do.
func (a *answer) get(ctx context.Context, path string) ([]byte, error) {
	for {
		content, later, err := get(ctx, path)
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

// get also returns when to ask again, if at all.
func get(ctx context.Context, path string) (content []byte, later time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, metadata+path, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	// A connection of its own each time: who calls is found out for each.
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
	if seconds, wrong := strconv.Atoi(response.Header.Get("Retry-After")); wrong == nil && response.StatusCode == http.StatusServiceUnavailable {
		later = time.Duration(seconds) * time.Second
	}
	return content, later, err
}

func serve(first answer) error {
	http.HandleFunc("/first", func(w http.ResponseWriter, _ *http.Request) { reply(w, first) })
	http.HandleFunc("/now", func(w http.ResponseWriter, _ *http.Request) { reply(w, ask()) })
	http.HandleFunc("/lookup", func(w http.ResponseWriter, r *http.Request) {
		addresses, err := net.DefaultResolver.LookupHost(r.Context(), r.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		reply(w, addresses)
	})
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: patience}
	return server.ListenAndServe()
}

func reply(w http.ResponseWriter, value any) {
	if err := json.NewEncoder(w).Encode(value); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
