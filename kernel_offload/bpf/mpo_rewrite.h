/* SPDX-License-Identifier: GPL-2.0-or-later */
/* New headers, and what they do to the checksums (RFC 1071, RFC 1624). */
#ifndef MPO_REWRITE_H
#define MPO_REWRITE_H

#include "mpo_parse.h"

#define MPO_IP4_DONT_FRAGMENT 0x4000

/*
 * What is needed of a flow to rewrite a packet, copied at once: the memory of a flow that is removed serves the next
 * one, perhaps while a packet is on its way.
 */
struct mpo_way {
	struct mpo_endpoint sender;
	struct mpo_endpoint target;
	__u32 ifindex;
	__u16 flags;
	__u8 tos;
	__u8 ip6;
};

/* The IP header and the ports of what leaves, as they stand in the packet, and the changes of the sums. */
struct mpo_headers {
	__u32 words[MPO_IP6_HEADER / 4 + 1];	/* the ports follow the header */
	__u32 length;				/* of the IP header */
	__u32 address_change;			/* one's complement, as in the packet */
	__u32 port_change;
};

MPO_INLINE void mpo_way_copy(struct mpo_way *way, const struct mpo_flow *flow)
{
	way->sender = flow->sender;
	way->target = flow->target;
	way->ifindex = flow->ifindex;
	way->flags = flow->flags;
	way->tos = flow->tos;
	way->ip6 = mpo_endpoint_is_ip6(&way->target);
}

MPO_INLINE __u32 mpo_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)((sum & 0xffffffff) + (sum >> 32));
}

MPO_INLINE __u16 mpo_fold16(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)((sum & 0xffff) + (sum >> 16));
}

/* A mapped IPv4 address has the sum of the plain one: 0xffff is zero. */
MPO_INLINE __u64 mpo_sum_address(const struct mpo_endpoint *endpoint)
{
	const __u32 *words = (const void *)endpoint;

	return (__u64)words[0] + words[1] + words[2] + words[3];
}

MPO_INLINE __u64 mpo_sum_complement(const struct mpo_endpoint *endpoint)
{
	const __u32 *words = (const void *)endpoint;

	return (__u64)~words[0] + (__u32)~words[1] + (__u32)~words[2] + (__u32)~words[3];
}

MPO_INLINE void mpo_headers_set_ip4(struct mpo_headers *headers, const struct mpo_packet *packet,
				    const struct mpo_way *way)
{
	const __u32 *sender = (const void *)&way->sender, *target = (const void *)&way->target;
	__u32 first, second, third, hops = packet->hops - 1u;
	__u64 sum;

	if (packet->ip6) {
		/* RFC 6864, section 4.1: what can't be fragmented needs no identification. */
		first = 0x45000000 | (__u32)way->tos << 16 |
			((packet->length - MPO_IP6_HEADER + MPO_IP4_HEADER) & 0xffff);
		second = MPO_IP4_DONT_FRAGMENT;
		third = hops << 24 | IPPROTO_UDP << 16;
		sum = (first >> 16) + (first & 0xffff) + second + (third >> 16);
		sum += bpf_ntohs(mpo_fold16((__u64)sender[3] + target[3]));
	} else {
		first = (packet->header[0] & 0xff00ffff) | (__u32)way->tos << 16;
		second = packet->header[1];
		third = (packet->header[2] & 0x00ff0000) | hops << 24;
		sum = ~packet->header[2] & 0xffff;
		sum += (~packet->header[0] >> 16) + (first >> 16);
		sum += (~packet->header[2] >> 16) + (third >> 16);
		sum += bpf_ntohs(mpo_fold16(headers->address_change));
	}
	third |= (__u16)~mpo_fold16(sum);
	headers->words[0] = bpf_htonl(first);
	headers->words[1] = bpf_htonl(second);
	headers->words[2] = bpf_htonl(third);
	headers->words[3] = sender[3];
	headers->words[4] = target[3];
	headers->words[5] = bpf_htonl((__u32)way->sender.port << 16 | way->target.port);
	headers->length = MPO_IP4_HEADER;
}

MPO_INLINE void mpo_headers_set_ip6(struct mpo_headers *headers, const struct mpo_packet *packet,
				    const struct mpo_way *way)
{
	const __u32 *sender = (const void *)&way->sender, *target = (const void *)&way->target;
	__u32 flow_label = packet->ip6 ? packet->header[0] & 0xfffff : 0;
	__u32 payload = packet->length - (packet->ip6 ? MPO_IP6_HEADER : MPO_IP4_HEADER);

	headers->words[0] = bpf_htonl(6u << 28 | (__u32)way->tos << 20 | flow_label);
	headers->words[1] = bpf_htonl(payload << 16 | IPPROTO_UDP << 8 | (packet->hops - 1u));
	headers->words[2] = sender[0];
	headers->words[3] = sender[1];
	headers->words[4] = sender[2];
	headers->words[5] = sender[3];
	headers->words[6] = target[0];
	headers->words[7] = target[1];
	headers->words[8] = target[2];
	headers->words[9] = target[3];
	headers->words[10] = bpf_htonl((__u32)way->sender.port << 16 | way->target.port);
	headers->length = MPO_IP6_HEADER;
}

MPO_INLINE void mpo_headers_set(struct mpo_headers *headers, const struct mpo_packet *packet,
				const struct mpo_way *way)
{
	__u32 ports = bpf_htonl((__u32)way->sender.port << 16 | way->target.port);

	headers->address_change = mpo_fold32(mpo_sum_address(&way->sender) + mpo_sum_address(&way->target) +
					     mpo_sum_complement(&packet->source) +
					     mpo_sum_complement(&packet->local));
	headers->port_change = mpo_fold32((__u64)ports + (__u32)~packet->ports);
	if (way->ip6)
		mpo_headers_set_ip6(headers, packet, way);
	else
		mpo_headers_set_ip4(headers, packet, way);
}

#endif
