/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RTP reception statistics per SSRC (RFC 3550, appendices A.1, A.3 and A.8), for gcc and for clang's bpf target alike.
 *
 * Every function here is inlined into its caller; "limit" arguments are constants there. A table is struct
 * mpo_ssrc_stats[limit] (what is shown) with struct mpo_rtp_source[limit] (what is needed to go on) by the same index;
 * zeroed memory is an empty one. It has one writer at a time.
 *
 * Whoever includes this may define how memory that others read is accessed; without that it is plain:
 *   MPO_RTP_GET(pointer), MPO_RTP_PUT(pointer, value), MPO_RTP_ADD(pointer to __u64, value)
 * Sources are read plainly, as nobody but the writer changes them.
 */
#ifndef MPO_RTP_H
#define MPO_RTP_H

#include <stdbool.h>

#include "mpo_abi.h"

#ifndef MPO_RTP_GET
#define MPO_RTP_GET(field) (*(field))
#define MPO_RTP_PUT(field, value) (*(field) = (value))
#define MPO_RTP_ADD(field, by) (*(field) += (by))
#endif

#define MPO_RTP_INLINE static inline __attribute__((always_inline, unused))

/* RFC 3550, A.1. Its MIN_SEQUENTIAL is 0 here: who is allowed to send has been decided before. */
#define MPO_RTP_MAX_DROPOUT 3000
#define MPO_RTP_MAX_MISORDER 100
#define MPO_RTP_SEQUENCE_MODULUS 0x10000
/* Values of struct mpo_rtp_source.bad_sequence that are no sequence number. */
#define MPO_RTP_NO_BAD_SEQUENCE (MPO_RTP_SEQUENCE_MODULUS + 1)
#define MPO_RTP_ANY_SEQUENCE (MPO_RTP_SEQUENCE_MODULUS + 2)	/* nobody knows what comes next */
#define MPO_RTP_WINDOW 128	/* bits of struct mpo_rtp_source.window */

/*
 * A step of the transit time larger than this many seconds is a new timestamp base (hold, a change of the source
 * behind an SSRC), not jitter: A.8 would need a hundred packets to forget it.
 */
#define MPO_RTP_TRANSIT_STEP_MAX 4

#define MPO_RTP_NANOSECONDS 1000000000u

/* RFC 3551, tables 4 and 5. 13 and 19 (comfort noise) and what is not assigned stay 0. */
#define MPO_RTP_STATIC_RATES 35
static const __u32 mpo_rtp_static_rates[MPO_RTP_STATIC_RATES] __attribute__((unused)) = {
	[0] = 8000,   [3] = 8000,   [4] = 8000,	  [5] = 8000,	[6] = 16000,  [7] = 8000,   [8] = 8000,
	[9] = 8000,   [10] = 44100, [11] = 44100, [12] = 8000,	[14] = 90000, [15] = 8000,  [16] = 11025,
	[17] = 22050, [18] = 8000,  [25] = 90000, [26] = 90000, [28] = 90000, [31] = 90000, [32] = 90000,
	[33] = 90000, [34] = 90000,
};

/* What is counted of one packet. */
struct mpo_rtp_packet {
	__u64 now;		/* when it arrived: nanoseconds, CLOCK_MONOTONIC, not 0 */
	__u32 length;		/* UDP payload */
	__u32 ssrc;
	__u32 timestamp;
	__u16 sequence;
	__u8 payload_type;
};

/* The payload types' clocks: @count (at most @limit) of @rates, then those of RFC 3551. */
struct mpo_rtp_clocks {
	const struct mpo_clock_rate *rates;
	__u32 count;
	__u32 limit;
	__u32 serial;	/* differs from table to table, so that what was found can be kept; 0: look up every time */
};

/* Read the @length bytes at @bytes, of which the first 12 (the fixed header) are there. */
MPO_RTP_INLINE void mpo_rtp_packet_read(struct mpo_rtp_packet *packet, const __u8 *bytes, __u32 length, __u64 now)
{
	packet->now = now;
	packet->length = length;
	packet->payload_type = bytes[1] & 0x7f;
	packet->sequence = (__u16)(bytes[2] << 8 | bytes[3]);
	packet->timestamp = (__u32)bytes[4] << 24 | (__u32)bytes[5] << 16 | (__u32)bytes[6] << 8 | bytes[7];
	packet->ssrc = (__u32)bytes[8] << 24 | (__u32)bytes[9] << 16 | (__u32)bytes[10] << 8 | bytes[11];
}

