/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Vectors worked out by hand from RFC 3550, appendices A.1, A.3 and A.8. */
#include <string.h>

#include "check.h"
#include "mpo_rtp.h"
#include "mpo_rtp_stats.h"

#define START 1000000000ull	/* a whole second: all the times below are whole timestamp units at 8000 Hz */
#define MS 1000000ull

static struct mpo_rtp_stream stream;
static struct mpo_ssrc_stats stats[MPO_SSRCS_MAX];
static struct mpo_clock_rates rates;

static void begin(void)
{
	memset(&stream, 0, sizeof(stream));
	memset(stats, 0, sizeof(stats));
	memset(&rates, 0, sizeof(rates));
	rates.serial = 1;
}

static void put32(__u8 *bytes, __u32 value)
{
	bytes[0] = (__u8)(value >> 24);
	bytes[1] = (__u8)(value >> 16);
	bytes[2] = (__u8)(value >> 8);
	bytes[3] = (__u8)value;
}

static void rtp(__u32 ssrc, __u8 payload_type, __u32 sequence, __u32 timestamp, __u64 now)
{
	__u8 packet[172] = { 0x80, payload_type, (__u8)(sequence >> 8), (__u8)sequence };

	put32(packet + 4, timestamp);
	put32(packet + 8, ssrc);
	mpo_rtp_count(&stream, stats, &rates, packet, sizeof(packet), now);
}

static void sequences(const __u32 *numbers, unsigned int count)
{
	unsigned int i;

	begin();
	for (i = 0; i < count; i++)
		rtp(7, 0, numbers[i], 0, START + i);
	CHECK_EQUAL(stats[0].packets, count);
	CHECK_EQUAL(stats[0].bytes, count * 172);
}

#define SEQUENCES(...)                                                      \
	do {                                                                \
		static const __u32 numbers[] = { __VA_ARGS__ };             \
		sequences(numbers, sizeof(numbers) / sizeof(numbers[0]));   \
	} while (0)

#define CHECK_COUNTS(extended, missing, doubled, late)            \
	do {                                                      \
		CHECK_EQUAL(stats[0].extended_sequence, extended); \
		CHECK_EQUAL(stats[0].lost, missing);              \
		CHECK_EQUAL(stats[0].duplicates, doubled);        \
		CHECK_EQUAL(stats[0].reordered, late);            \
	} while (0)

static void test_sequence(void)
{
	SEQUENCES(1, 2, 3, 4, 5);
	CHECK_COUNTS(5, 0, 0, 0);
	SEQUENCES(65534, 65535, 0, 1);	/* "cycles" */
	CHECK_COUNTS(0x10001, 0, 0, 0);
	SEQUENCES(1, 2, 5);
	CHECK_COUNTS(5, 2, 0, 0);
	SEQUENCES(1, 2, 5, 4);
	CHECK_COUNTS(5, 1, 0, 1);
	SEQUENCES(1, 2, 5, 4, 4, 5, 3);
	CHECK_COUNTS(5, 0, 2, 2);
	SEQUENCES(65535, 1, 0);		/* late across the wrap */
	CHECK_COUNTS(0x10001, 0, 0, 1);
	SEQUENCES(0, 65535);		/* what preceded the first one */
	CHECK_COUNTS(0, 0, 0, 1);
	SEQUENCES(10, 9, 7);
	CHECK_COUNTS(10, 1, 0, 2);
	SEQUENCES(100, 200, 101, 101);	/* in the second word of the window */
	CHECK_COUNTS(200, 98, 1, 1);
	SEQUENCES(100, 199, 100);	/* 99 behind: the last one that is not a jump (MAX_MISORDER) */
	CHECK_COUNTS(199, 98, 1, 0);
	SEQUENCES(100, 200, 100);
	CHECK_COUNTS(200, 99, 0, 0);
	SEQUENCES(1, 3000);		/* MAX_DROPOUT less one */
	CHECK_COUNTS(3000, 2998, 0, 0);
}

static void test_restart(void)
{
	SEQUENCES(100, 101, 40000, 102);	/* one stray packet is no restart */
	CHECK_COUNTS(102, 0, 0, 0);
	SEQUENCES(100, 101, 30000, 30001);	/* two in a row are */
	CHECK_COUNTS(30001, 0, 0, 0);
	SEQUENCES(100, 101, 30000, 30001, 30003, 30000);
	CHECK_COUNTS(30003, 1, 1, 0);
	SEQUENCES(1, 3, 30000, 30001);		/* what was lost before stays lost */
	CHECK_COUNTS(30001, 1, 0, 0);
	SEQUENCES(65535, 0, 30000, 30001);	/* "cycles = 0" */
	CHECK_COUNTS(30001, 0, 0, 0);
	SEQUENCES(500, 501, 65535, 0, 1);	/* the second of the two after a wrap */
	CHECK_COUNTS(1, 0, 0, 0);
	SEQUENCES(1000, 899, 900);		/* 101 and 100 behind: a restart */
	CHECK_COUNTS(900, 0, 0, 0);
}

