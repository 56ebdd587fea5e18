/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "mpo_classify.h"
#include "mpo_shared.h"

#define MPO_RTP_GET mpo_own
#define MPO_RTP_PUT mpo_put
#define MPO_RTP_ADD mpo_add
#include "mpo_rtp.h"
#include "mpo_rtp_stats.h"

void mpo_rtp_count(struct mpo_rtp_stream *stream, struct mpo_ssrc_stats stats[MPO_SSRCS_MAX],
		   const struct mpo_clock_rates *rates, const __u8 *packet, __u32 length, __u64 now)
{
	struct mpo_rtp_clocks clocks = {
		.rates = rates->rates,
		.count = rates->count,
		.limit = MPO_CLOCK_RATES_MAX,
		.serial = rates->serial,
	};
	struct mpo_rtp_packet read;

	mpo_rtp_packet_read(&read, packet, length, now);
	mpo_rtp_table_count(stats, stream->sources, MPO_SSRCS_MAX, &clocks, &read);
}

void mpo_rtcp_count(struct mpo_ssrc_stats stats[MPO_SSRCS_MAX], const __u8 *packet, __u32 length, __u64 now)
{
	__u32 ssrc = mpo_load32(packet + 4);
	__u32 index, oldest;

	index = mpo_rtp_find(stats, MPO_SSRCS_MAX, ssrc, &oldest);
	if (index == MPO_SSRCS_MAX) {
		index = oldest;
		mpo_rtp_entry_begin(&stats[index], ssrc);
	}
	mpo_rtp_entry_count(&stats[index], length, now);
	mpo_put(&stats[index].payload_type, packet[1]);
}
