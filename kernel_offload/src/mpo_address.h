/* SPDX-License-Identifier: GPL-3.0-or-later */
/* struct mpo_endpoint, as all else in this project has it, to and from what the socket calls want. */
#ifndef MPO_ADDRESS_H
#define MPO_ADDRESS_H

#include <stdbool.h>
#include <string.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include "mpo_abi.h"

union mpo_address {
	struct sockaddr any;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};

static const __u8 mpo_mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static inline socklen_t mpo_address_length(const union mpo_address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->in6) : sizeof(address->in4);
}

static inline void mpo_address_from_endpoint(const struct mpo_endpoint *endpoint, union mpo_address *out)
{
	memset(out, 0, sizeof(*out));
	if (memcmp(endpoint->address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix)) == 0) {
		out->in4.sin_family = AF_INET;
		out->in4.sin_port = htons(endpoint->port);
		memcpy(&out->in4.sin_addr, endpoint->address + 12, 4);
	} else {
		out->in6.sin6_family = AF_INET6;
		out->in6.sin6_port = htons(endpoint->port);
		memcpy(&out->in6.sin6_addr, endpoint->address, 16);
	}
}

static inline void mpo_endpoint_from_address(const union mpo_address *address, struct mpo_endpoint *out)
{
	memset(out, 0, sizeof(*out));
	if (address->any.sa_family == AF_INET6) {
		memcpy(out->address, &address->in6.sin6_addr, 16);
		out->port = ntohs(address->in6.sin6_port);
	} else {
		memcpy(out->address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix));
		memcpy(out->address + 12, &address->in4.sin_addr, 4);
		out->port = ntohs(address->in4.sin_port);
	}
}

/* The zone of a link-local address is not compared: the socket that received it stands for it. */
static inline bool mpo_address_equal(const union mpo_address *a, const union mpo_address *b)
{
	if (a->any.sa_family != b->any.sa_family)
		return false;
	if (a->any.sa_family == AF_INET)
		return a->in4.sin_port == b->in4.sin_port && a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
	return a->in6.sin6_port == b->in6.sin6_port &&
	       memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
}

static inline bool mpo_address_is_unspecified(const union mpo_address *address)
{
	if (address->any.sa_family == AF_INET)
		return address->in4.sin_addr.s_addr == 0;
	return IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr);
}

#endif
