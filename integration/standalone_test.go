package integration

import (
	"net/http"
	"testing"
)

// A web page of evil.example, a name that resolves to this machine.
func TestStandalone_RefusesDNSRebinding(t *testing.T) {
	addr := startStandalone(t)
	for host, want := range map[string]int{addr: 200, "metadata.google.internal": 200, "evil.example": 403, "evil.example:8080": 403} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/computeMetadata/v1/instance/service-accounts/default/token", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		request.Header.Set("Metadata-Flavor", "Google")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("Host %s: %s, want %d", host, response.Status, want)
		}
	}
}
