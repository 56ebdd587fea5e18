/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens to a packet of a flow: the order of the questions, and what is counted. */
#ifndef MPO_JUDGE_H
#define MPO_JUDGE_H

#include "mpo_parse.h"

/* Verdicts. */
#define MPO_PASS 0	/* up, untouched */
#define MPO_DISCARD 1
#define MPO_FORWARD 2

/* How long no further stranger goes up as a sample. */
#define MPO_SAMPLE_INTERVAL 250000000ull

/* An aggregate of several datagrams (struct mpo_arrival.length is that of all); those are cut apart further up. */
struct mpo_arrival {
	__u64 now;
	__u32 ifindex;
	bool aggregate;
};

/* Network interface 1 of every network namespace is lo (LOOPBACK_IFINDEX of the kernel). */
#define MPO_LOOPBACK 1

MPO_INLINE int mpo_up(struct mpo_flow_stats *stats, __u32 reason)
{
	__sync_fetch_and_add(&stats->ups[reason], 1);
	return MPO_PASS;
}

MPO_INLINE int mpo_drop(struct mpo_flow_stats *stats, __u32 reason)
{
	__sync_fetch_and_add(&stats->drops[reason], 1);
	return MPO_DISCARD;
}

/* Two processors may take a sample at the same moment; one too many does no harm. */
MPO_INLINE int mpo_stranger(const struct mpo_flow *flow, struct mpo_flow_stats *stats, __u64 now)
{
	if (flow->flags & MPO_FLOW_STRICT) {
		if (now - stats->stranger_ns < MPO_SAMPLE_INTERVAL)
			return mpo_drop(stats, MPO_FLOW_DROP_WRONG_SOURCE);
		stats->stranger_ns = now;
	}
	return mpo_up(stats, MPO_FLOW_UP_SOURCE);
}

MPO_INLINE int mpo_judge(const struct mpo_packet *packet, const struct mpo_flow *flow, struct mpo_flow_stats *stats,
			 const struct mpo_arrival *arrival, bool ip6_out)
{
	__u32 length = packet->length;

	if (!(flow->flags & MPO_FLOW_OPAQUE) && packet->class != MPO_CLASS_RTP)
		return mpo_up(stats, packet->class == MPO_CLASS_RTCP ? MPO_FLOW_UP_RTCP : MPO_FLOW_UP_NOT_RTP);
	if (flow->source.port != 0 && !mpo_endpoint_equal(&packet->source, &flow->source))
		return mpo_stranger(flow, stats, arrival->now);
	stats->last_seen_ns = arrival->now;
	if (flow->flags & MPO_FLOW_DROP)
		return mpo_drop(stats, MPO_FLOW_DROP_BLOCKED);
	if (packet->odd)
		return mpo_up(stats, packet->odd & MPO_ODD_FRAGMENT ? MPO_FLOW_UP_FRAGMENT : MPO_FLOW_UP_OPTIONS);
	if (packet->ip6 != ip6_out)
		length += ip6_out ? MPO_IP6_HEADER - MPO_IP4_HEADER : MPO_IP4_HEADER - MPO_IP6_HEADER;
	if (arrival->aggregate || (flow->mtu != 0 && length > flow->mtu))
		return mpo_up(stats, MPO_FLOW_UP_MTU);
	/*
	 * On lo a packet keeps the route that its sender looked up, so it reaches a socket of this host whatever its
	 * address becomes; but not one of the other IP family.
	 */
	if (flow->flags & MPO_FLOW_LOCAL) {
		if (arrival->ifindex != MPO_LOOPBACK || packet->ip6 != ip6_out)
			return mpo_up(stats, MPO_FLOW_UP_LOCAL);
	} else if (flow->ifindex == 0) {
		return mpo_up(stats, MPO_FLOW_UP_FAILED);
	}
	/* RFC 768: 0 says that there is none; RFC 8200, section 8.1: IPv6 must have one. */
	if (packet->checksum == 0 && (packet->ip6 || ip6_out))
		return mpo_up(stats, MPO_FLOW_UP_FAILED);
	if (packet->hops <= 1)
		return mpo_drop(stats, MPO_FLOW_DROP_TTL);
	return MPO_FORWARD;
}

/* Count a packet that was forwarded. */
MPO_INLINE void mpo_count(struct mpo_packet *packet, const struct mpo_flow *flow, struct mpo_flow_stats *stats,
			  __u64 now)
{
	struct mpo_rtp_clocks clocks = {
		.rates = flow->clock_rates,
		.count = flow->clock_rate_count,
		.limit = MPO_FLOW_CLOCK_RATES_MAX,
		.serial = 0,	/* a flow is replaced as a whole: what was found for the one before says nothing */
	};

	__sync_fetch_and_add(&stats->packets, 1);
	__sync_fetch_and_add(&stats->bytes, packet->rtp.length);
	if (flow->flags & MPO_FLOW_OPAQUE)
		return;
	packet->rtp.now = now;
	mpo_rtp_table_count(stats->ssrcs, stats->sources, MPO_FLOW_SSRCS_MAX, &clocks, &packet->rtp);
}

#endif
