/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>

#include "mpo_flow_stats.h"
#include "mpo_rtp.h"
#include "mpo_rtp_handover.h"
#include "mpo_shared.h"

/* How often a copy is taken again because packets were counted meanwhile: at a million a second, a few in a thousand. */
#define COPIES_MAX 4

void mpo_flow_stats_seed(struct mpo_flow_stats *slots, __u32 index, __u32 generation,
			 const struct mpo_rtp_state *state)
{
	struct mpo_flow_stats *stats = &slots[index];

	mpo_put(&stats->generation, 0);
	mpo_shared_zero(&stats->packets, sizeof(*stats) - offsetof(struct mpo_flow_stats, packets));
	mpo_rtp_table_seed(stats->ssrcs, stats->sources, MPO_FLOW_SSRCS_MAX, state);
	mpo_put(&stats->generation, generation);
}

static void mark_gaps(const struct mpo_flow_stats *stats, struct mpo_rtp_state *rtp)
{
	__u32 i;

	for (i = 0; i < MPO_FLOW_SSRCS_MAX; i++)
		if (rtp->ssrcs[i].packets != 0)
			return;
	for (i = 0; i < MPO_FLOW_SSRCS_MAX && rtp->ssrcs[i].last_seen_ns != 0; i++) {
		rtp->sources[i].bad_sequence = MPO_RTP_ANY_SEQUENCE;
		if (stats->last_seen_ns > rtp->ssrcs[i].last_seen_ns)
			rtp->ssrcs[i].last_seen_ns = stats->last_seen_ns;
	}
}

int mpo_flow_stats_read(const struct mpo_flow_stats *slots, __u32 index, __u32 generation, struct mpo_flow_stats *out,
			struct mpo_rtp_state *rtp)
{
	const struct mpo_flow_stats *stats = &slots[index];
	unsigned int copies = 0;

	do
		mpo_shared_snap(out, stats, sizeof(*out));
	while (__atomic_load_n(&stats->packets, __ATOMIC_ACQUIRE) != out->packets && ++copies < COPIES_MAX);
	if (out->generation != generation)
		return -ESTALE;
	memset(rtp, 0, sizeof(*rtp));
	memcpy(rtp->ssrcs, out->ssrcs, sizeof(out->ssrcs));
	memcpy(rtp->sources, out->sources, sizeof(out->sources));
	if (out->packets != 0)
		mark_gaps(out, rtp);
	return 0;
}

void mpo_flow_stats_sum(const struct mpo_flow_stats *slots, __u32 count, struct mpo_flow_totals *out)
{
	__u32 i, reason;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < count; i++) {
		out->packets += mpo_own(&slots[i].packets);
		out->bytes += mpo_own(&slots[i].bytes);
		for (reason = 0; reason < MPO_FLOW_DROPS; reason++)
			out->drops += mpo_own(&slots[i].drops[reason]);
	}
}

__u32 mpo_flow_stats_used(const struct mpo_flow_stats *slots, __u32 count)
{
	while (count > 0 && mpo_own(&slots[count - 1].generation) == 0)
		count--;
	return count;
}

__u32 mpo_flow_stats_set(struct mpo_flow_stats *slots, __u32 slot_count, __u32 count, const __u32 *indices,
			 const __u32 *generations, const __u64 *packets, const __u64 *bytes, __u64 now)
{
	struct mpo_flow_stats *stats;
	__u32 i, set = 0;

	for (i = 0; i < count; i++) {
		if (indices[i] >= slot_count)
			continue;
		stats = &slots[indices[i]];
		if (mpo_own(&stats->generation) != generations[i])
			continue;
		if (packets[i] > mpo_own(&stats->packets))
			mpo_put(&stats->last_seen_ns, now);
		mpo_put(&stats->bytes, bytes[i]);
		mpo_put(&stats->packets, packets[i]);
		set++;
	}
	return set;
}