/* Hz; 0: unknown, or not to be counted into the jitter. */
MPO_RTP_INLINE __u32 mpo_clock_rate_of(const struct mpo_rtp_clocks *clocks, __u8 payload_type)
{
	__u32 i;

	for (i = 0; i < clocks->limit; i++) {
		if (i >= clocks->count)
			break;
		if (clocks->rates[i].payload_type == payload_type)
			return clocks->rates[i].hz;
	}
	return payload_type < MPO_RTP_STATIC_RATES ? mpo_rtp_static_rates[payload_type] : 0;
}

/* The entry of @ssrc, or @limit and in *oldest the one to give up for it. */
MPO_RTP_INLINE __u32 mpo_rtp_find(const struct mpo_ssrc_stats *stats, __u32 limit, __u32 ssrc, __u32 *oldest)
{
	__u64 seen, oldest_seen = ~0ull;
	__u32 i;

	*oldest = 0;
	for (i = 0; i < limit; i++) {
		seen = MPO_RTP_GET(&stats[i].last_seen_ns);
		if (seen == 0) {
			*oldest = i;	/* entries fill up in order: behind a free one all are free */
			return limit;
		}
		if (MPO_RTP_GET(&stats[i].ssrc) == ssrc)
			return i;
		if (seen < oldest_seen) {
			oldest_seen = seen;
			*oldest = i;
		}
	}
	return limit;
}

/* As if the window began @by numbers later. */
MPO_RTP_INLINE void mpo_rtp_window_shift(__u64 window[2], __u64 by)
{
	__u64 near = window[0], far = window[1];

	if (by == 0)
		return;
	if (by >= 128) {
		far = 0;
		near = 0;
	} else if (by >= 64) {
		far = near << (by - 64);
		near = 0;
	} else {
		far = far << by | near >> (64 - by);
		near <<= by;
	}
	MPO_RTP_PUT(&window[0], near);
	MPO_RTP_PUT(&window[1], far);
}

/* Whether it was not there yet. */
MPO_RTP_INLINE bool mpo_rtp_window_set(__u64 window[2], __u32 behind)
{
	__u64 bit = 1ull << (behind & 63);

	if (behind < 64) {
		if (window[0] & bit)
			return false;
		MPO_RTP_PUT(&window[0], window[0] | bit);
	} else {
		if (window[1] & bit)
			return false;
		MPO_RTP_PUT(&window[1], window[1] | bit);
	}
	return true;
}

/* How many sequence numbers there are from the lowest to the highest, those before the last restart left out. */
MPO_RTP_INLINE __u64 mpo_rtp_range(const struct mpo_rtp_source *source)
{
	return (__u64)source->highest - (__u64)source->base + 1;
}

/* RFC 3550, A.3; received by any path, as far as known. */
MPO_RTP_INLINE __u64 mpo_rtp_expected(const struct mpo_rtp_source *source)
{
	return source->expected_before + mpo_rtp_range(source);
}

MPO_RTP_INLINE __u64 mpo_rtp_received(const struct mpo_rtp_source *source)
{
	return source->received + source->elsewhere;
}

/* Never below 0: without duplicates no more can arrive than is expected. */
MPO_RTP_INLINE __u64 mpo_rtp_lost(const struct mpo_rtp_source *source)
{
	__u64 expected = mpo_rtp_expected(source);
	__u64 received = mpo_rtp_received(source);

	return expected > received ? expected - received : 0;
}

MPO_RTP_INLINE void mpo_rtp_source_begin(struct mpo_rtp_source *source, __u16 sequence)
{
	MPO_RTP_PUT(&source->highest, sequence);
	MPO_RTP_PUT(&source->base, sequence);
	MPO_RTP_PUT(&source->expected_before, 0);
	MPO_RTP_PUT(&source->received, 1);
	MPO_RTP_PUT(&source->elsewhere, 0);
	MPO_RTP_PUT(&source->window[0], 1);
	MPO_RTP_PUT(&source->window[1], 0);
	MPO_RTP_PUT(&source->bad_sequence, MPO_RTP_NO_BAD_SEQUENCE);
	MPO_RTP_PUT(&source->transit, 0);
	MPO_RTP_PUT(&source->jitter_q4, 0);
	MPO_RTP_PUT(&source->clock_rate, 0);
	MPO_RTP_PUT(&source->rates_serial, 0);
	MPO_RTP_PUT(&source->epoch, 0);
}

