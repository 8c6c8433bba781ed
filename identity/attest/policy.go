package attest

// Policy says what a connection needs to have an identity.
type Policy string

const (
	// Require: the kernel's proof, or none.
	Require Policy = "require"
	// Prefer: the kernel's proof; its address where the kernel has none.
	Prefer Policy = "prefer"
	// IP: its address.
	IP Policy = "ip"
)
