//go:build ignore

// Rewrites the destination of TCP connections to the metadata server when a process
// calls connect(2). Nothing is translated afterwards: the socket is connected to the
// target from its first packet.

#include "address.h"

// Google's addresses of the metadata server. TestAddresses_EqualWellKnown compares them
// with package wellknown.
#define METADATA_IPV4 0xa9fea9fe
#define METADATA_IPV6_WORD0 0xfd2000ce
#define METADATA_IPV6_WORD1 0x00000000
#define METADATA_IPV6_WORD2 0x00000000
#define METADATA_IPV6_WORD3 0x00000254
#define METADATA_PORT 80

struct target {
	ADDRESS(address);
	__u8 port[2];     // network byte order
	__u8 reserved[2]; // zero
};

// The keys of gkemd_targets: the family of the sockets that a target is for.
enum family {
	IPV4 = 4,
	IPV6 = 6,
};

// A hash map, because its elements are replaced as a whole: no connection sees half of
// an old and half of a new target. The map is pinned, so a program of a later release
// can find one that an earlier release made. Do not change its type or its sizes.
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, 2);
	MAP_TYPE(key, enum family);
	MAP_TYPE(value, struct target);
} gkemd_targets SEC(".maps");

#define PROCEED 1
#define REFUSE 0 // connect(2) fails with EPERM

static __attribute__((always_inline)) struct target *find_target(enum family family)
{
	return bpf_map_lookup_elem(&gkemd_targets, &family);
}

static __attribute__((always_inline)) int is_metadata_port(struct bpf_sock_addr *context)
{
	return LOAD(context, protocol) == IPPROTO_TCP && LOAD(context, user_port) == __builtin_bswap16(METADATA_PORT);
}

static __attribute__((always_inline)) void set_port(struct bpf_sock_addr *context, struct target *target)
{
	context->user_port = target->port[0] | target->port[1] << 8;
}

// Without a target a connection is refused: if it went on it could reach another
// metadata server behind the node.
SEC("cgroup/connect4")
int gkemd_redirect4(struct bpf_sock_addr *context)
{
	if (!is_metadata_port(context) || LOAD(context, user_ip4) != __builtin_bswap32(METADATA_IPV4))
		return PROCEED;
	struct target *target = find_target(IPV4);
	if (!target)
		return REFUSE;

	__u32 words[4];
	__builtin_memcpy(words, target->address, sizeof(words));
	context->user_ip4 = words[3];
	set_port(context, target);
	return PROCEED;
}

static __attribute__((always_inline)) int is_metadata_address(__u64 word0, __u64 word1, __u64 word2, __u64 word3)
{
	int ipv4 = word0 == 0 && word1 == 0 && word2 == MAPPED_PREFIX && word3 == __builtin_bswap32(METADATA_IPV4);
	int ipv6 = word0 == __builtin_bswap32(METADATA_IPV6_WORD0) && word1 == __builtin_bswap32(METADATA_IPV6_WORD1) &&
		   word2 == __builtin_bswap32(METADATA_IPV6_WORD2) && word3 == __builtin_bswap32(METADATA_IPV6_WORD3);
	return ipv4 || ipv6;
}

// A socket of both families connects to IPv4 as ::ffff:a.b.c.d and arrives at this hook.
SEC("cgroup/connect6")
int gkemd_redirect6(struct bpf_sock_addr *context)
{
	if (!is_metadata_port(context) ||
	    !is_metadata_address(LOAD(context, user_ip6[0]), LOAD(context, user_ip6[1]), LOAD(context, user_ip6[2]), LOAD(context, user_ip6[3])))
		return PROCEED;
	struct target *target = find_target(IPV6);
	if (!target)
		return REFUSE;

	__u32 words[4];
	__builtin_memcpy(words, target->address, sizeof(words));
	context->user_ip6[0] = words[0];
	context->user_ip6[1] = words[1];
	context->user_ip6[2] = words[2];
	context->user_ip6[3] = words[3];
	set_port(context, target);
	return PROCEED;
}

// No helper that we call requires a license compatible with the GPL.
char _license[] SEC("license") = "Apache-2.0";