/* @sequence is that of the second packet. */
MPO_RTP_INLINE void mpo_rtp_source_restart(struct mpo_rtp_source *source, __u16 sequence)
{
	MPO_RTP_PUT(&source->expected_before, source->expected_before + mpo_rtp_range(source));
	MPO_RTP_PUT(&source->highest, sequence);
	MPO_RTP_PUT(&source->base, sequence - 1);
	MPO_RTP_PUT(&source->received, source->received + 2);
	MPO_RTP_PUT(&source->window[0], 3);
	MPO_RTP_PUT(&source->window[1], 0);
	MPO_RTP_PUT(&source->bad_sequence, MPO_RTP_NO_BAD_SEQUENCE);
	MPO_RTP_PUT(&source->clock_rate, 0);
	MPO_RTP_PUT(&source->epoch, source->epoch + 1);
}

/* What came between was forwarded by somebody who did not count it: neither received nor lost. */
MPO_RTP_INLINE void mpo_rtp_source_skip(struct mpo_rtp_source *source, __u16 ahead)
{
	MPO_RTP_PUT(&source->expected_before, source->expected_before + mpo_rtp_range(source));
	MPO_RTP_PUT(&source->highest, source->highest + ahead);
	MPO_RTP_PUT(&source->base, source->highest);
	MPO_RTP_PUT(&source->received, source->received + 1);
	MPO_RTP_PUT(&source->window[0], 1);
	MPO_RTP_PUT(&source->window[1], 0);
	MPO_RTP_PUT(&source->bad_sequence, MPO_RTP_NO_BAD_SEQUENCE);
	MPO_RTP_PUT(&source->epoch, source->epoch + 1);
}

/* RFC 3550, A.1, update_seq(). Returns whether the packet is the first one with this number. */
MPO_RTP_INLINE bool mpo_rtp_sequence_count(struct mpo_rtp_source *source, struct mpo_ssrc_stats *stats, __u16 sequence)
{
	__u16 ahead = (__u16)(sequence - (__u16)source->highest);
	__u16 behind = (__u16)(0 - ahead);
	__s64 extended;

	if (source->bad_sequence == MPO_RTP_ANY_SEQUENCE && behind >= MPO_RTP_MAX_MISORDER) {
		mpo_rtp_source_skip(source, ahead);
		return true;
	}
	if (ahead != 0 && ahead < MPO_RTP_MAX_DROPOUT) {	/* in order, with a permissible gap */
		MPO_RTP_PUT(&source->highest, source->highest + ahead);
		mpo_rtp_window_shift(source->window, ahead);
		MPO_RTP_PUT(&source->window[0], source->window[0] | 1);
		MPO_RTP_PUT(&source->received, source->received + 1);
		MPO_RTP_PUT(&source->bad_sequence, MPO_RTP_NO_BAD_SEQUENCE);
		return true;
	}
	if (behind >= MPO_RTP_MAX_MISORDER) {	/* a very large jump */
		/* Two in a row: "assume that the other side restarted without telling us". */
		if (sequence == source->bad_sequence)
			mpo_rtp_source_restart(source, sequence);
		else
			MPO_RTP_PUT(&source->bad_sequence, (sequence + 1u) & (MPO_RTP_SEQUENCE_MODULUS - 1));
		return true;
	}
	if (!mpo_rtp_window_set(source->window, behind)) {
		MPO_RTP_PUT(&stats->duplicates, MPO_RTP_GET(&stats->duplicates) + 1);
		return false;
	}
	extended = source->highest - behind;
	if (extended < source->base)
		MPO_RTP_PUT(&source->base, extended);
	MPO_RTP_PUT(&source->received, source->received + 1);
	MPO_RTP_PUT(&stats->reordered, MPO_RTP_GET(&stats->reordered) + 1);
	return true;
}

