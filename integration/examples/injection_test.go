package examples

import (
	"encoding/json"
	"fmt"
	"gke-metadata-emulator/fakegoogle"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"
)

// injection is the answers of hosts that the stand-ins do not give.
type injection struct {
	sites  map[string]http.Handler
	google *fakegoogle.Running

	mu     sync.Mutex
	host   string
	status int
	body   string
}

func (i *injection) set(host string, status int, body string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.host, i.status, i.body = host, status, body
}

func (i *injection) clear() { i.set("", 0, "") }

func (i *injection) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	i.mu.Lock()
	injectedHost, status, body := i.host, i.status, i.body
	i.mu.Unlock()
	switch {
	case host == injectedHost && !strings.Contains(r.UserAgent(), "gcloud/"):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	case host == "oauth2.googleapis.com" && r.URL.Path == "/token":
		i.redeem(w, r)
	default:
		i.sites[host].ServeHTTP(w, r)
	}
}

// browserCode is the code that a browser shows after gcloud auth application-default login.
const browserCode = "4/fake-code"

// redeem gives a refresh token of the operator for the browser's code (RFC 6749, section
// 4.1.3), with the client that gcloud says it is. The offline Google has no such grant.
func (i *injection) redeem(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	form := r.PostForm
	refresh := form.Get("refresh_token")
	if form.Get("grant_type") == "authorization_code" && form.Get("code") == browserCode {
		refresh = fmt.Sprintf("1//fake-login-%d", time.Now().UnixNano())
		if err := i.google.Apply(&fakegoogle.State{Users: []fakegoogle.StateUser{
			{Email: Operator, ClientID: form.Get("client_id"), ClientSecret: form.Get("client_secret"), RefreshToken: refresh},
		}}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		form = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": form["client_id"], "client_secret": form["client_secret"]}
	}
	request := httptest.NewRequestWithContext(r.Context(), http.MethodPost, "/token", strings.NewReader(form.Encode()))
	request.Header = r.Header.Clone()
	request.Header.Del("Content-Length")
	recorded := httptest.NewRecorder()
	i.google.ServeHTTP(recorded, request)
	var answer map[string]any
	if err := json.Unmarshal(recorded.Body.Bytes(), &answer); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if recorded.Code == http.StatusOK && r.PostForm.Get("grant_type") == "authorization_code" {
		answer["refresh_token"] = refresh
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(recorded.Code)
	_ = json.NewEncoder(w).Encode(answer)
}
