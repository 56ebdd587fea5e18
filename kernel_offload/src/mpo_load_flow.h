/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One flow of the generator: its frame, ready to be sent, and what has become of its packets in this run. */
#ifndef MPO_LOAD_FLOW_H
#define MPO_LOAD_FLOW_H

#include <stdbool.h>
#include <stddef.h>

#include "mpo_load.h"

#define MPO_LOAD_PAYLOAD 160u		/* 20 ms of G.711 */
#define MPO_LOAD_HEADERS (14u + 20u + 8u)
#define MPO_LOAD_FRAME (MPO_LOAD_HEADERS + 12u + MPO_LOAD_PAYLOAD)
/* Headers, RTP header and our stamp (time and run): all that the sink looks at. */
#define MPO_LOAD_SNAP (MPO_LOAD_HEADERS + 12u + 12u)

struct mpo_load_item {
	__u8 frame[MPO_LOAD_FRAME];
	__u8 side;
	__u16 sequence;
	__u16 first_sequence;	/* of this run */
	__u32 timestamp;
	__u32 last_step;	/* the highest that arrived in this run; 0: none, else 1 + distance from first_sequence */
	__u8 sink[6];		/* address and port as they stand in a frame */
	__u64 sent;
	__u64 received;
};

enum mpo_load_arrival {
	MPO_LOAD_OURS,
	MPO_LOAD_REORDERED,
	MPO_LOAD_MISDELIVERED,
	MPO_LOAD_STALE,
	MPO_LOAD_FOREIGN,
};

/* Build the frame of flow number @index. -EAFNOSUPPORT: an address is not IPv4. -EINVAL: no such side. */
int mpo_load_item_build(struct mpo_load_item *item, const struct mpo_load_flow *flow, __u32 index);

/* Write the addresses that the frame needs to get to the relay. */
void mpo_load_item_address(struct mpo_load_item *item, const __u8 own_mac[6], const __u8 relay_mac[6]);

/* Forget what was counted. */
void mpo_load_item_begin(struct mpo_load_item *item);

/* Make the frame the flow's next packet, sent at @now (CLOCK_REALTIME, ns) in run @run. */
void mpo_load_item_stamp(struct mpo_load_item *item, __u64 now, __u32 run);

/*
 * Judge and count a frame of @full_length bytes, of which @length are here, that arrived on @side in run @run. *sent_at is
 * when it was sent, for MPO_LOAD_OURS and MPO_LOAD_REORDERED.
 */
enum mpo_load_arrival mpo_load_item_arrived(struct mpo_load_item *items, size_t count, __u32 side, __u32 run,
					    const __u8 *frame, size_t length, size_t full_length, __u64 *sent_at);

#endif
