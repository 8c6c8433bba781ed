package attest

// Policy is the proof that a connection needs to have an identity.
type Policy string

const (
	// Require accepts the kernel's proof only.
	Require Policy = "require"
	// Prefer accepts the kernel's proof, and the source address if the kernel has none.
	Prefer Policy = "prefer"
	// IP accepts the source address.
	IP Policy = "ip"
)
