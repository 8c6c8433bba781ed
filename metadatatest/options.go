package metadatatest

import "fmt"

// Option changes what [New] and [Start] make.
type Option func(*Server)

// NoEnv leaves the environment alone, so that the test can be parallel.
func NoEnv() Option { return func(s *Server) { s.noEnv = true } }

// Project sets the project's ID and number: demo-project and 123456789012 without.
func Project(id, number string) Option {
	return func(s *Server) { s.projectID, s.projectNumber = id, number }
}

// Link links a KSA (NAMESPACE/NAME) to a GSA from the start. Without any, default/default
// is linked to demo@demo-project.iam.gserviceaccount.com.
func Link(ksa, gsa string) Option {
	return func(s *Server) { s.initial = append(s.initial, func() error { return s.link(ksa, gsa) }) }
}

// Unlinked starts with no link at all.
func Unlinked() Option {
	return func(s *Server) { s.initial = append(s.initial, func() error { return nil }) }
}

// At gives callers from an address or range a KSA of their own. Linux has all of
// 127.0.0.0/8; see [Server.ClientFrom].
func At(address, ksa string) Option {
	return func(s *Server) {
		s.initialRows = append(s.initialRows, func() (map[string]string, error) {
			namespace, name, err := split(ksa)
			return map[string]string{"address": address, "namespace": namespace, "serviceAccount": name}, err
		})
	}
}

func wrongKSA(ksa string) error {
	return fmt.Errorf("metadatatest: %q is not the name of a Kubernetes service account: write NAMESPACE/NAME", ksa)
}
