package daemon

import (
	"log/slog"
	"strings"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// Parts take the place of those that [Standalone.Run] makes itself, for who runs
// it in a process of its own making, like a test. The usual ones where nil.
type Parts struct {
	Identity server.Identity                   // who calls, in place of the list
	Google   *fakegoogle.Server                // the built-in fake, in place of one that allows everything
	Tokens   func(tokens.Source) tokens.Source // stands before the tokens' source
}

// identity is who calls.
func (p Parts) identity(list *identity.Static) server.Identity {
	if p.Identity != nil {
		return p.Identity
	}
	return list
}

// tokens is what the server asks for tokens.
func (p Parts) tokens(source tokens.Source) tokens.Source {
	if p.Tokens != nil {
		return p.Tokens(source)
	}
	return source
}

func (p Parts) startFake(g group, address string, log *slog.Logger) (*fakegoogle.Server, string, error) {
	if p.Google != nil {
		return serveFake(g, address, p.Google)
	}
	return startFake(g, address, log)
}

// FakeMember is how an IAM policy of the built-in fake names a KSA of the
// standalone server.
func FakeMember(namespace, name string) string {
	pool, _, _ := strings.Cut(fakeProvider, "/providers/")
	return "principal:" + pool + "/subject/system:serviceaccount:" + namespace + ":" + name
}
