/* SPDX-License-Identifier: GPL-3.0-or-later */
/* RTP reception statistics of the relay: mpo_rtp.h in memory that others read. */
#ifndef MPO_RTP_STATS_H
#define MPO_RTP_STATS_H

#include "mpo_abi.h"

/* All SSRCs of the RTP stream of a transport; the indices are those of struct mpo_stream_stats.ssrcs. */
struct mpo_rtp_stream {
	struct mpo_rtp_source sources[MPO_SSRCS_MAX];
};

/* The payload types' clocks of one configuration. */
struct mpo_clock_rates {
	__u32 serial;	/* differs from configuration to configuration, never 0 */
	__u32 count;
	struct mpo_clock_rate rates[MPO_CLOCK_RATES_MAX];
};

/*
 * Count one RTP packet (at least its 12 bytes of header) that arrived @now (nanoseconds, CLOCK_MONOTONIC, not 0) into
 * the entry of its SSRC in @stats; the one heard least recently makes room for a new one. @stats is shared memory: the
 * caller is its one writer.
 */
void mpo_rtp_count(struct mpo_rtp_stream *stream, struct mpo_ssrc_stats stats[MPO_SSRCS_MAX],
		   const struct mpo_clock_rates *rates, const __u8 *packet, __u32 length, __u64 now);

/* Count one RTCP packet (at least 8 bytes) by the SSRC of its sender. */
void mpo_rtcp_count(struct mpo_ssrc_stats stats[MPO_SSRCS_MAX], const __u8 *packet, __u32 length, __u64 now);

#endif