/* RFC 3550, A.8. */
MPO_RTP_INLINE void mpo_rtp_jitter_count(struct mpo_rtp_source *source, __u32 rate, __u32 timestamp, __u64 now)
{
	__u32 arrival = (__u32)(now / MPO_RTP_NANOSECONDS * rate +
				now % MPO_RTP_NANOSECONDS * rate / MPO_RTP_NANOSECONDS);
	__u32 transit = arrival - timestamp;
	__s32 step = (__s32)(transit - source->transit);
	__u32 distance = step < 0 ? 0u - (__u32)step : (__u32)step;

	MPO_RTP_PUT(&source->transit, transit);
	if (source->clock_rate != rate) {
		MPO_RTP_PUT(&source->clock_rate, rate);
		return;
	}
	if (distance > (__u64)rate * MPO_RTP_TRANSIT_STEP_MAX)
		return;
	MPO_RTP_PUT(&source->jitter_q4, source->jitter_q4 + distance - ((source->jitter_q4 + 8) >> 4));
}

MPO_RTP_INLINE void mpo_rtp_entry_begin(struct mpo_ssrc_stats *stats, __u32 ssrc)
{
	MPO_RTP_PUT(&stats->packets, 0);
	MPO_RTP_PUT(&stats->bytes, 0);
	MPO_RTP_PUT(&stats->last_seen_ns, 0);
	MPO_RTP_PUT(&stats->ssrc, ssrc);
	MPO_RTP_PUT(&stats->last_timestamp, 0);
	MPO_RTP_PUT(&stats->extended_sequence, 0);
	MPO_RTP_PUT(&stats->lost, 0);
	MPO_RTP_PUT(&stats->duplicates, 0);
	MPO_RTP_PUT(&stats->reordered, 0);
	MPO_RTP_PUT(&stats->jitter_q4, 0);
	MPO_RTP_PUT(&stats->payload_type, 0);
}

MPO_RTP_INLINE void mpo_rtp_entry_count(struct mpo_ssrc_stats *stats, __u32 length, __u64 now)
{
	MPO_RTP_ADD(&stats->packets, 1);
	MPO_RTP_ADD(&stats->bytes, length);
	MPO_RTP_PUT(&stats->last_seen_ns, now);
}

MPO_RTP_INLINE __u32 mpo_rtp_rate(struct mpo_rtp_source *source, const struct mpo_rtp_clocks *clocks,
				  __u8 payload_type)
{
	if (clocks->serial == 0)
		return mpo_clock_rate_of(clocks, payload_type);
	if (source->rates_serial != clocks->serial || source->rate_payload_type != payload_type) {
		MPO_RTP_PUT(&source->rate, mpo_clock_rate_of(clocks, payload_type));
		MPO_RTP_PUT(&source->rates_serial, clocks->serial);
		MPO_RTP_PUT(&source->rate_payload_type, payload_type);
	}
	return source->rate;
}

/* Count one packet into the entry of its SSRC; the one heard least recently makes room for a new one. */
MPO_RTP_INLINE void mpo_rtp_table_count(struct mpo_ssrc_stats *stats, struct mpo_rtp_source *sources, __u32 limit,
					const struct mpo_rtp_clocks *clocks, const struct mpo_rtp_packet *packet)
{
	struct mpo_rtp_source *source;
	struct mpo_ssrc_stats *entry;
	__u32 index, oldest, rate;
	__s64 highest;
	bool first;

	index = mpo_rtp_find(stats, limit, packet->ssrc, &oldest);
	if (index >= limit) {
		source = &sources[oldest];
		entry = &stats[oldest];
		mpo_rtp_entry_begin(entry, packet->ssrc);
		mpo_rtp_source_begin(source, packet->sequence);
		highest = -1;
		first = true;
	} else {
		source = &sources[index];
		entry = &stats[index];
		highest = source->highest;
		first = mpo_rtp_sequence_count(source, entry, packet->sequence);
	}
	mpo_rtp_entry_count(entry, packet->length, packet->now);
	rate = mpo_rtp_rate(source, clocks, packet->payload_type);
	if (rate != 0 && first) {
		mpo_rtp_jitter_count(source, rate, packet->timestamp, packet->now);
		MPO_RTP_PUT(&entry->jitter_q4, source->jitter_q4);
	}
	if (source->highest != highest)
		MPO_RTP_PUT(&entry->last_timestamp, packet->timestamp);
	MPO_RTP_PUT(&entry->extended_sequence, (__u32)source->highest);
	MPO_RTP_PUT(&entry->lost, (__u32)mpo_rtp_lost(source));
	MPO_RTP_PUT(&entry->payload_type, packet->payload_type);
}

#endif
