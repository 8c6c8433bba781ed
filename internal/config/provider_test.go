package config

import (
	"strings"
	"testing"

	"gke-metadata-emulator/internal/principal"
)

const testPool = "//iam.googleapis.com/projects/998877665544/locations/global/workloadIdentityPools/on-prem"

func TestProvider_DecidesNamesAndAudiences(t *testing.T) {
	const (
		gkePool   = "prod-project.svc.id.goog"
		short     = "projects/998877665544/locations/global/workloadIdentityPools/on-prem"
		otherPool = "fleet-project.svc.id.goog"
	)
	byNumber := strings.Replace(testMembership, "prod-project", "998877665544", 1)
	otherFleet := strings.Replace(testMembership, "prod-project", "fleet-project", 1)
	for _, test := range []struct {
		name               string
		valid              func(*testing.T) *Serve
		change             func(*Serve)
		provider, pool     string
		exchange, ksaToken string // audiences
		gkePool            string
	}{
		{"a provider", federation, func(*Serve) {}, testProvider, testPool, testProvider, "https:" + testProvider, gkePool},
		{"a provider as gcloud prints it", federation, func(s *Serve) { s.Provider.Name = short + "/providers/cluster-1" }, testProvider, testPool, testProvider, "https:" + testProvider, gkePool},
		{"a provider and its pool", federation, func(s *Serve) { s.Provider.Pool = "on-prem" }, testProvider, testPool, testProvider, "https:" + testProvider, gkePool},
		{"a membership", federation, func(s *Serve) { s.Provider.Name, s.Project.Number = testMembership, "998877665544" },
			testMembership, "", "identitynamespace:" + gkePool + ":" + testMembership, gkePool, gkePool},
		{"a membership by number", federation, func(s *Serve) { s.Provider.Name = byNumber },
			byNumber, "", "identitynamespace:" + gkePool + ":" + byNumber, gkePool, gkePool},
		{"another project's membership", federation, func(s *Serve) {
			s.Provider.Name, s.Project.Number, s.Project.WorkloadPool = otherFleet, "998877665544", otherPool
		}, otherFleet, "", "identitynamespace:" + otherPool + ":" + otherFleet, otherPool, otherPool},
		{"impersonation", impersonation, func(*Serve) {}, "", "", "", "", gkePool},
		{"a pool by ID", impersonation, func(s *Serve) { s.Provider.Pool = "on-prem" }, "", testPool, "", "", gkePool},
		{"a pool by name", impersonation, func(s *Serve) { s.Provider.Pool = short }, "", testPool, "", "", gkePool},
		{"a pool by full name", impersonation, func(s *Serve) { s.Provider.Pool = testPool }, "", testPool, "", "", gkePool},
		{"impersonation with a provider", impersonation, func(s *Serve) { s.Provider.Name = testProvider }, testProvider, testPool, testProvider, "https:" + testProvider, gkePool},
		{"the fake", fakeCredentials, func(*Serve) {}, FakeProvider, FakePool, FakeProvider, "https:" + FakeProvider, "demo-project.svc.id.goog"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.valid(t)
			test.change(s)
			if err := s.Complete(); err != nil {
				t.Fatal(err)
			}
			if s.Provider.Name != test.provider {
				t.Errorf("provider %s, want %s", s.Provider.Name, test.provider)
			}
			want := principal.Names{GKEPool: test.gkePool, ProjectNumber: s.Project.Number, Pool: test.pool}
			if got := s.Names(); got != want || got.ProjectNumber == "" {
				t.Errorf("names %q, want %q", got, want)
			}
			if test.provider == "" {
				return
			}
			if exchange, ksaToken := s.Provider.Audiences(s.Project.WorkloadPool); exchange != test.exchange || ksaToken != test.ksaToken {
				t.Errorf("audiences %s and %s, want %s and %s", exchange, ksaToken, test.exchange, test.ksaToken)
			}
		})
	}
}
