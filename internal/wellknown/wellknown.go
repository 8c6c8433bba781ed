// Package wellknown has the addresses and names at which client libraries expect the
// metadata server. They are fixed by Google:
// https://docs.cloud.google.com/compute/docs/metadata/querying-metadata lists them.
package wellknown

const (
	// MetadataIPv4 is the link-local address of the metadata server.
	MetadataIPv4 = "169.254.169.254"
	// MetadataIPv6 is its address on IPv6-only machines.
	MetadataIPv6 = "fd20:ce::254"
	// MetadataPort is the TCP port of both addresses.
	MetadataPort = 80
	// MetadataHost is the DNS name that client libraries try first.
	MetadataHost = "metadata.google.internal"
	// MetadataShortHost is the name that a resolver completes by its search list.
	MetadataShortHost = "metadata"
)
