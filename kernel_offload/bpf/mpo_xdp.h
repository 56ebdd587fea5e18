/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program for the hook of XDP. What tc is told with a packet is not known here: whether its Ethernet address is
 * ours (so a device must not be left in promiscuous mode on a cable where others' copies of a relay address are seen),
 * and whether the sender has left the checksum to the card (senders on this machine, behind a veth, must not).
 */
#ifndef MPO_XDP_H
#define MPO_XDP_H

#define MPO_VLAN_TAGS 2

/* bpf_fib_lookup()'s own, from linux/socket.h, which is not for this target. */
#define MPO_AF_INET 2
#define MPO_AF_INET6 10

struct mpo_vlan {
	__be16 tag;
	__be16 protocol;
};

/* Where the IP header begins, and in *protocol what it is; 0: none that is ours. */
MPO_INLINE __u32 mpo_xdp_ip_at(const void *data, const void *end, __be16 *protocol)
{
	const struct ethhdr *ethernet = data;
	const struct mpo_vlan *vlan;
	__u32 at = sizeof(*ethernet);
	int i;

	if ((const void *)(ethernet + 1) > end || ethernet->h_dest[0] & 1)
		return 0;
	*protocol = ethernet->h_proto;
	for (i = 0; i < MPO_VLAN_TAGS; i++) {
		if (*protocol != bpf_htons(ETH_P_8021Q) && *protocol != bpf_htons(ETH_P_8021AD))
			break;
		vlan = data + at;
		if ((const void *)(vlan + 1) > end)
			return 0;
		*protocol = vlan->protocol;
		at += sizeof(*vlan);
	}
	return at;
}

/*
 * Whether the checksum has still to be written: a sender on this machine (a container, lo) leaves that to the card, and
 * the field holds the sum of the pseudo-header only. No frame that XDP sends remembers that, so it would be wrong for
 * good. One in 65536 whole checksums looks the same, and takes the slow path for nothing.
 */
MPO_INLINE bool mpo_xdp_checksum_pending(const struct mpo_packet *packet)
{
	__u32 length = packet->rtp.length + MPO_UDP_HEADER;

	return packet->checksum == mpo_fold16(mpo_sum_address(&packet->source) + mpo_sum_address(&packet->local) +
					      bpf_htonl(IPPROTO_UDP) + bpf_htonl(length));
}

/* Route and neighbour of what will leave. Anything but a ready answer is for the stack, which resolves neighbours. */
MPO_INLINE bool mpo_xdp_route(struct xdp_md *context, const struct mpo_way *way, const struct mpo_headers *headers,
			      struct bpf_fib_lookup *fib)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = way->ifindex;
	fib->l4_protocol = IPPROTO_UDP;
	if (way->ip6) {
		fib->family = MPO_AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &headers->words[2], sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, &headers->words[6], sizeof(fib->ipv6_dst));
	} else {
		fib->family = MPO_AF_INET;
		fib->tos = way->tos;
		fib->ipv4_src = headers->words[3];
		fib->ipv4_dst = headers->words[4];
	}
	return bpf_fib_lookup(context, fib, sizeof(*fib), BPF_FIB_LOOKUP_OUTPUT) == BPF_FIB_LKUP_RET_SUCCESS;
}

/* @fib NULL: to this host, so the Ethernet addresses stay (on lo they are zero). */
MPO_INLINE int mpo_xdp_rewrite(struct xdp_md *context, __u32 at, const struct mpo_packet *packet,
			       const struct mpo_headers *headers, bool ip6_out, const struct bpf_fib_lookup *fib)
{
	__u32 length = ip6_out ? MPO_IP6_HEADER : MPO_IP4_HEADER;
	__u32 old_length = packet->ip6 ? MPO_IP6_HEADER : MPO_IP4_HEADER;
	int move = (int)(at + old_length) - (int)(ETH_HLEN + length);
	struct ethhdr *ethernet;
	__u32 *words, i;
	void *data, *end;
	__u16 checksum;

	if (move != 0 && bpf_xdp_adjust_head(context, move))
		return MPO_PASS;
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + ETH_HLEN + length + MPO_UDP_HEADER > end)
		return MPO_DISCARD;
	ethernet = data;
	if (fib) {
		__builtin_memcpy(ethernet->h_dest, fib->dmac, ETH_ALEN);
		__builtin_memcpy(ethernet->h_source, fib->smac, ETH_ALEN);
		ethernet->h_proto = bpf_htons(ip6_out ? ETH_P_IPV6 : ETH_P_IP);
	}
	words = data + ETH_HLEN;
	for (i = 0; i <= length / 4; i++)
		words[i] = headers->words[i];
	if (packet->checksum != 0) {
		checksum = ~mpo_fold16((__u64)(__u16)~packet->checksum + headers->address_change +
				       headers->port_change);
		*(__u16 *)(data + ETH_HLEN + length + offsetof(struct udphdr, check)) = checksum ? checksum : 0xffff;
	}
	return MPO_FORWARD;
}

