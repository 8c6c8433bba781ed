package config

import "github.com/spf13/pflag"

// StandardHandoverFile is the file of tokens that the Helm chart sets.
const StandardHandoverFile = "/run/gke-metadata-emulator/handover"

// HandoverKeyRemedy is the remedy of a hand-over key that is missing or too short.
const HandoverKeyRemedy = "make one by 'head -c 32 /dev/urandom'"

// Handover has the file in which the daemon leaves its tokens for the next instance on
// the node.
type Handover struct {
	File    string // on a tmpfs; empty: tokens are not left
	KeyFile string
}

func (h *Handover) flags(f *pflag.FlagSet) {
	f.StringVar(&h.File, "handover-file", "", "`file` on a tmpfs in which the tokens are left, sealed, for the next instance on the node (default: none); see docs/tokens.md")
	f.StringVar(&h.KeyFile, "handover-key-file", "", "`file` with the key that seals --handover-file, at least 32 bytes")
}

func (h *Handover) check(credentials string) error {
	switch {
	case h.File == "" && h.KeyFile == "":
		return nil
	case h.File == "":
		return FlagErrorf("handover-file", "give one on a tmpfs, like "+StandardHandoverFile, "is needed with --handover-key-file")
	case h.KeyFile == "":
		return FlagErrorf("handover-key-file", HandoverKeyRemedy, "is needed with --handover-file")
	case credentials == Fake:
		return FlagErrorf("handover-file", "leave it out", "contradicts --credentials=fake, whose Google forgets its tokens with the daemon")
	}
	return checkAbsolute("handover-file", h.File, StandardHandoverFile)
}

// ReadKey returns the key of the hand-over, nil if no tokens are left.
func (h *Handover) ReadKey() ([]byte, error) {
	if h.File == "" {
		return nil, nil
	}
	return readFile("handover-key-file", h.KeyFile)
}
