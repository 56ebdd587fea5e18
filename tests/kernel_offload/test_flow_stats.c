/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "mpo.h"
#include "mpo_flow_stats.h"
#include "mpo_rtp.h"
#include "mpo_rtp_handover.h"

#define SLOTS 4
#define START 1000000000ull

static struct mpo_flow_stats slots[SLOTS];

static void count(struct mpo_flow_stats *stats, __u32 ssrc, __u16 sequence, __u64 now)
{
	struct mpo_rtp_clocks clocks = { .rates = NULL, .count = 0, .limit = 0, .serial = 0 };
	struct mpo_rtp_packet packet = { .now = now, .length = 172, .ssrc = ssrc, .sequence = sequence };

	mpo_rtp_table_count(stats->ssrcs, stats->sources, MPO_FLOW_SSRCS_MAX, &clocks, &packet);
	stats->packets++;
	stats->bytes += 172;
	stats->last_seen_ns = now;
}

static void test_seed_and_read(void)
{
	struct mpo_rtp_state none = { 0 }, sockets = { 0 }, rtp;
	struct mpo_flow_stats copy;
	__u32 ssrc;
	__u8 packet[12] = { 0x80 };

	memset(slots, 0xff, sizeof(slots));
	mpo_flow_stats_seed(slots, 1, 5, &none);
	CHECK_EQUAL(mpo_flow_stats_read(slots, 1, 5, &copy, &rtp), 0);
	CHECK_EQUAL(copy.packets + copy.bytes + copy.last_seen_ns + copy.stranger_ns, 0);
	CHECK_EQUAL(copy.drops[3] + copy.ups[7] + copy.ssrcs[1].packets + copy.sources[1].received, 0);
	CHECK_EQUAL(rtp.ssrcs[0].last_seen_ns, 0);
	CHECK_EQUAL(mpo_flow_stats_read(slots, 1, 4, &copy, &rtp), -ESTALE);
	CHECK_EQUAL(slots[0].packets & slots[2].packets, ~0ull);

	for (ssrc = 1; ssrc <= 3; ssrc++) {
		packet[11] = (__u8)ssrc;
		mpo_rtp_state_count(&sockets, packet, sizeof(packet), START + ssrc);
	}
	mpo_flow_stats_seed(slots, 1, 6, &sockets);
	CHECK_EQUAL(mpo_flow_stats_read(slots, 1, 6, &copy, &rtp), 0);
	CHECK_EQUAL(copy.last_seen_ns, 0);
	count(&slots[1], 3, 2, START + 10);
	CHECK_EQUAL(mpo_flow_stats_read(slots, 1, 6, &copy, &rtp), 0);
	CHECK_EQUAL(copy.packets, 1);
	CHECK_EQUAL(rtp.ssrcs[0].ssrc, 3);
	CHECK_EQUAL(rtp.ssrcs[0].packets, 1);
	CHECK_EQUAL(rtp.ssrcs[0].lost, 1);
	CHECK_EQUAL(rtp.ssrcs[1].ssrc, 2);
	CHECK_EQUAL(rtp.ssrcs[2].last_seen_ns, 0);
	mpo_rtp_state_merge(&sockets, &rtp);
	CHECK_EQUAL(sockets.ssrcs[2].packets, 2);
	CHECK_EQUAL(sockets.ssrcs[2].lost, 1);
}