/* Arrivals 0, 20, 45, 60 ms of packets sent every 20 ms: transit 0, 0, 40, 0 units; |D| 0, 40, 40. */
static void test_jitter(void)
{
	begin();
	rtp(7, 0, 1, 5000, START);
	rtp(7, 0, 2, 5160, START + 20 * MS);
	CHECK_EQUAL(stats[0].jitter_q4, 0);
	rtp(7, 0, 3, 5320, START + 45 * MS);
	CHECK_EQUAL(stats[0].jitter_q4, 40);	/* 0 + 40 - (0 + 8) / 16 */
	rtp(7, 0, 4, 5480, START + 60 * MS);
	CHECK_EQUAL(stats[0].jitter_q4, 77);	/* 40 + 40 - (40 + 8) / 16 */
	CHECK_EQUAL(stats[0].last_timestamp, 5480);

	/* A duplicate and a telephone-event (no clock known) in between change nothing. */
	rtp(7, 0, 4, 5480, START + 65 * MS);
	rtp(7, 101, 5, 5480, START + 75 * MS);
	CHECK_EQUAL(stats[0].jitter_q4, 77);
	CHECK_EQUAL(stats[0].payload_type, 101);
	rtp(7, 0, 6, 5800, START + 100 * MS);	/* |D| 0 */
	CHECK_EQUAL(stats[0].jitter_q4, 72);	/* 77 + 0 - (77 + 8) / 16 */

	/* A new timestamp base (an hour ahead) is not jitter; counting goes on from there. */
	rtp(7, 0, 7, 5960 + 28800000, START + 120 * MS);
	CHECK_EQUAL(stats[0].jitter_q4, 72);
	rtp(7, 0, 8, 6120 + 28800000, START + 140 * MS);
	CHECK_EQUAL(stats[0].jitter_q4, 67);	/* 72 + 0 - (72 + 8) / 16 */
}

static void test_jitter_wrap(void)
{
	begin();
	rtp(7, 0, 1, 0xffffff60u, START);
	rtp(7, 0, 2, 0, START + 21 * MS);	/* 8 units late */
	CHECK_EQUAL(stats[0].jitter_q4, 8);
	CHECK_EQUAL(stats[0].last_timestamp, 0);
}

static __u32 clock_rate_of(__u8 payload_type)
{
	struct mpo_rtp_clocks clocks = { .rates = rates.rates, .count = rates.count, .limit = MPO_CLOCK_RATES_MAX };

	return mpo_clock_rate_of(&clocks, payload_type);
}

static void test_clock_rates(void)
{
	begin();
	CHECK_EQUAL(clock_rate_of(0), 8000);
	CHECK_EQUAL(clock_rate_of(9), 8000);	/* G.722: "erroneously assigned", RFC 3551, 4.5.2 */
	CHECK_EQUAL(clock_rate_of(13), 0);
	CHECK_EQUAL(clock_rate_of(34), 90000);
	CHECK_EQUAL(clock_rate_of(35), 0);
	CHECK_EQUAL(clock_rate_of(111), 0);
	rates.rates[0] = (struct mpo_clock_rate){ .hz = 48000, .payload_type = 111 };
	rates.rates[1] = (struct mpo_clock_rate){ .hz = 0, .payload_type = 0 };
	rates.count = 2;
	CHECK_EQUAL(clock_rate_of(111), 48000);
	CHECK_EQUAL(clock_rate_of(0), 0);

	rtp(7, 111, 1, 0, START);
	rtp(7, 111, 2, 960, START + 21 * MS);	/* 48 units late */
	CHECK_EQUAL(stats[0].jitter_q4, 48);
	/* A new table under the same payload type; what is known of the transit is then of another clock. */
	rates.rates[0].hz = 16000;
	rates.serial = 2;
	rtp(7, 111, 3, 1920, START + 40 * MS);
	CHECK_EQUAL(stats[0].jitter_q4, 48);
	rtp(7, 111, 4, 2240, START + 61 * MS);	/* 16 units late */
	CHECK_EQUAL(stats[0].jitter_q4, 61);	/* 48 + 16 - (48 + 8) / 16 */
}

static void test_ssrcs(void)
{
	__u32 ssrc;

	begin();
	for (ssrc = 1; ssrc <= MPO_SSRCS_MAX; ssrc++)
		rtp(ssrc, 0, 1, 0, START + ssrc);
	rtp(1, 0, 2, 0, START + 10);	/* now 2 is the one heard least recently */
	rtp(99, 0, 77, 0, START + 11);
	CHECK_EQUAL(stats[0].ssrc, 1);
	CHECK_EQUAL(stats[0].packets, 2);
	CHECK_EQUAL(stats[1].ssrc, 99);
	CHECK_EQUAL(stats[1].packets, 1);
	CHECK_EQUAL(stats[1].extended_sequence, 77);
	CHECK_EQUAL(stats[1].lost, 0);
	CHECK_EQUAL(stats[2].ssrc, 3);
	CHECK_EQUAL(stats[3].ssrc, 4);
	rtp(3, 0, 2, 0, START + 12);
	CHECK_EQUAL(stats[2].packets, 2);
}

static void test_rtcp(void)
{
	__u8 report[28] = { 0x80, 200, 0, 6, 0xde, 0xad, 0xbe, 0xef };

	begin();
	mpo_rtcp_count(stats, report, sizeof(report), START);
	mpo_rtcp_count(stats, report, sizeof(report), START + 1);
	report[7] = 0xee;
	mpo_rtcp_count(stats, report, 8, START + 2);
	CHECK_EQUAL(stats[0].ssrc, 0xdeadbeef);
	CHECK_EQUAL(stats[0].packets, 2);
	CHECK_EQUAL(stats[0].bytes, 56);
	CHECK_EQUAL(stats[1].ssrc, 0xdeadbeee);
	CHECK_EQUAL(stats[1].bytes, 8);
}

void test_rtp_stats(void)
{
	test_sequence();
	test_restart();
	test_jitter();
	test_jitter_wrap();
	test_clock_rates();
	test_ssrcs();
	test_rtcp();
}
