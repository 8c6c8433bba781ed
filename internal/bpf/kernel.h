// The part of the kernel's interface that our programs use, copied from
// include/uapi/linux/bpf.h and tcp.h of Linux 6.1. The kernel never changes it: new
// fields go to the end of a structure. It is copied because the objects hold these
// types (BTF), and would otherwise differ with the headers of the machine that builds
// them. TestKernelHeader_MatchesRunningKernel compares it with the running kernel.
//
// The programs use no kernel-internal structure and therefore need no relocation by
// BTF (CO-RE): they load on kernels without /sys/kernel/btf/vmlinux too.

#ifndef KERNEL_H
#define KERNEL_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "only little-endian machines are supported"
#endif

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_SK_STORAGE = 24,
};

// Flags of BPF_MAP_CREATE, bpf_map_update_elem and bpf_sk_storage_get.
#define BPF_F_NO_PREALLOC 1
#define BPF_ANY 0
#define BPF_SK_STORAGE_GET_F_CREATE 1

// bpf_sock_ops.op, and a flag of bpf_sock_ops_cb_flags_set.
#define BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB 4
#define BPF_SOCK_OPS_STATE_CB 10
#define BPF_SOCK_OPS_STATE_CB_FLAG 4

// States of TCP.
#define BPF_TCP_ESTABLISHED 1
#define BPF_TCP_FIN_WAIT1 4
#define BPF_TCP_FIN_WAIT2 5

// From sys/socket.h and linux/in.h.
#define AF_INET6 10
#define IPPROTO_TCP 6

struct bpf_sock;

// The context of the hooks cgroup/connect4 and cgroup/connect6.
struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;    // network byte order
	__u32 user_ip6[4]; // network byte order
	__u32 user_port;   // network byte order, in the lower half
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	union {
		struct bpf_sock *sk;
		__u64 : 64;
	} __attribute__((aligned(8)));
};

// The context of the hook sockops.
struct bpf_sock_ops {
	__u32 op;
	union {
		__u32 args[4]; // BPF_SOCK_OPS_STATE_CB: the old and the new state
		__u32 reply;
		__u32 replylong[4];
	};
	__u32 family;
	__u32 remote_ip4;    // network byte order
	__u32 local_ip4;     // network byte order
	__u32 remote_ip6[4]; // network byte order
	__u32 local_ip6[4];  // network byte order
	__u32 remote_port;   // network byte order, in the upper half
	__u32 local_port;    // host byte order
	__u32 is_fullsock;
	__u32 snd_cwnd;
	__u32 srtt_us;
	__u32 bpf_sock_ops_cb_flags;
	__u32 state;
	__u32 rtt_min;
	__u32 snd_ssthresh;
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 mss_cache;
	__u32 ecn_flags;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 packets_out;
	__u32 retrans_out;
	__u32 total_retrans;
	__u32 segs_in;
	__u32 data_segs_in;
	__u32 segs_out;
	__u32 data_segs_out;
	__u32 lost_out;
	__u32 sacked_out;
	__u32 sk_txhash;
	__u64 bytes_received;
	__u64 bytes_acked;
	union {
		struct bpf_sock *sk;
		__u64 : 64;
	} __attribute__((aligned(8)));
};

// Helper functions, by their numbers in enum bpf_func_id: see bpf-helpers(7).
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*const bpf_get_socket_cookie)(void *context) = (void *)46;
static long (*const bpf_sock_ops_cb_flags_set)(struct bpf_sock_ops *context, int flags) = (void *)59;
static __u64 (*const bpf_get_current_cgroup_id)(void) = (void *)80;
static void *(*const bpf_sk_storage_get)(void *map, void *socket, void *value, __u64 flags) = (void *)107;

// How a loader finds programs and maps: the conventions of libbpf's bpf_helpers.h.
#define SEC(name) __attribute__((section(name), used))
#define MAP_NUMBER(name, value) int(*name)[value]
#define MAP_TYPE(name, value) typeof(value) *name

// LOAD reads a 32-bit field of a context. It is assembly because a compiler does not
// know three rules of the verifier and of the kernel:
//   - most fields can only be read as a whole word, although we use a part;
//   - the offset has to be in the instruction: a pointer to a context cannot be moved;
//   - before Linux 5.9 a load from struct bpf_sock_ops whose destination is the register
//     of the context can corrupt it (commit 84f44df664e9). "&" keeps them apart.
// The value is 64 bits wide because instructions of -mcpu=v1 compare whole registers.
#define LOAD(context, field)                                                        \
	({                                                                          \
		__u64 value;                                                        \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                               \
			     : "=&r"(value)                                         \
			     : "r"(context), "i"(__builtin_offsetof(typeof(*(context)), field))); \
		value;                                                              \
	})

#endif
