package routing

// The modes of routing.
const (
	ModeAuto     = "auto"
	ModeEBPF     = "ebpf"
	ModeNFTables = "nftables"
	ModeAddress  = "address"
	ModeNone     = "none"
)
