/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The programs for the ingress hook of tc. */
#ifndef MPO_TC_H
#define MPO_TC_H

#define MPO_VLAN_ID 0x0fff

/*
 * Write the headers of @headers. MPO_PASS: nothing was changed. The helpers for checksums know what is not in the
 * packet: a sender that leaves them to the card (CHECKSUM_PARTIAL: the field holds the sum of the pseudo-header only,
 * so a change of ports must not touch it) and a card that has summed up the whole packet (CHECKSUM_COMPLETE).
 */
MPO_INLINE int mpo_tc_rewrite(struct __sk_buff *skb, __u32 at, const struct mpo_packet *packet,
			      const struct mpo_headers *headers, bool ip6_out)
{
	__u32 checksum_at = at + (ip6_out ? MPO_IP6_HEADER : MPO_IP4_HEADER) + offsetof(struct udphdr, check);
	bool changed = packet->ip6 != ip6_out;
	int failed = MPO_PASS;
	long error = 0;

	if (changed) {
		if (bpf_skb_change_proto(skb, bpf_htons(ip6_out ? ETH_P_IPV6 : ETH_P_IP), 0))
			return MPO_PASS;
		failed = MPO_DISCARD;
	}
	if (packet->checksum != 0) {
		if (bpf_l4_csum_replace(skb, checksum_at, 0, headers->address_change,
					BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0))
			return failed;
		error = bpf_l4_csum_replace(skb, checksum_at, 0, headers->port_change, BPF_F_MARK_MANGLED_0);
	}
	if (!ip6_out && !changed) {
		/* The sum of an IPv4 header is 0 before and after, that of ports and UDP checksum does not change. */
		error |= bpf_skb_store_bytes(skb, at, headers->words, MPO_IP4_HEADER + 4, 0);
	} else if (ip6_out) {
		error |= bpf_skb_store_bytes(skb, at, headers->words, MPO_IP6_HEADER, BPF_F_RECOMPUTE_CSUM);
		error |= bpf_skb_store_bytes(skb, at + MPO_IP6_HEADER, &headers->words[MPO_IP6_HEADER / 4], 4, 0);
	} else {
		error |= bpf_skb_store_bytes(skb, at, headers->words, MPO_IP4_HEADER, BPF_F_RECOMPUTE_CSUM);
		error |= bpf_skb_store_bytes(skb, at + MPO_IP4_HEADER, &headers->words[MPO_IP4_HEADER / 4], 4, 0);
	}
	return error ? MPO_DISCARD : MPO_FORWARD;
}

MPO_INLINE bool mpo_tc_parse(struct __sk_buff *skb, __u32 at, struct mpo_packet *packet)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u32 wanted = MPO_PARSE_LENGTH;

	if (data + MPO_PARSE_LENGTH > end) {
		if (wanted > skb->len)
			wanted = skb->len;
		if (bpf_skb_pull_data(skb, wanted))
			return false;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return mpo_parse_ip4(packet, data + at, end, skb->len - at);
	return mpo_parse_ip6(packet, data + at, end, skb->len - at);
}

/* @at: where the IP header begins. TC_ACT_UNSPEC lets the filters of others see what is not ours. */
MPO_INLINE int mpo_tc(struct __sk_buff *skb, __u32 at)
{
	struct mpo_arrival arrival;
	struct mpo_packet packet;
	struct mpo_headers headers;
	struct mpo_flow_stats *stats;
	struct mpo_flow *flow;
	struct mpo_way way;
	__u32 slot;
	int verdict;

	/* Others' (a bridge's, a macvlan's, another host's on the same cable) are seen on their own device, if at all. */
	if (skb->pkt_type != PACKET_HOST)
		return TC_ACT_UNSPEC;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	/* A VLAN has a device, where this program is too; 0 is none: a priority only. */
	if (skb->vlan_present && (skb->vlan_tci & MPO_VLAN_ID) != 0)
		return TC_ACT_UNSPEC;
	if (!mpo_tc_parse(skb, at, &packet))
		return TC_ACT_UNSPEC;
	flow = bpf_map_lookup_elem(&flows, &packet.local);
	if (!flow)
		return TC_ACT_UNSPEC;
	slot = flow->slot;
	stats = bpf_map_lookup_elem(&flow_stats, &slot);
	if (!stats || stats->generation != flow->generation)
		return TC_ACT_UNSPEC;
	mpo_way_copy(&way, flow);
	arrival.now = bpf_ktime_get_ns();
	arrival.ifindex = skb->ifindex;
	arrival.aggregate = skb->gso_size != 0;
	verdict = mpo_judge(&packet, flow, stats, &arrival, way.ip6);
	if (verdict == MPO_DISCARD)
		return TC_ACT_SHOT;
	if (verdict == MPO_PASS)
		return TC_ACT_UNSPEC;

	/* Short packets are padded on Ethernet. */
	if (skb->len != at + packet.length && bpf_skb_change_tail(skb, at + packet.length, 0)) {
		mpo_up(stats, MPO_FLOW_UP_FAILED);
		return TC_ACT_UNSPEC;
	}
	if (way.flags & MPO_FLOW_TAP)
		mpo_tap(skb, false, at, &packet, flow, &arrival);
	mpo_headers_set(&headers, &packet, &way);
	if (way.ip6)
		verdict = mpo_tc_rewrite(skb, at, &packet, &headers, true);
	else
		verdict = mpo_tc_rewrite(skb, at, &packet, &headers, false);
	if (verdict == MPO_PASS) {
		mpo_up(stats, MPO_FLOW_UP_FAILED);
		return TC_ACT_UNSPEC;
	}
	/* bpf_redirect_neigh() takes an Ethernet header away, so there has to be one; else it drops the packet. */
	if (at == 0 && verdict == MPO_FORWARD && bpf_skb_change_head(skb, ETH_HLEN, 0))
		verdict = MPO_DISCARD;
	if (verdict == MPO_DISCARD) {
		mpo_drop(stats, MPO_FLOW_DROP_FAILED);
		return TC_ACT_SHOT;
	}
	mpo_count(&packet, flow, stats, arrival.now);
	if (way.flags & MPO_FLOW_LOCAL)
		return TC_ACT_OK;
	if (skb->vlan_present)
		bpf_skb_vlan_pop(skb);
	/* The kernel looks up the neighbour, and resolves it if need be. */
	return (int)bpf_redirect_neigh(way.ifindex, NULL, 0, 0);
}

SEC("tc")
int mpo_tc_ethernet(struct __sk_buff *skb)
{
	return mpo_tc(skb, ETH_HLEN);
}

/* For devices whose packets begin with the IP header (tun, WireGuard). */
SEC("tc")
int mpo_tc_ip(struct __sk_buff *skb)
{
	return mpo_tc(skb, 0);
}

#endif
