/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The statistics of flows, as user space sees them: an array of struct mpo_flow_stats that the daemon, the kernel (or
 * who speaks for it) and the privileged process have mapped. @slots is its first entry, @index is below its length.
 *
 * Nothing here takes a lock, allocates or makes a system call. Whoever seeds a slot owns it and has no flow that counts
 * there at that moment.
 */
#ifndef MPO_FLOW_STATS_H
#define MPO_FLOW_STATS_H

#include "mpo_abi.h"

/*
 * Clear a slot for a flow of @generation (not 0), which goes on where @state has come to (of no SSRC: a path that has
 * heard nothing). Of more SSRCs than MPO_FLOW_SSRCS_MAX those heard last are taken.
 */
void mpo_flow_stats_seed(struct mpo_flow_stats *slots, __u32 index, __u32 generation,
			 const struct mpo_rtp_state *state);

/*
 * Copy a slot into *out and the RTP of it into *rtp. While the kernel counts, the copy may be of a moment between two
 * changes that belong together; when nothing arrives any more it is exact.
 * Packets that were forwarded by somebody who does not look into them (mpo_flow_stats_set()) show in *rtp as a gap of
 * unknown length behind what was seeded: who goes on from there takes them neither for received nor for lost.
 * -ESTALE: the slot is of another generation; *out and *rtp are undefined then.
 */
int mpo_flow_stats_read(const struct mpo_flow_stats *slots, __u32 index, __u32 generation, struct mpo_flow_stats *out,
			struct mpo_rtp_state *rtp);

/* Sum up @count slots. */
void mpo_flow_stats_sum(const struct mpo_flow_stats *slots, __u32 count, struct mpo_flow_totals *out);

/* How many slots there are up to the last one of @count that was ever seeded. */
__u32 mpo_flow_stats_used(const struct mpo_flow_stats *slots, __u32 count);

/*
 * As the one who speaks for the kernel: set the counters of @count flows, each by its slot, generation, packets and bytes
 * of UDP payload; one whose packets are more than before was last seen at @now. Slots not below @slot_count, or of another
 * generation, are left alone. Returns how many were set.
 */
__u32 mpo_flow_stats_set(struct mpo_flow_stats *slots, __u32 slot_count, __u32 count, const __u32 *indices,
			 const __u32 *generations, const __u64 *packets, const __u64 *bytes, __u64 now);

#endif
