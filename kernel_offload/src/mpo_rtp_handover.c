/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "mpo.h"
#include "mpo_rtp_handover.h"
#include "mpo_shared.h"

#define MPO_RTP_GET mpo_own
#define MPO_RTP_PUT mpo_put
#define MPO_RTP_ADD mpo_add
#include "mpo_rtp.h"

/* How far behind a path must be to take what is in order for a very large jump. */
#define STALE (MPO_RTP_MAX_DROPOUT - MPO_RTP_MAX_MISORDER)

static bool near(__s64 number, const struct mpo_rtp_source *range)
{
	return number >= range->base - MPO_RTP_MAX_DROPOUT && number < range->highest + MPO_RTP_MAX_DROPOUT;
}

static void move(struct mpo_rtp_source *source, __s64 by)
{
	source->base += by;
	source->highest += by;
}

/* From @number to the nearest one that is @sequence but for its cycles. */
static __s64 step_to(__s64 number, __s64 sequence)
{
	return (__s16)(__u16)(sequence - number);
}

static __s64 distance(__s64 one, __s64 other)
{
	return one < other ? other - one : one - other;
}

/*
 * Bring what two paths have counted of one sequence to the same count of cycles. @later has heard the last packet.
 * Paths that were seeded have the same base (but for late packets): they agree already.
 */
static void align(struct mpo_rtp_source *earlier, struct mpo_rtp_source *later)
{
	__s64 step;

	if (distance(earlier->base, later->base) <= MPO_RTP_WINDOW)
		return;
	step = step_to(earlier->highest, later->base);
	if (distance(step, 0) < MPO_RTP_MAX_DROPOUT) {	/* the one began where the other ended */
		move(later, earlier->highest + step - later->base);
		return;
	}
	/* Side by side: who heard the last packet is at least about as far as the other. */
	step = step_to(later->highest, earlier->highest);
	if (step > MPO_RTP_MAX_MISORDER)
		step -= MPO_RTP_SEQUENCE_MODULUS;
	step += later->highest - earlier->highest;
	if (mpo_rtp_range(earlier) < mpo_rtp_range(later))
		move(earlier, step);
	else
		move(later, -step);
}

/* Make *into the union of the two. */
static void unite(struct mpo_rtp_source *into, struct mpo_rtp_source *from, bool from_is_later)
{
	if (from_is_later)
		align(into, from);
	else
		align(from, into);
	if (from->base < into->base)
		into->base = from->base;
	if (into->highest >= from->highest) {
		mpo_rtp_window_shift(from->window, (__u64)(into->highest - from->highest));
	} else {
		mpo_rtp_window_shift(into->window, (__u64)(from->highest - into->highest));
		into->highest = from->highest;
	}
	into->window[0] |= from->window[0];
	into->window[1] |= from->window[1];
}

/* Whether @after, which has seen a restart, took packets that follow those of @before for one. */
static bool mistook(const struct mpo_rtp_source *before, bool before_is_later, const struct mpo_rtp_source *after)
{
	__s64 unknown = (__s64)(mpo_rtp_expected(before) - after->expected_before);
	struct mpo_rtp_source moved = *after;

	if (unknown < STALE)
		return false;
	/* After a restart nothing is heard of the sequence before it any more. */
	if (before_is_later)
		return true;
	/* The one began where the other ended. */
	if (distance(step_to(before->highest, after->base), 0) < MPO_RTP_MAX_DROPOUT)
		return true;
	/* Or the two went on side by side. */
	move(&moved, before->highest + step_to(before->highest, after->highest) - after->highest);
	return near(before->highest, &moved);
}

/* Where two paths have come to together; @later: @from has heard the last packet. */
static void join(struct mpo_rtp_source *into, const struct mpo_rtp_source *from, bool later)
{
	struct mpo_rtp_source other = *from, before;
	bool into_restarted = into->epoch > from->epoch;

	if (into->epoch == from->epoch) {
		if (from->expected_before > into->expected_before)
			into->expected_before = from->expected_before;
		unite(into, &other, later);
	} else if (into_restarted ? mistook(from, later, into) : mistook(into, !later, from)) {
		if (into_restarted) {
			into->epoch = from->epoch;
			into->expected_before = from->expected_before;
		}
		unite(into, &other, later);
	} else {
		before = into_restarted ? *from : *into;
		if (!into_restarted) {
			into->epoch = from->epoch;
			into->expected_before = from->expected_before;
			into->base = from->base;
			into->highest = from->highest;
			into->window[0] = from->window[0];
			into->window[1] = from->window[1];
		}
		if (into->expected_before < mpo_rtp_expected(&before))
			into->expected_before = mpo_rtp_expected(&before);
	}
	if (later) {
		into->bad_sequence = from->bad_sequence;
		into->transit = from->transit;
		into->jitter_q4 = from->jitter_q4;
		into->clock_rate = from->clock_rate;
	}
}

