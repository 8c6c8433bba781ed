package metadatatest

import "fmt"

// Option configures the server that [New] and [Start] create.
type Option func(*Server)

// NoEnv leaves the environment unchanged, so that the test can be parallel.
func NoEnv() Option { return func(s *Server) { s.noEnv = true } }

// Project sets the project's ID and number; default: demo-project and 123456789012.
func Project(id, number string) Option {
	return func(s *Server) { s.projectID, s.projectNumber = id, number }
}

// Link links a KSA (NAMESPACE/NAME) to a GSA from the start. Without this option and
// [Unlinked], default/default is linked to demo@demo-project.iam.gserviceaccount.com.
func Link(ksa, gsa string) Option {
	return func(s *Server) { s.initialLinks = append(s.initialLinks, func() error { return s.link(ksa, gsa) }) }
}

// Unlinked starts the server without the default link.
func Unlinked() Option {
	return func(s *Server) { s.initialLinks = append(s.initialLinks, func() error { return nil }) }
}

// At gives the callers from an IP address or CIDR range their own KSA
// (NAMESPACE/NAME). On Linux a client can use any address in 127.0.0.0/8; see
// [Server.ClientFrom].
func At(address, ksa string) Option {
	return func(s *Server) {
		s.identities = append(s.identities, func() (map[string]string, error) {
			namespace, name, err := splitKSA(ksa)
			return map[string]string{"address": address, "namespace": namespace, "serviceAccount": name}, err
		})
	}
}

func ksaError(ksa string) error {
	return fmt.Errorf("metadatatest: %q is not the name of a Kubernetes service account: write NAMESPACE/NAME", ksa)
}
