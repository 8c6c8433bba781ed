//go:build ignore

// Records which cgroup opens each TCP connection to some destinations. A record has
// the connection's addresses and ports as its key, exists before the server can accept
// the connection, and is removed when the client's socket has closed.

#include "address.h"

// A destination of which connections are recorded.
struct destination {
	ADDRESS(address); // all zero: the port at any address
	__u8 port[2];     // network byte order
	__u8 reserved[2]; // zero
};

// A TCP connection as its client's socket sees it.
struct connection {
	ADDRESS(client);
	ADDRESS(server);
	__u16 client_port; // host byte order
	__u16 server_port; // host byte order
};

struct record {
	__u64 cgroup; // of the process that called connect(2)
	__u64 socket; // cookie of the client's socket
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, 16);
	MAP_TYPE(key, struct destination);
	MAP_TYPE(value, __u8);
} gkemd_dest SEC(".maps");

// The cgroup of the process that connects, from connect(2) to the establishment. It is
// stored with the socket and ends with it. The kernel requires BTF for such a map.
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_SK_STORAGE);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, int);
	MAP_TYPE(value, __u64);
} gkemd_cgroup SEC(".maps");

// Connections that are established and not accepted yet: several backlogs of a listener
// (net.core.somaxconn is 4096). This is no LRU map: a new record never evicts another.
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, 16384);
	MAP_TYPE(key, struct connection);
	MAP_TYPE(value, struct record);
} gkemd_records SEC(".maps");

// The number of connections without a record because gkemd_records was full.
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} gkemd_lost SEC(".maps");

// The verdict of every program here: the kernel goes on with the connection.
#define PROCEED 1

static __attribute__((always_inline)) int store_cgroup(struct bpf_sock_addr *context, struct destination *destination)
{
	__u16 port = LOAD(context, user_port);
	__builtin_memcpy(destination->port, &port, sizeof(port));

	if (!bpf_map_lookup_elem(&gkemd_dest, destination)) {
		__builtin_memset(destination->address, 0, sizeof(destination->address));
		if (!bpf_map_lookup_elem(&gkemd_dest, destination))
			return PROCEED;
	}
	__u64 cgroup = bpf_get_current_cgroup_id();
	__u64 *stored = bpf_sk_storage_get(&gkemd_cgroup, context->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (stored) // no memory: no record, so the connection has no proof
		*stored = cgroup;
	return PROCEED;
}

// The hooks at connect(2) run in the process that connects.
SEC("cgroup/connect4")
int gkemd_connect4(struct bpf_sock_addr *context)
{
	struct destination destination = {};

	if (LOAD(context, protocol) != IPPROTO_TCP)
		return PROCEED;
	COPY_IPV4(destination.address, context, user_ip4);
	return store_cgroup(context, &destination);
}

// A socket of both families that connects to ::ffff:169.254.169.254, for example one of
// Java, arrives at this hook and not at connect4.
SEC("cgroup/connect6")
int gkemd_connect6(struct bpf_sock_addr *context)
{
	struct destination destination = {};

	if (LOAD(context, protocol) != IPPROTO_TCP)
		return PROCEED;
	COPY_IPV6(destination.address, context, user_ip6);
	return store_cgroup(context, &destination);
}

static __attribute__((always_inline)) void add_record(struct bpf_sock_ops *context, struct connection *connection, struct record *record)
{
	// BPF_ANY: the earlier connection of these ports has ended and left its record.
	if (bpf_map_update_elem(&gkemd_records, connection, record, BPF_ANY)) {
		__u32 index = 0;
		__u64 *lost = bpf_map_lookup_elem(&gkemd_lost, &index);
		if (lost)
			__sync_fetch_and_add(lost, 1);
		return;
	}
	// The hook is called for changes of state only if a socket asks for it.
	bpf_sock_ops_cb_flags_set(context, LOAD(context, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __attribute__((always_inline)) void remove_record(struct connection *connection, __u64 socket)
{
	struct record *record = bpf_map_lookup_elem(&gkemd_records, connection);
	// A record is absent after the server has taken it. A later connection of the same
	// addresses and ports has a record of its own, which must stay.
	if (record && record->socket == socket)
		bpf_map_delete_elem(&gkemd_records, connection);
}

// This hook knows the client's port, which connect(2) has not always chosen yet. The
// record is written when the client's own TCP has established the connection. That is
// before the server can accept it, and never happens for forged packets. The record is
// removed when the connection has closed, so another connection from the same port
// cannot find it.
SEC("sockops")
int gkemd_socket(struct bpf_sock_ops *context)
{
	__u64 operation = LOAD(context, op);

	if (operation == BPF_SOCK_OPS_STATE_CB) {
		__u64 state = LOAD(context, args[1]);
		// In FIN_WAIT the client has sent everything and still reads.
		if (state == BPF_TCP_ESTABLISHED || state == BPF_TCP_FIN_WAIT1 || state == BPF_TCP_FIN_WAIT2)
			return PROCEED;
	} else if (operation != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
		return PROCEED;
	}

	struct bpf_sock *socket = context->sk;
	if (!socket)
		return PROCEED;
	__u64 *cgroup = bpf_sk_storage_get(&gkemd_cgroup, socket, 0, 0);
	if (!cgroup)
		return PROCEED; // another destination
	struct record record = {.cgroup = *cgroup};

	struct connection connection;
	if (LOAD(context, family) == AF_INET6) {
		COPY_IPV6(connection.client, context, local_ip6);
		COPY_IPV6(connection.server, context, remote_ip6);
	} else {
		COPY_IPV4(connection.client, context, local_ip4);
		COPY_IPV4(connection.server, context, remote_ip4);
	}
	connection.client_port = LOAD(context, local_port);
	connection.server_port = __builtin_bswap32(LOAD(context, remote_port));

	record.socket = bpf_get_socket_cookie(context);
	if (operation == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		add_record(context, &connection, &record);
	else
		remove_record(&connection, record.socket);
	return PROCEED;
}

// No helper that we call requires a license compatible with the GPL.
char _license[] SEC("license") = "Apache-2.0";