static void test_set_and_sum(void)
{
	const __u32 indices[] = { 2, 0, 1, SLOTS };
	const __u32 generations[] = { 9, 8, 7, 6 };
	const __u64 packets[] = { 20, 10, 5, 1 };
	const __u64 bytes[] = { 2000, 1000, 500, 100 };
	struct mpo_rtp_state none = { 0 };
	struct mpo_flow_totals totals;

	memset(slots, 0, sizeof(slots));
	CHECK_EQUAL(mpo_flow_stats_used(slots, SLOTS), 0);
	mpo_flow_stats_seed(slots, 0, 8, &none);
	mpo_flow_stats_seed(slots, 2, 9, &none);
	CHECK_EQUAL(mpo_flow_stats_used(slots, SLOTS), 3);
	CHECK_EQUAL(mpo_flow_stats_set(slots, SLOTS, 4, indices, generations, packets, bytes, START), 2);
	CHECK_EQUAL(slots[2].last_seen_ns, START);
	CHECK_EQUAL(mpo_flow_stats_set(slots, SLOTS, 1, indices, generations, packets, bytes, START + 1), 1);
	CHECK_EQUAL(slots[2].last_seen_ns, START);	/* it has not moved */
	slots[2].drops[MPO_FLOW_DROP_WRONG_SOURCE] = 3;
	slots[0].drops[MPO_FLOW_DROP_FAILED] = 4;
	mpo_flow_stats_sum(slots, SLOTS, &totals);
	CHECK_EQUAL(totals.packets, 30);
	CHECK_EQUAL(totals.bytes, 3000);
	CHECK_EQUAL(totals.drops, 7);
	mpo_flow_stats_sum(slots, 1, &totals);
	CHECK_EQUAL(totals.packets, 10);
}

/* Counters of somebody who knows no sequence numbers: what he forwarded is not lost, however much it was. */
static void test_gap(__u32 length)
{
	struct mpo_flow_stats sockets = { 0 }, copy;
	struct mpo_rtp_state of_sockets, kernel;
	const __u32 index = 3, generation = 1;
	const __u64 packets = length, bytes = 172ull * length;
	__u32 flip, i, number = 65000;
	__u64 now = START;

	memset(slots, 0, sizeof(slots));
	for (flip = 0; flip < 3; flip++) {
		for (i = 0; i < 200; i++, number++)
			if (i != 100)
				count(&sockets, 7, (__u16)number, now += 1000);
		memset(&of_sockets, 0, sizeof(of_sockets));
		memcpy(of_sockets.ssrcs, sockets.ssrcs, sizeof(sockets.ssrcs));
		memcpy(of_sockets.sources, sockets.sources, sizeof(sockets.sources));
		CHECK_EQUAL(of_sockets.ssrcs[0].lost, flip + 1);
		mpo_flow_stats_seed(slots, index, generation, &of_sockets);
		CHECK_EQUAL(mpo_flow_stats_read(slots, index, generation, &copy, &kernel), 0);
		CHECK_EQUAL(kernel.sources[0].bad_sequence, MPO_RTP_NO_BAD_SEQUENCE);	/* nothing forwarded yet */
		mpo_flow_stats_set(slots, SLOTS, 1, &index, &generation, &packets, &bytes, now + 500);
		number += length;
		CHECK_EQUAL(mpo_flow_stats_read(slots, index, generation, &copy, &kernel), 0);
		CHECK_EQUAL(kernel.ssrcs[0].lost, flip + 1);
		mpo_rtp_table_seed(sockets.ssrcs, sockets.sources, MPO_FLOW_SSRCS_MAX, &kernel);
		count(&sockets, 7, (__u16)(number - length - 1), now += 1000);	/* doubled, no part of the gap */
	}
	count(&sockets, 7, (__u16)number, now += 1000);
	memset(&of_sockets, 0, sizeof(of_sockets));
	memcpy(of_sockets.ssrcs, sockets.ssrcs, sizeof(sockets.ssrcs));
	memcpy(of_sockets.sources, sockets.sources, sizeof(sockets.sources));
	mpo_rtp_state_merge(&of_sockets, &kernel);
	CHECK_EQUAL(of_sockets.ssrcs[0].lost, 3);
	CHECK_EQUAL(of_sockets.ssrcs[0].duplicates, 3);
	CHECK_EQUAL(of_sockets.ssrcs[0].packets, 3 * 199 + 3 + 1);
}

void test_flow_stats(void)
{
	static const __u32 lengths[] = { 1, 50, 2500, 5000, 40000, 65300 };
	unsigned int i;

	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		test_gap(lengths[i]);
	test_seed_and_read();
	test_set_and_sum();
}