SEC("xdp")
int mpo_xdp(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 available, at, slot;
	struct mpo_arrival arrival;
	struct mpo_headers headers;
	struct mpo_packet packet;
	struct mpo_flow_stats *stats;
	struct bpf_fib_lookup fib;
	struct mpo_flow *flow;
	struct mpo_way way;
	__be16 protocol = 0;
	int verdict;

	at = mpo_xdp_ip_at(data, end, &protocol);
	if (at == 0)
		return XDP_PASS;
	available = (__u32)(end - data) - at;
	if (protocol == bpf_htons(ETH_P_IP)) {
		if (!mpo_parse_ip4(&packet, data + at, end, available))
			return XDP_PASS;
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		if (!mpo_parse_ip6(&packet, data + at, end, available))
			return XDP_PASS;
	} else {
		return XDP_PASS;
	}
	flow = bpf_map_lookup_elem(&flows, &packet.local);
	if (!flow)
		return XDP_PASS;
	slot = flow->slot;
	stats = bpf_map_lookup_elem(&flow_stats, &slot);
	if (!stats || stats->generation != flow->generation)
		return XDP_PASS;
	mpo_way_copy(&way, flow);
	arrival.now = bpf_ktime_get_ns();
	arrival.ifindex = context->ingress_ifindex;
	arrival.aggregate = false;
	verdict = mpo_judge(&packet, flow, stats, &arrival, way.ip6);
	if (verdict == MPO_DISCARD)
		return XDP_DROP;
	if (verdict == MPO_PASS)
		return XDP_PASS;

	mpo_headers_set(&headers, &packet, &way);
	if (!(way.flags & MPO_FLOW_LOCAL) &&
	    (mpo_xdp_checksum_pending(&packet) || !mpo_xdp_route(context, &way, &headers, &fib))) {
		mpo_up(stats, MPO_FLOW_UP_FAILED);
		return XDP_PASS;
	}
	/* Short packets are padded on Ethernet. */
	if (available != packet.length && bpf_xdp_adjust_tail(context, (int)packet.length - (int)available)) {
		mpo_up(stats, MPO_FLOW_UP_FAILED);
		return XDP_PASS;
	}
	if (way.flags & MPO_FLOW_TAP)
		mpo_tap(context, true, at, &packet, flow, &arrival);
	if (way.ip6)
		verdict = mpo_xdp_rewrite(context, at, &packet, &headers, true,
					  way.flags & MPO_FLOW_LOCAL ? NULL : &fib);
	else
		verdict = mpo_xdp_rewrite(context, at, &packet, &headers, false,
					  way.flags & MPO_FLOW_LOCAL ? NULL : &fib);
	if (verdict == MPO_PASS) {
		mpo_up(stats, MPO_FLOW_UP_FAILED);
		return XDP_PASS;
	}
	if (verdict == MPO_DISCARD) {
		mpo_drop(stats, MPO_FLOW_DROP_FAILED);
		return XDP_DROP;
	}
	mpo_count(&packet, flow, stats, arrival.now);
	if (way.flags & MPO_FLOW_LOCAL)
		return XDP_PASS;
	if (fib.ifindex == context->ingress_ifindex)
		return XDP_TX;
	return (int)bpf_redirect(fib.ifindex, 0);
}

#endif