/* What the last packets of a stream show, whatever path they took. */
static void join_shown(struct mpo_ssrc_stats *into, const struct mpo_ssrc_stats *from, bool ahead)
{
	if (ahead)
		into->last_timestamp = from->last_timestamp;
	if (from->last_seen_ns > into->last_seen_ns) {
		into->last_seen_ns = from->last_seen_ns;
		into->payload_type = from->payload_type;
		into->jitter_q4 = from->jitter_q4;
	}
}

static void join_entry(struct mpo_ssrc_stats *stats, struct mpo_rtp_source *source, const struct mpo_ssrc_stats *from,
		       const struct mpo_rtp_source *from_source)
{
	__u16 highest = (__u16)source->highest;

	join(source, from_source, from->last_seen_ns > stats->last_seen_ns);
	join_shown(stats, from, (__u16)source->highest != highest);
}

static void refresh(struct mpo_ssrc_stats *stats, const struct mpo_rtp_source *source)
{
	stats->extended_sequence = (__u32)source->highest;
	stats->lost = (__u32)mpo_rtp_lost(source);
}

/*
 * The entry for @ssrc, last heard @seen, or @limit if all are taken by SSRCs heard more recently. *fresh: it is to be
 * filled.
 */
static __u32 place_of(const struct mpo_ssrc_stats *stats, __u32 limit, __u32 ssrc, __u64 seen, bool *fresh)
{
	__u32 index, oldest;

	*fresh = false;
	index = mpo_rtp_find(stats, limit, ssrc, &oldest);
	if (index < limit || mpo_own(&stats[oldest].last_seen_ns) >= seen)
		return index;
	*fresh = true;
	return oldest;
}

void mpo_rtp_table_seed(struct mpo_ssrc_stats *stats, struct mpo_rtp_source *sources, __u32 limit,
			const struct mpo_rtp_state *from)
{
	struct mpo_rtp_source source;
	struct mpo_ssrc_stats entry;
	__u64 received;
	__u32 i, index;
	bool fresh;

	for (i = 0; i < MPO_SSRCS_MAX && from->ssrcs[i].last_seen_ns != 0; i++) {
		index = place_of(stats, limit, from->ssrcs[i].ssrc, from->ssrcs[i].last_seen_ns, &fresh);
		if (index == limit)
			continue;
		received = mpo_rtp_received(&from->sources[i]);
		if (fresh) {
			entry = from->ssrcs[i];
			entry.packets = 0;
			entry.bytes = 0;
			entry.duplicates = 0;
			entry.reordered = 0;
			source = from->sources[i];
			source.received = 0;
			source.elsewhere = received;
			source.rates_serial = 0;
		} else {
			entry = stats[index];
			source = sources[index];
			join_entry(&entry, &source, &from->ssrcs[i], &from->sources[i]);
			if (received > mpo_rtp_received(&source))
				source.elsewhere = received - source.received;
		}
		refresh(&entry, &source);
		mpo_shared_put(&stats[index], &entry, sizeof(entry));
		mpo_shared_put(&sources[index], &source, sizeof(source));
	}
}

void mpo_rtp_state_seed(struct mpo_rtp_state *into, const struct mpo_rtp_state *from)
{
	mpo_rtp_table_seed(into->ssrcs, into->sources, MPO_SSRCS_MAX, from);
}

void mpo_rtp_state_merge(struct mpo_rtp_state *into, const struct mpo_rtp_state *from)
{
	struct mpo_rtp_source *source;
	struct mpo_ssrc_stats *entry;
	__u64 received;
	__u32 i, index;
	bool fresh;

	for (i = 0; i < MPO_SSRCS_MAX && from->ssrcs[i].last_seen_ns != 0; i++) {
		index = place_of(into->ssrcs, MPO_SSRCS_MAX, from->ssrcs[i].ssrc, from->ssrcs[i].last_seen_ns, &fresh);
		if (index == MPO_SSRCS_MAX)
			continue;
		entry = &into->ssrcs[index];
		source = &into->sources[index];
		if (fresh) {
			*entry = from->ssrcs[i];
			*source = from->sources[i];
			continue;
		}
		received = mpo_rtp_received(source);
		if (received < mpo_rtp_received(&from->sources[i]))
			received = mpo_rtp_received(&from->sources[i]);
		join_entry(entry, source, &from->ssrcs[i], &from->sources[i]);
		entry->packets += from->ssrcs[i].packets;
		entry->bytes += from->ssrcs[i].bytes;
		entry->duplicates += from->ssrcs[i].duplicates;
		entry->reordered += from->ssrcs[i].reordered;
		source->received += from->sources[i].received;
		/* A path may be missing here that the others were told of. */
		source->elsewhere = received > source->received ? received - source->received : 0;
		refresh(entry, source);
	}
}

void mpo_rtp_state_count(struct mpo_rtp_state *state, const __u8 *packet, __u32 length, __u64 now)
{
	struct mpo_rtp_clocks clocks = { .rates = NULL, .count = 0, .limit = 0, .serial = 0 };
	struct mpo_rtp_packet read;

	mpo_rtp_packet_read(&read, packet, length, now);
	mpo_rtp_table_count(state->ssrcs, state->sources, MPO_SSRCS_MAX, &clocks, &read);
}
