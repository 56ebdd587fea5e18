/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the relay is made of, each on its own. */
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "mpo_events.h"
#include "mpo_grace.h"
#include "mpo_shared.h"
#include "mpo_slots.h"

#define PUSHED 200000u

static struct mpo_event_ring ring;

static void *push_many(void *unused)
{
	struct mpo_event event = { .kind = MPO_EVENT_SEEN };
	__u32 i;

	(void)unused;
	for (i = 0; i < PUSHED;) {
		event.ssrc = i;
		if (mpo_event_push(&ring, &event))
			i++;
	}
	return NULL;
}

static void test_ring(void)
{
	struct mpo_event event = { .kind = MPO_EVENT_SEEN }, taken[64];
	__u32 i, count, next = 0;
	pthread_t pusher;

	CHECK_EQUAL(mpo_event_take(&ring, taken, 64), 0);
	for (i = 0; i < MPO_EVENT_RING; i++)
		CHECK(mpo_event_push(&ring, &event));
	CHECK(!mpo_event_push(&ring, &event));
	CHECK_EQUAL(mpo_event_take(&ring, taken, 64), 64);
	CHECK(mpo_event_push(&ring, &event));
	while (mpo_event_take(&ring, taken, 64))
		;
	/* One pushes while another takes: everything comes, in order. */
	pthread_create(&pusher, NULL, push_many, NULL);
	while (next < PUSHED) {
		count = mpo_event_take(&ring, taken, 64);
		for (i = 0; i < count; i++, next++)
			if (taken[i].ssrc != next)
				break;
		if (i < count)
			break;
	}
	CHECK_EQUAL(next, PUSHED);
	pthread_join(pusher, NULL);
}

static int readable(int fd)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	return poll(&poller, 1, 0);
}

static void test_signal(void)
{
	struct mpo_event_signal signal;

	CHECK_EQUAL(mpo_event_signal_open(&signal), 0);
	CHECK_EQUAL(readable(signal.fd), 0);
	mpo_event_signal_lower(&signal);
	CHECK_EQUAL(readable(signal.fd), 0);
	mpo_event_signal_raise(&signal);
	mpo_event_signal_raise(&signal);
	CHECK_EQUAL(readable(signal.fd), 1);
	mpo_event_signal_lower(&signal);
	CHECK_EQUAL(readable(signal.fd), 0);
	mpo_event_signal_raise(&signal);
	CHECK_EQUAL(readable(signal.fd), 1);
	mpo_event_signal_close(&signal);
}

static unsigned int reports_at(struct mpo_report_limit *limit, __u64 now)
{
	unsigned int count = 0;

	while (mpo_report_allowed(limit, now))
		count++;
	return count;
}

static void test_limit(void)
{
	struct mpo_report_limit limit = { 0 };
	const __u64 start = 5000000000u;

	CHECK_EQUAL(reports_at(&limit, start), 8);
	CHECK_EQUAL(reports_at(&limit, start + MPO_REPORT_INTERVAL_NS - 1), 0);
	CHECK_EQUAL(reports_at(&limit, start + MPO_REPORT_INTERVAL_NS), 1);
	CHECK_EQUAL(reports_at(&limit, start + 1000000000u), 3);
	CHECK_EQUAL(reports_at(&limit, start + 100000000000u), 8);
}

void test_events(void)
{
	test_ring();
	test_signal();
	test_limit();
}

static unsigned int released;

static void release(struct mpo_retired *retired)
{
	(void)retired;
	released++;
}

void test_grace(void)
{
	struct mpo_reader one = { 0 }, two = { 0 };
	struct mpo_reader *readers[] = { &one, &two };
	struct mpo_retired a, b, c;
	struct mpo_grace grace;

	released = 0;
	mpo_grace_begin(&grace, readers, 2);
	mpo_grace_retire(&grace, &a, release);
	mpo_grace_reap(&grace);
	CHECK_EQUAL(released, 1);	/* nobody is reading */

	mpo_reader_enter(&grace, &one);
	mpo_grace_retire(&grace, &a, release);
	mpo_reader_enter(&grace, &two);	/* after the retirement: can't hold it */
	mpo_grace_retire(&grace, &b, release);
	mpo_grace_reap(&grace);
	CHECK_EQUAL(released, 1);
	mpo_reader_leave(&grace, &one);	/* reaps by itself */
	CHECK_EQUAL(released, 2);
	mpo_grace_retire(&grace, &c, release);
	mpo_reader_enter(&grace, &one);
	mpo_grace_reap(&grace);
	CHECK_EQUAL(released, 2);	/* b and c wait for two */
	mpo_reader_leave(&grace, &two);
	CHECK_EQUAL(released, 4);
	mpo_reader_leave(&grace, &one);
	mpo_grace_end(&grace);
	CHECK_EQUAL(released, 4);
}

void test_slots(void)
{
	const __u64 start = 5000000000u;
	struct mpo_slots slots;
	__u64 a, b, again;

	CHECK_EQUAL(mpo_slots_begin(&slots, 2), 0);
	CHECK_EQUAL(mpo_slot_take(&slots, start, &a), 0);
	CHECK_EQUAL(mpo_slot_take(&slots, start, &b), 0);
	CHECK(MPO_HANDLE_SLOT(a) != MPO_HANDLE_SLOT(b));
	CHECK(MPO_HANDLE_GENERATION(a) != 0);
	CHECK(mpo_slot_take(&slots, start, &again) < 0);
	mpo_slot_give(&slots, a, start);
	CHECK(mpo_slot_take(&slots, start + MPO_SLOT_REST_NS - 1, &again) < 0);
	CHECK(mpo_slot_take(&slots, start - 1, &again) < 0);	/* a clock read before another thread's */
	CHECK_EQUAL(mpo_slot_take(&slots, start + MPO_SLOT_REST_NS, &again), 0);
	CHECK_EQUAL(MPO_HANDLE_SLOT(again), MPO_HANDLE_SLOT(a));
	CHECK(again != a);
	mpo_slots_end(&slots);
}

struct pair {
	__u32 version;
	__u32 zero;
	__u64 first;
	__u64 second;
	_Atomic int stop;
};

static void *write_pairs(void *argument)
{
	struct pair *pair = argument;
	__u64 i;

	for (i = 1; !atomic_load(&pair->stop); i++) {
		mpo_record_begin(&pair->version);
		mpo_put(&pair->first, i);
		mpo_put(&pair->second, i);
		mpo_record_end(&pair->version);
	}
	return NULL;
}

void test_shared(void)
{
	static struct pair pair;
	struct {
		__u32 version, zero;
		__u64 first, second;
	} copy = { 0 };
	pthread_t writer;
	unsigned int i, torn = 0;

	pthread_create(&writer, NULL, write_pairs, &pair);
	while (copy.first == 0)
		mpo_shared_copy(&copy, &pair, sizeof(copy), &pair.version);
	for (i = 0; i < 20000; i++) {
		mpo_shared_copy(&copy, &pair, sizeof(copy), &pair.version);
		torn += copy.first != copy.second || (copy.version & 1);
	}
	atomic_store(&pair.stop, 1);
	pthread_join(writer, NULL);
	CHECK_EQUAL(torn, 0);
	mpo_shared_zero(&pair.first, 16);
	CHECK_EQUAL(pair.first + pair.second, 0);
}
