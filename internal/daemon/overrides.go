package daemon

import (
	"log/slog"
	"strings"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// Overrides replace components of [Standalone.Run] for a program that embeds it, such
// as a test. Fields that are nil replace nothing.
type Overrides struct {
	Identity server.Identity                   // replaces the list of identities
	Google   *fakegoogle.Server                // replaces the fake that allows everything
	Tokens   func(tokens.Source) tokens.Source // decorates the source of tokens
}

func (o Overrides) identity(list *identity.Static) server.Identity {
	if o.Identity != nil {
		return o.Identity
	}
	return list
}

func (o Overrides) tokens(source tokens.Source) tokens.Source {
	if o.Tokens != nil {
		return o.Tokens(source)
	}
	return source
}

func (o Overrides) google(log *slog.Logger) *fakegoogle.Server {
	if o.Google != nil {
		return o.Google
	}
	return newFake(log)
}

// FakeMember is the name of a KSA of the standalone server in an IAM policy of the
// built-in fake.
func FakeMember(namespace, name string) string {
	pool, _, _ := strings.Cut(fakeProvider, "/providers/")
	return "principal:" + pool + "/subject/system:serviceaccount:" + namespace + ":" + name
}
