/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From bytes to struct mpo_packet. Works on a range of memory, so that it serves tc and XDP alike. What it refuses is
 * not counted: nobody knows whose it is, and the stack above knows best what to do with it.
 */
#ifndef MPO_PARSE_H
#define MPO_PARSE_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>

#include "mpo_maps.h"
#include "mpo_rtp.h"

/* How much of a packet has to be at hand: Ethernet, the longest IPv4 header or some IPv6 ones, UDP, RTP. */
#define MPO_PARSE_LENGTH 128

#define MPO_IP4_HEADER 20
#define MPO_IP6_HEADER 40
#define MPO_UDP_HEADER 8
#define MPO_RTP_HEADER 12
#define MPO_RTCP_HEADER 8	/* the smallest packet: an empty receiver report */

/* struct mpo_packet.odd */
#define MPO_ODD_OPTIONS 1
#define MPO_ODD_FRAGMENT 2

#define MPO_IP4_MORE_FRAGMENTS 0x2000
#define MPO_IP4_FRAGMENT_OFFSET 0x1fff
#define MPO_IP6_MORE_FRAGMENTS 0x0001
#define MPO_IP6_FRAGMENT_OFFSET 0xfff8

/* RFC 8200, section 4: "extension headers"; more in a row than these go up without being counted. */
#define MPO_IP6_EXTENSIONS 4

struct mpo_packet {
	struct mpo_endpoint local;	/* where it arrived: the key of its flow */
	struct mpo_endpoint source;
	struct mpo_rtp_packet rtp;	/* only if .class is MPO_CLASS_RTP */
	__u32 header[3];		/* of the IP header, the first words; host order */
	__u32 ports;			/* as they are in the packet */
	__u32 length;			/* of the IP packet */
	__u16 checksum;			/* of UDP, as it is in the packet */
	__u8 ip6;
	__u8 hops;			/* TTL or hop limit */
	__u8 odd;
	__u8 class;
};

MPO_INLINE __u32 mpo_word(const void *bytes)
{
	return *(const __u32 *)bytes;
}

MPO_INLINE void mpo_endpoint_set_ip4(struct mpo_endpoint *endpoint, __u32 address, __u16 port)
{
	__u32 *words = (void *)endpoint;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
	words[4] = 0;
	endpoint->port = port;
}

MPO_INLINE void mpo_endpoint_set_ip6(struct mpo_endpoint *endpoint, const void *address, __u16 port)
{
	__u32 *words = (void *)endpoint;

	words[0] = mpo_word(address);
	words[1] = mpo_word(address + 4);
	words[2] = mpo_word(address + 8);
	words[3] = mpo_word(address + 12);
	words[4] = 0;
	endpoint->port = port;
}

MPO_INLINE bool mpo_endpoint_is_ip6(const struct mpo_endpoint *endpoint)
{
	const __u32 *words = (const void *)endpoint;

	return words[0] != 0 || words[1] != 0 || words[2] != bpf_htonl(0xffff);
}

MPO_INLINE bool mpo_endpoint_equal(const struct mpo_endpoint *a, const struct mpo_endpoint *b)
{
	const __u32 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && a->port == b->port;
}

/* RFC 7983, section 7, and RFC 5761, section 4: "RTCP packet types in the range 192-223". */
MPO_INLINE void mpo_parse_payload(struct mpo_packet *packet, const __u8 *bytes, const void *end)
{
	__u32 first;

	packet->class = MPO_CLASS_OTHER;
	if (packet->rtp.length < MPO_RTCP_HEADER || (const void *)bytes + MPO_RTCP_HEADER > end)
		return;
	first = bpf_ntohl(mpo_word(bytes));
	if (first >> 30 != 2)
		return;
	if ((first >> 16 & 0xff) >= 192 && (first >> 16 & 0xff) <= 223) {
		packet->class = MPO_CLASS_RTCP;
		return;
	}
	if (packet->rtp.length < MPO_RTP_HEADER || (const void *)bytes + MPO_RTP_HEADER > end)
		return;
	packet->class = MPO_CLASS_RTP;
	packet->rtp.payload_type = first >> 16 & 0x7f;
	packet->rtp.sequence = (__u16)first;
	packet->rtp.timestamp = bpf_ntohl(mpo_word(bytes + 4));
	packet->rtp.ssrc = bpf_ntohl(mpo_word(bytes + 8));
}

