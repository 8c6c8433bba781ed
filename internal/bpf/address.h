// IP addresses in our maps: 16 bytes, network byte order, IPv4 as ::ffff:a.b.c.d, as
// (netip.Addr).As16 of Go writes them.

#ifndef ADDRESS_H
#define ADDRESS_H

#include "kernel.h"

// Bytes of an address, which programs copy by words.
#define ADDRESS(name) __u8 name[16] __attribute__((aligned(4)))

// The third word of ::ffff:a.b.c.d; the first two are zero.
#define MAPPED_PREFIX __builtin_bswap32(0x0000ffff)

#define COPY_IPV4(address, context, field)                                           \
	do {                                                                         \
		__u32 words[4] = {0, 0, MAPPED_PREFIX, LOAD(context, field)};        \
		__builtin_memcpy(address, words, sizeof(words));                     \
	} while (0)

#define COPY_IPV6(address, context, field)                                           \
	do {                                                                         \
		__u32 words[4] = {LOAD(context, field[0]), LOAD(context, field[1]),  \
				  LOAD(context, field[2]), LOAD(context, field[3])}; \
		__builtin_memcpy(address, words, sizeof(words));                     \
	} while (0)

#endif
