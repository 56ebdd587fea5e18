/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "mpo_classify.h"
#include "mpo_rtp_stats.h"
#include "mpo_shared.h"

/* RFC 3550, A.1. Its MIN_SEQUENTIAL is 0 here: who is allowed to send has been decided before. */
#define RTP_MAX_DROPOUT 3000
#define RTP_MAX_MISORDER 100
#define RTP_SEQUENCE_MODULUS 0x10000
#define NO_BAD_SEQUENCE (RTP_SEQUENCE_MODULUS + 1)

/*
 * A step of the transit time larger than this many seconds is a new timestamp base (hold, a change of the source
 * behind an SSRC), not jitter: A.8 would need a hundred packets to forget it.
 */
#define TRANSIT_STEP_MAX 4

#define NANOSECONDS 1000000000u

/* RFC 3551, tables 4 and 5. 13 and 19 (comfort noise) and what is not assigned stay 0. */
static const __u32 static_rates[35] = {
	[0] = 8000,   [3] = 8000,   [4] = 8000,	  [5] = 8000,	[6] = 16000,  [7] = 8000,   [8] = 8000,
	[9] = 8000,   [10] = 44100, [11] = 44100, [12] = 8000,	[14] = 90000, [15] = 8000,  [16] = 11025,
	[17] = 22050, [18] = 8000,  [25] = 90000, [26] = 90000, [28] = 90000, [31] = 90000, [32] = 90000,
	[33] = 90000, [34] = 90000,
};

__u32 mpo_clock_rate_of(const struct mpo_clock_rates *rates, __u8 payload_type)
{
	__u32 i;

	for (i = 0; i < rates->count; i++)
		if (rates->rates[i].payload_type == payload_type)
			return rates->rates[i].hz;
	return payload_type < sizeof(static_rates) / sizeof(static_rates[0]) ? static_rates[payload_type] : 0;
}

/* The entry of @ssrc, or MPO_SSRCS_MAX and in *oldest the one to give up for it. */
static unsigned int find_ssrc(struct mpo_ssrc_stats *stats, __u32 ssrc, unsigned int *oldest)
{
	unsigned int i;

	*oldest = 0;
	for (i = 0; i < MPO_SSRCS_MAX; i++) {
		if (mpo_own(&stats[i].last_seen_ns) == 0) {
			*oldest = i;	/* entries fill up in order: behind a free one all are free */
			return MPO_SSRCS_MAX;
		}
		if (mpo_own(&stats[i].ssrc) == ssrc)
			return i;
		if (mpo_own(&stats[i].last_seen_ns) < mpo_own(&stats[*oldest].last_seen_ns))
			*oldest = i;
	}
	return MPO_SSRCS_MAX;
}

static void window_shift(__u64 window[2], __u64 by)
{
	if (by >= 128) {
		window[0] = 0;
		window[1] = 0;
	} else if (by >= 64) {
		window[1] = window[0] << (by - 64);
		window[0] = 0;
	} else if (by > 0) {
		window[1] = window[1] << by | window[0] >> (64 - by);
		window[0] <<= by;
	}
}

/* Whether it was not there yet. */
static bool window_set(__u64 window[2], __u64 behind)
{
	__u64 bit = 1ull << (behind & 63);
	__u64 *word = &window[behind >> 6];

	if (*word & bit)
		return false;
	*word |= bit;
	return true;
}

static void start_sequence(struct mpo_rtp_source *source, __u16 sequence)
{
	source->highest = sequence;
	source->base = sequence;
	source->received = 1;
	source->window[0] = 1;
	source->window[1] = 0;
	source->bad_sequence = NO_BAD_SEQUENCE;
}

static __u64 lost_now(const struct mpo_rtp_source *source)
{
	__u64 expected = (__u64)(source->highest - source->base + 1);

	return source->lost_before + (expected > source->received ? expected - source->received : 0);
}