/* @left: how long the IP packet is from @udp on. */
MPO_INLINE bool mpo_parse_udp(struct mpo_packet *packet, const struct udphdr *udp, __u32 left, const void *end)
{
	__u32 length;

	if ((const void *)(udp + 1) > end)
		return false;
	length = bpf_ntohs(udp->len);
	if (length < MPO_UDP_HEADER || (length > left && !(packet->odd & MPO_ODD_FRAGMENT)))
		return false;
	packet->rtp.length = length - MPO_UDP_HEADER;
	packet->ports = mpo_word(udp);
	packet->checksum = udp->check;
	packet->local.port = bpf_ntohs(udp->dest);
	packet->source.port = bpf_ntohs(udp->source);
	mpo_parse_payload(packet, (const void *)(udp + 1), end);
	return true;
}

MPO_INLINE bool mpo_parse_ip4(struct mpo_packet *packet, const void *data, const void *end, __u32 available)
{
	const struct iphdr *ip = data;
	__u32 header_length = MPO_IP4_HEADER;

	if ((const void *)(ip + 1) > end)
		return false;
	packet->header[0] = bpf_ntohl(mpo_word(data));
	packet->header[1] = bpf_ntohl(mpo_word(data + 4));
	packet->header[2] = bpf_ntohl(mpo_word(data + 8));
	if (packet->header[0] >> 28 != 4 || (packet->header[2] >> 16 & 0xff) != IPPROTO_UDP ||
	    packet->header[1] & MPO_IP4_FRAGMENT_OFFSET)
		return false;
	packet->length = packet->header[0] & 0xffff;
	packet->ip6 = 0;
	packet->hops = packet->header[2] >> 24;
	packet->odd = packet->header[1] & MPO_IP4_MORE_FRAGMENTS ? MPO_ODD_FRAGMENT : 0;
	mpo_endpoint_set_ip4(&packet->local, ip->daddr, 0);
	mpo_endpoint_set_ip4(&packet->source, ip->saddr, 0);
	if ((packet->header[0] >> 24 & 15) != MPO_IP4_HEADER / 4) {
		header_length = (packet->header[0] >> 22) & 0x3c;
		packet->odd |= MPO_ODD_OPTIONS;
	}
	if (header_length < MPO_IP4_HEADER || packet->length < header_length || packet->length > available)
		return false;
	return mpo_parse_udp(packet, data + header_length, packet->length - header_length, end);
}

/* Walk from the extension header of type @next to UDP. Returns how far it is, or 0. */
MPO_INLINE __u32 mpo_parse_extensions(struct mpo_packet *packet, const __u8 *data, const void *end, __u8 next)
{
	__u32 at = MPO_IP6_HEADER;
	const __u8 *header;
	__u16 fragment;
	int i;

	for (i = 0; i < MPO_IP6_EXTENSIONS; i++) {
		if (next == IPPROTO_UDP)
			return at;
		header = data + (at & 0xff);
		if ((const void *)header + 8 > end)
			return 0;
		if (next == IPPROTO_FRAGMENT) {
			fragment = bpf_ntohs(*(const __u16 *)(header + 2));
			if (fragment & MPO_IP6_FRAGMENT_OFFSET)
				return 0;
			packet->odd |= MPO_ODD_FRAGMENT;
			at += 8;
		} else if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) {
			packet->odd |= MPO_ODD_OPTIONS;
			at += (header[1] + 1u) * 8;
		} else {
			return 0;
		}
		if (at > MPO_PARSE_LENGTH)
			return 0;
		next = header[0];
	}
	return next == IPPROTO_UDP ? at : 0;
}

MPO_INLINE bool mpo_parse_ip6(struct mpo_packet *packet, const void *data, const void *end, __u32 available)
{
	const struct ipv6hdr *ip = data;
	__u32 header_length = MPO_IP6_HEADER;

	if ((const void *)(ip + 1) > end)
		return false;
	packet->header[0] = bpf_ntohl(mpo_word(data));
	if (packet->header[0] >> 28 != 6)
		return false;
	packet->length = MPO_IP6_HEADER + bpf_ntohs(ip->payload_len);
	packet->ip6 = 1;
	packet->hops = ip->hop_limit;
	packet->odd = 0;
	mpo_endpoint_set_ip6(&packet->local, &ip->daddr, 0);
	mpo_endpoint_set_ip6(&packet->source, &ip->saddr, 0);
	if (ip->nexthdr != IPPROTO_UDP) {
		header_length = mpo_parse_extensions(packet, data, end, ip->nexthdr);
		if (header_length == 0)
			return false;
	}
	if (packet->length < header_length || packet->length > available)
		return false;
	return mpo_parse_udp(packet, data + (header_length & 0xff), packet->length - header_length, end);
}

#endif
