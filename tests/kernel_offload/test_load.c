/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The load generator's frames, how arrivals are judged, and its histogram; no socket is opened. */
#include <errno.h>
#include <string.h>

#include <arpa/inet.h>

#include "check.h"
#include "mpo_histogram.h"
#include "mpo_load_flow.h"

#define RUN 7u
#define SENT_AT 1234567890123ull

static struct mpo_endpoint endpoint(const char *address, __u16 port)
{
	struct mpo_endpoint made = { .address = { [10] = 0xff, [11] = 0xff }, .port = port };

	inet_pton(AF_INET, address, made.address + 12);
	return made;
}

static void build(struct mpo_load_item items[2])
{
	struct mpo_load_flow flow = { endpoint("10.0.1.250", 2000), endpoint("10.0.1.1", 10000),
				      endpoint("10.0.2.250", 2002), 0 };

	CHECK_EQUAL(mpo_load_item_build(&items[0], &flow, 0), 0);
	flow.side = 1;
	CHECK_EQUAL(mpo_load_item_build(&items[1], &flow, 1), 0);
	mpo_load_item_begin(&items[0]);
	mpo_load_item_begin(&items[1]);
}

/* What a relay makes of a frame: it is for the sink. */
static void relay(struct mpo_load_item *item, __u8 *frame)
{
	memcpy(frame, item->frame, MPO_LOAD_FRAME);
	memcpy(frame + 30, item->sink, 4);
	memcpy(frame + 36, item->sink + 4, 2);
}

static void test_build(void)
{
	struct mpo_load_item items[2];
	struct mpo_load_flow flow = { .side = 2 };
	__u32 sum = 0;

	build(items);
	for (unsigned int i = 14; i < 34; i += 2)
		sum += (__u32)items[0].frame[i] << 8 | items[0].frame[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	CHECK_EQUAL(sum, 0xffff);	/* the checksum of the IP header is right */
	CHECK_EQUAL(items[0].frame[42], 0x80);
	CHECK_EQUAL(mpo_load_item_build(&items[0], &flow, 0), -EINVAL);
	flow.side = 0;
	CHECK_EQUAL(mpo_load_item_build(&items[0], &flow, 0), -EAFNOSUPPORT);
}

static void test_arrivals(void)
{
	struct mpo_load_item items[2];
	__u8 first[MPO_LOAD_FRAME], second[MPO_LOAD_FRAME];
	__u64 sent_at = 0;

	build(items);
	mpo_load_item_stamp(&items[0], SENT_AT, RUN);
	relay(&items[0], first);
	mpo_load_item_stamp(&items[0], SENT_AT, RUN);
	relay(&items[0], second);

#define ARRIVED(side, run, frame, length) \
	mpo_load_item_arrived(items, 2, side, run, frame, length, MPO_LOAD_FRAME, &sent_at)
	CHECK_EQUAL(ARRIVED(1, RUN, second, MPO_LOAD_SNAP), MPO_LOAD_OURS);
	CHECK(sent_at == SENT_AT);
	CHECK_EQUAL(ARRIVED(1, RUN, first, MPO_LOAD_SNAP), MPO_LOAD_REORDERED);
	CHECK_EQUAL(items[0].received, 2);
	CHECK_EQUAL(ARRIVED(0, RUN, first, MPO_LOAD_SNAP), MPO_LOAD_MISDELIVERED);	/* back where it came from */
	CHECK_EQUAL(ARRIVED(1, RUN + 1, first, MPO_LOAD_SNAP), MPO_LOAD_STALE);
	CHECK_EQUAL(ARRIVED(1, RUN, first, MPO_LOAD_SNAP - 1), MPO_LOAD_FOREIGN);
	first[36] ^= 1;
	CHECK_EQUAL(ARRIVED(1, RUN, first, MPO_LOAD_SNAP), MPO_LOAD_MISDELIVERED);	/* another port */
	second[50] ^= 0x10;
	CHECK_EQUAL(ARRIVED(1, RUN, second, MPO_LOAD_SNAP), MPO_LOAD_FOREIGN);	/* no SSRC of ours */
	CHECK_EQUAL(items[0].received, 2);
	CHECK_EQUAL(items[1].received, 0);
}

static void test_histogram(void)
{
	static struct mpo_histogram histogram;
	__u64 top;

	CHECK_EQUAL(mpo_histogram_percentile(&histogram, 0.5), 0);
	for (__u64 ns = 1; ns < 1ull << 40; ns = ns * 3 + 1) {
		top = mpo_histogram_top(mpo_histogram_bucket(ns));
		CHECK(top > ns && top - ns <= ns / 64 + 1);
	}
	for (unsigned int i = 0; i < 99; i++)
		mpo_histogram_add(&histogram, 1000);
	mpo_histogram_add(&histogram, 1000000);
	top = mpo_histogram_percentile(&histogram, 0.5);
	CHECK(top >= 1000 && top < 1020);
	top = mpo_histogram_percentile(&histogram, 0.999);
	CHECK(top >= 1000000 && top < 1020000);
}

void test_load(void)
{
	test_build();
	test_arrivals();
	test_histogram();
}
