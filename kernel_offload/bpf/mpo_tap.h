/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of packets for user space. */
#ifndef MPO_TAP_H
#define MPO_TAP_H

#include "mpo_judge.h"

/* Most packets are voice: records of this size fit ten times as often into the ring as those of the longest packet. */
#define MPO_TAP_LENGTH_SHORT 256

/* Waking the reader costs 4 us a packet; it has a timer instead. */
#define MPO_TAP_WAKEUP BPF_RB_NO_WAKEUP

MPO_INLINE void mpo_tap_record(void *context, bool xdp, __u32 at, const struct mpo_packet *packet,
			       const struct mpo_flow *flow, const struct mpo_arrival *arrival, __u32 space)
{
	struct mpo_tap_record *record;
	__u32 length = packet->length;
	long error;

	record = bpf_ringbuf_reserve(&tap, sizeof(*record) + space, 0);
	if (!record)
		return;
	if (length > space)
		length = space;
	record->local = packet->local;
	record->slot = flow->slot;
	record->generation = flow->generation;
	record->ifindex = arrival->ifindex;
	record->when_ns = arrival->now;
	record->length = length;
	record->packet_length = packet->length;
	if (length == 0)
		error = -1;
	else if (xdp)
		error = bpf_xdp_load_bytes(context, at, record + 1, length);
	else
		error = bpf_skb_load_bytes(context, at, record + 1, length);
	if (error)
		bpf_ringbuf_discard(record, MPO_TAP_WAKEUP);
	else
		bpf_ringbuf_submit(record, MPO_TAP_WAKEUP);
}

/* Copy the IP packet at offset @at, as it arrived. When the ring is full the copy is lost, not the packet. */
MPO_INLINE void mpo_tap(void *context, bool xdp, __u32 at, const struct mpo_packet *packet,
			const struct mpo_flow *flow, const struct mpo_arrival *arrival)
{
	if (packet->length <= MPO_TAP_LENGTH_SHORT)
		mpo_tap_record(context, xdp, at, packet, flow, arrival, MPO_TAP_LENGTH_SHORT);
	else
		mpo_tap_record(context, xdp, at, packet, flow, arrival, MPO_TAP_LENGTH_MAX);
}

#endif