/* RFC 3550, A.1, update_seq(). Returns whether the packet is the first one with this number. */
static bool count_sequence(struct mpo_rtp_source *source, struct mpo_ssrc_stats *stats, __u16 sequence)
{
	__u16 ahead = (__u16)(sequence - (__u16)source->highest);
	__u16 behind;
	__s64 extended;

	if (ahead != 0 && ahead < RTP_MAX_DROPOUT) {	/* in order, with a permissible gap */
		source->highest += ahead;
		window_shift(source->window, ahead);
		window_set(source->window, 0);
		source->received++;
		source->bad_sequence = NO_BAD_SEQUENCE;
		return true;
	}
	behind = (__u16)(0 - ahead);
	if (behind >= RTP_MAX_MISORDER) {	/* a very large jump */
		if (sequence == source->bad_sequence) {
			/* Two in a row: "assume that the other side restarted without telling us". */
			source->lost_before = lost_now(source);
			start_sequence(source, sequence);
			source->base--;
			source->received++;
			window_set(source->window, 1);
			source->clock_rate = 0;
		} else {
			source->bad_sequence = (sequence + 1u) & (RTP_SEQUENCE_MODULUS - 1);
		}
		return true;
	}
	if (!window_set(source->window, behind)) {
		mpo_put(&stats->duplicates, mpo_own(&stats->duplicates) + 1);
		return false;
	}
	extended = source->highest - behind;
	if (extended < source->base)
		source->base = extended;
	source->received++;
	mpo_put(&stats->reordered, mpo_own(&stats->reordered) + 1);
	return true;
}

/* RFC 3550, A.8. */
static void count_jitter(struct mpo_rtp_source *source, __u32 rate, __u32 timestamp, __u64 now)
{
	__u32 arrival = (__u32)(now / NANOSECONDS * rate + now % NANOSECONDS * rate / NANOSECONDS);
	__u32 transit = arrival - timestamp;
	__s32 step = (__s32)(transit - source->transit);
	__u32 distance = step < 0 ? 0u - (__u32)step : (__u32)step;

	source->transit = transit;
	if (source->clock_rate != rate) {
		source->clock_rate = rate;
		return;
	}
	if (distance > (__u64)rate * TRANSIT_STEP_MAX)
		return;
	source->jitter_q4 += distance - ((source->jitter_q4 + 8) >> 4);
}

static void count_packet(struct mpo_ssrc_stats *stats, __u32 length, __u64 now)
{
	mpo_add(&stats->packets, 1);
	mpo_add(&stats->bytes, length);
	mpo_put(&stats->last_seen_ns, now);
}

static void begin_entry(struct mpo_ssrc_stats *stats, __u32 ssrc)
{
	mpo_shared_zero(stats, sizeof(*stats));
	mpo_put(&stats->ssrc, ssrc);
}

void mpo_rtp_count(struct mpo_rtp_stream *stream, struct mpo_ssrc_stats stats[MPO_SSRCS_MAX],
		   const struct mpo_clock_rates *rates, const __u8 *packet, __u32 length, __u64 now)
{
	__u32 ssrc = mpo_load32(packet + 8);
	__u32 timestamp = mpo_load32(packet + 4);
	__u16 sequence = mpo_load16(packet + 2);
	__u8 payload_type = packet[1] & 0x7f;
	struct mpo_rtp_source *source;
	struct mpo_ssrc_stats *entry;
	unsigned int index, oldest;
	__s64 highest;
	bool first;

	index = find_ssrc(stats, ssrc, &oldest);
	if (index == MPO_SSRCS_MAX) {
		source = &stream->sources[oldest];
		entry = &stats[oldest];
		memset(source, 0, sizeof(*source));
		begin_entry(entry, ssrc);
		start_sequence(source, sequence);
		highest = -1;
		first = true;
	} else {
		source = &stream->sources[index];
		entry = &stats[index];
		highest = source->highest;
		first = count_sequence(source, entry, sequence);
	}
	count_packet(entry, length, now);
	if (source->rates_serial != rates->serial || source->rate_payload_type != payload_type) {
		source->rate = mpo_clock_rate_of(rates, payload_type);
		source->rates_serial = rates->serial;
		source->rate_payload_type = payload_type;
	}
	if (source->rate != 0 && first) {
		count_jitter(source, source->rate, timestamp, now);
		mpo_put(&entry->jitter_q4, source->jitter_q4);
	}
	if (source->highest != highest)
		mpo_put(&entry->last_timestamp, timestamp);
	mpo_put(&entry->extended_sequence, (__u32)source->highest);
	mpo_put(&entry->lost, (__u32)lost_now(source));
	mpo_put(&entry->payload_type, payload_type);
}

void mpo_rtcp_count(struct mpo_ssrc_stats stats[MPO_SSRCS_MAX], const __u8 *packet, __u32 length, __u64 now)
{
	__u32 ssrc = mpo_load32(packet + 4);
	unsigned int index, oldest;

	index = find_ssrc(stats, ssrc, &oldest);
	if (index == MPO_SSRCS_MAX) {
		index = oldest;
		begin_entry(&stats[index], ssrc);
	}
	count_packet(&stats[index], length, now);
	mpo_put(&stats[index].payload_type, packet[1]);
}
