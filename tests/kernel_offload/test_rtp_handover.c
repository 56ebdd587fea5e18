/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A stream over several paths against one that has seen it all. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "mpo.h"
#include "mpo_rtp.h"
#include "mpo_rtp_handover.h"
#include "mpo_rtp_mailbox.h"

#define START 1000000000ull
#define MS 1000000ull
#define ROUNDS 300
#define PACKETS 6000
#define PATHS 12

static __u32 random_state;

/* xorshift32: the same on every machine. 0 to @below - 1. */
static __u32 chance(__u32 below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % below;
}

static void count(struct mpo_rtp_state *state, __u32 ssrc, __u32 sequence, __u64 now)
{
	__u8 packet[172] = { 0x80, 0, (__u8)(sequence >> 8), (__u8)sequence };
	__u32 timestamp = sequence * 160;

	packet[4] = (__u8)(timestamp >> 24);
	packet[5] = (__u8)(timestamp >> 16);
	packet[6] = (__u8)(timestamp >> 8);
	packet[7] = (__u8)timestamp;
	packet[11] = (__u8)ssrc;
	mpo_rtp_state_count(state, packet, sizeof(packet), now);
}

/* Numbers first..last, one every 20 ms. */
static void count_run(struct mpo_rtp_state *state, __u32 first, __u32 last, __u64 *now)
{
	__u32 number;

	for (number = first; number != last + 1; number++)
		count(state, 7, number, *now += 20 * MS);
}

static void merge(struct mpo_rtp_state *sum, const struct mpo_rtp_state *paths, unsigned int paths_count)
{
	unsigned int i;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < paths_count; i++)
		mpo_rtp_state_merge(sum, &paths[i]);
}

/* ---- random streams ---- */

struct arrivals {
	__u32 numbers[2 * PACKETS];
	unsigned int count;
	__u64 sent;
	__u64 doubled;
};

static void swap_later(struct arrivals *arrivals, unsigned int first, unsigned int from, unsigned int distance)
{
	__u32 moved = arrivals->numbers[from];

	if (from < first + distance)
		return;
	memmove(&arrivals->numbers[from - distance + 1], &arrivals->numbers[from - distance],
		distance * sizeof(arrivals->numbers[0]));
	arrivals->numbers[from - distance] = moved;
}

/*
 * What arrives of PACKETS sent ones. The first two and the last of each sequence are never lost: they say what was
 * expected. Restarts jump so far that A.1 sees them.
 */
static void make_arrivals(struct arrivals *arrivals, bool doubles, bool restarts)
{
	__u32 number = chance(0x10000), loss = chance(30), reorder = chance(15), i;
	unsigned int first = 0, in_sequence = 0;
	bool ends;

	memset(arrivals, 0, sizeof(*arrivals));
	for (i = 0; i < PACKETS; i++, number++, in_sequence++) {
		arrivals->sent++;
		ends = i + 1 == PACKETS || (restarts && in_sequence > 200 && i < PACKETS - 200 && chance(800) == 0);
		if (in_sequence > 1 && !ends && chance(100) < loss)
			continue;
		arrivals->numbers[arrivals->count++] = number & 0xffff;
		if (in_sequence > 60 && !ends && chance(100) < reorder)
			swap_later(arrivals, first + 2, arrivals->count - 1, 1 + chance(30));
		if (doubles && !ends && in_sequence > 1 && chance(50) == 0) {
			arrivals->numbers[arrivals->count++] = number & 0xffff;
			arrivals->doubled++;
		}
		if (ends) {
			first = arrivals->count;
			in_sequence = (unsigned int)-1;
			number += 5000 + chance(50000);
		}
	}
}

static void check_same(const struct mpo_rtp_state *sum, const struct mpo_rtp_state *whole)
{
	const struct mpo_ssrc_stats *a = &sum->ssrcs[0], *b = &whole->ssrcs[0];

	CHECK_EQUAL(a->ssrc, b->ssrc);
	CHECK_EQUAL(a->packets, b->packets);
	CHECK_EQUAL(a->bytes, b->bytes);
	CHECK_EQUAL(a->last_seen_ns, b->last_seen_ns);
	CHECK_EQUAL(a->last_timestamp, b->last_timestamp);
	CHECK_EQUAL(a->extended_sequence, b->extended_sequence);
	CHECK_EQUAL(a->lost, b->lost);
	CHECK_EQUAL(a->duplicates, b->duplicates);
	CHECK_EQUAL(a->reordered, b->reordered);
	CHECK_EQUAL(a->jitter_q4, b->jitter_q4);
	CHECK_EQUAL(sum->sources[0].received, whole->sources[0].received);
}

/*
 * Changes of path between two packets: every figure is that of one state that saw all, whatever was lost, late, doubled
 * or restarted. A path is new (a slot of the kernel) or one that was left before (the sockets).
 */
static void test_random_flips(void)
{
	static struct arrivals arrivals;
	static struct mpo_rtp_state paths[PATHS];
	struct mpo_rtp_state whole, sum;
	unsigned int round, i, used, at;
	__u64 now;

	random_state = 20240229;
	for (round = 0; round < ROUNDS && checks_failed == 0; round++) {
		memset(paths, 0, sizeof(paths));
		memset(&whole, 0, sizeof(whole));
		make_arrivals(&arrivals, round & 1, round & 2);
		now = START;
		used = 1;
		at = 0;
		for (i = 0; i < arrivals.count; i++) {
			now += 18 * MS + chance(4000) * 1000;
			count(&paths[at], 7, arrivals.numbers[i], now);
			count(&whole, 7, arrivals.numbers[i], now);
			if (chance(300) != 0)
				continue;
			merge(&sum, paths, used);
			check_same(&sum, &whole);
			if (chance(2) == 0)
				sum = paths[at];
			at = used < PATHS && chance(2) ? used++ : chance(used);
			mpo_rtp_state_seed(&paths[at], &sum);
			CHECK_EQUAL(paths[at].ssrcs[0].lost, whole.ssrcs[0].lost);
		}
		merge(&sum, paths, used);
		check_same(&sum, &whole);
		CHECK_EQUAL(whole.ssrcs[0].lost + whole.sources[0].received, arrivals.sent);
		CHECK_EQUAL(whole.ssrcs[0].duplicates, arrivals.doubled);
	}
}

/*
 * Changes of path with packets in queues: some of those that came before the change are counted by the old path long
 * after the new one has begun. No duplicates; loss is exact all the same.
 */
static void test_random_queues(void)
{
	static struct arrivals arrivals;
	static struct mpo_rtp_state paths[PATHS];
	static __u32 queue[64];
	unsigned int round, i, used, at, queued, queue_of = 0, rest = 0;
	struct mpo_rtp_state sum;
	__u64 now;

	random_state = 19700101;
	for (round = 0; round < ROUNDS && checks_failed == 0; round++) {
		memset(paths, 0, sizeof(paths));
		make_arrivals(&arrivals, false, false);
		now = START;
		used = 1;
		at = 0;
		queued = 0;
		for (i = 0; i < arrivals.count; i++) {
			now += 20 * MS;
			if (queued > 0 && rest-- == 0) {
				for (rest = 0; rest < queued; rest++)
					count(&paths[queue_of], 7, queue[rest], now++);
				queued = 0;
			}
			count(&paths[at], 7, arrivals.numbers[i], now);
			if (queued > 0 || i < 2 || chance(200) != 0)
				continue;
			/* What comes next is queued on the old path when the state to hand over has been read. */
			if (chance(2))
				merge(&sum, paths, used);
			else
				sum = paths[at];
			queue_of = at;
			while (queued < 1 + chance(20) && i + 1 < arrivals.count)
				queue[queued++] = arrivals.numbers[++i];
			rest = chance(20);
			at = used < PATHS && chance(2) ? used++ : chance(used);
			mpo_rtp_state_seed(&paths[at], &sum);
		}
		for (i = 0; i < queued; i++)
			count(&paths[queue_of], 7, queue[i], ++now);
		merge(&sum, paths, used);
		CHECK_EQUAL(sum.ssrcs[0].packets, arrivals.count);
		CHECK_EQUAL(sum.ssrcs[0].duplicates, 0);
		CHECK_EQUAL(sum.ssrcs[0].lost + sum.ssrcs[0].packets, arrivals.sent);
	}
}

/* ---- one circumstance each ---- */

static struct mpo_rtp_state sockets, kernel, sum;
static __u64 now;

static void begin(void)
{
	memset(&sockets, 0, sizeof(sockets));
	memset(&kernel, 0, sizeof(kernel));
	now = START;
}

static void sum_up(void)
{
	memset(&sum, 0, sizeof(sum));
	mpo_rtp_state_merge(&sum, &sockets);
	mpo_rtp_state_merge(&sum, &kernel);
}

#define CHECK_SUM(packets_in_all, missing, highest)              \
	do {                                                     \
		sum_up();                                        \
		CHECK_EQUAL(sum.ssrcs[0].packets, packets_in_all); \
		CHECK_EQUAL(sum.ssrcs[0].lost, missing);         \
		CHECK_EQUAL(sum.ssrcs[0].extended_sequence, highest); \
	} while (0)

static void test_seed(void)
{
	begin();
	count_run(&sockets, 100, 199, &now);
	count_run(&sockets, 210, 219, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	CHECK_EQUAL(kernel.ssrcs[0].packets, 0);
	CHECK_EQUAL(kernel.ssrcs[0].bytes, 0);
	CHECK_EQUAL(kernel.sources[0].received, 0);
	CHECK_EQUAL(kernel.ssrcs[0].lost, 10);
	CHECK_EQUAL(kernel.ssrcs[0].last_seen_ns, now);
	CHECK_SUM(110, 10, 219);
	count(&kernel, 7, 205, now += MS);	/* late */
	count(&kernel, 7, 219, now += MS);	/* doubled */
	count(&kernel, 7, 220, now += MS);
	CHECK_SUM(113, 9, 220);
	CHECK_EQUAL(sum.ssrcs[0].duplicates, 1);
	CHECK_EQUAL(sum.ssrcs[0].reordered, 1);
	/* Doubled as far back as can be known, after two changes of path. */
	mpo_rtp_state_seed(&sockets, &kernel);
	count(&sockets, 7, 121, now += MS);
	CHECK_SUM(114, 9, 220);
	CHECK_EQUAL(sum.ssrcs[0].duplicates, 2);
	memset(&sum, 0, sizeof(sum));
	mpo_rtp_state_seed(&sum, &sockets);	/* a third path, which goes on for the two */
	count(&sum, 7, 124, now += MS);
	CHECK_EQUAL(sum.ssrcs[0].duplicates, 1);
	/* The kernel alone, as after a restart of the daemon, knows what the sockets had. */
	CHECK_EQUAL(kernel.ssrcs[0].lost, 9);
	memset(&sockets, 0, sizeof(sockets));
	CHECK_SUM(3, 9, 220);
	/* What the kernel counts the sockets know for doubled, long after. */
	begin();
	count_run(&sockets, 100, 199, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 200, 290, &now);
	mpo_rtp_state_seed(&sockets, &kernel);
	count(&sockets, 7, 210, now += MS);	/* 80 behind */
	count(&sockets, 7, 290, now += MS);
	CHECK_SUM(193, 0, 290);
	CHECK_EQUAL(sum.ssrcs[0].duplicates, 2);
}

/* The first packet of all was lost on its way to this path: what came before it came by the other. */
static void test_seed_late_first(void)
{
	begin();
	count_run(&sockets, 100, 110, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count(&kernel, 7, 99, now += MS);
	count(&kernel, 7, 97, now += MS);
	CHECK_SUM(13, 1, 110);
}

static void test_wraps(void)
{
	begin();
	count_run(&sockets, 65000, 65535, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 65536, 3 * 65536 + 9, &now);
	mpo_rtp_state_seed(&sockets, &kernel);
	count_run(&sockets, 3 * 65536 + 11, 3 * 65536 + 20, &now);
	CHECK_SUM(536 + 2 * 65536 + 10 + 10, 1, 3 * 65536 + 20);
}

/* Nobody told the kernel of the stream, or the stream is new: it began while its first packets were queued. */
static void test_no_seed(void)
{
	__u32 number;

	begin();
	count_run(&sockets, 65530, 65537, &now);
	count_run(&kernel, 65540, 65600, &now);
	CHECK_SUM(8 + 61, 2, 65600);
	/* The other order: the queue is read last. */
	begin();
	count_run(&kernel, 65538, 65600, &now);
	count_run(&sockets, 65533, 65537, &now);
	CHECK_SUM(63 + 5, 0, 64);
	/* Side by side for long: every two thousandth packet goes up. */
	begin();
	count_run(&kernel, 100, 99999, &now);
	for (number = 100000; number < 140000; number += 2000) {
		count(&sockets, 7, number, now += 20 * MS);
		count_run(&kernel, number + 1, number + 1999, &now);
	}
	count(&sockets, 7, 140000, now += 20 * MS);
	CHECK_SUM(139901, 0, 140000);
}

static void test_restart(void)
{
	begin();
	count_run(&sockets, 100, 199, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 201, 299, &now);
	count_run(&kernel, 40000, 40099, &now);
	CHECK_EQUAL(kernel.sources[0].epoch, 1);
	CHECK_SUM(299, 1, 40099);
	mpo_rtp_state_seed(&sockets, &kernel);
	CHECK_EQUAL(sockets.sources[0].epoch, 1);
	count_run(&sockets, 40110, 40119, &now);
	CHECK_SUM(309, 11, 40119);

	/* One packet on either side of the change of path. */
	begin();
	count_run(&sockets, 100, 199, &now);
	count(&sockets, 7, 40000, now += MS);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 40001, 40010, &now);
	CHECK_SUM(111, 0, 40010);

	/* Both see the same restart: packets in the queue. */
	begin();
	count_run(&sockets, 100, 199, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 40004, 40050, &now);
	count_run(&sockets, 40000, 40003, &now);
	CHECK_SUM(100 + 47 + 4, 0, 40050);

	/* The same, and only the kernel knows how far it had come before. */
	begin();
	count_run(&sockets, 100, 199, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 201, 299, &now);
	count_run(&kernel, 40004, 40050, &now);
	count_run(&sockets, 40000, 40003, &now);
	CHECK_SUM(199 + 47 + 4, 1, 40050);
}

/* The kernel lost its flow and nobody could tell the sockets in time: they take what goes on for a restart. */
static void test_stale(void)
{
	__u32 last;

	for (last = 20000; last < 300000; last += 70001) {
		begin();
		count_run(&sockets, 100, 199, &now);
		mpo_rtp_state_seed(&kernel, &sockets);
		count_run(&kernel, 200, last, &now);
		count_run(&sockets, last + 3, last + 100, &now);
		CHECK_EQUAL(sockets.sources[0].epoch, 1);
		CHECK_SUM(last - 99 + 98, 2, last + 100);
		mpo_rtp_state_seed(&sockets, &sum);
		CHECK_EQUAL(sockets.sources[0].epoch, 0);
		CHECK_EQUAL(sockets.ssrcs[0].lost, 2);
		count_run(&sockets, last + 101, last + 110, &now);
		CHECK_SUM(last - 99 + 108, 2, last + 110);
	}
	/* Packets that the kernel let go up, two in a row, while it went on with the others. */
	begin();
	count_run(&sockets, 100, 199, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 200, 9999, &now);
	count_run(&sockets, 10000, 10001, &now);
	count_run(&kernel, 10002, 30000, &now);
	CHECK_SUM(29901, 0, 30000);
	/* The same, and it is the socket that hears the last one; it has followed all the way. */
	begin();
	count_run(&sockets, 100, 199, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 200, 9999, &now);
	count_run(&sockets, 10000, 10001, &now);
	for (last = 12000; last < 30000; last += 2000) {
		count_run(&kernel, last - 1998, last - 1, &now);
		count_run(&sockets, last, last + 1, &now);
	}
	CHECK_SUM(28001 - 99, 0, 28001);
	/* Nobody told the sockets for an hour after they took over. */
	begin();
	count_run(&sockets, 100, 199, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 200, 9999, &now);
	count_run(&sockets, 10001, 55000, &now);
	CHECK_SUM(54900, 1, 55000);
	/* A true restart after all. */
	begin();
	count_run(&sockets, 100, 199, &now);
	mpo_rtp_state_seed(&kernel, &sockets);
	count_run(&kernel, 201, 20000, &now);
	count_run(&sockets, 50000, 50100, &now);
	CHECK_SUM(100 + 19800 + 101, 1, 50100);
}

static void test_tables(void)
{
	struct mpo_ssrc_stats stats[2];
	struct mpo_rtp_source sources[2];
	__u32 ssrc;

	begin();
	for (ssrc = 1; ssrc <= 4; ssrc++)
		count(&sockets, ssrc, 10 * ssrc, now += MS);
	count(&sockets, 1, 11, now += MS);
	/* The two heard last. */
	memset(stats, 0, sizeof(stats));
	memset(sources, 0, sizeof(sources));
	mpo_rtp_table_seed(stats, sources, 2, &sockets);
	CHECK_EQUAL(stats[0].ssrc + stats[1].ssrc, 1 + 4);
	CHECK_EQUAL(stats[0].packets + stats[1].packets, 0);
	/* One more than there is room for: what was heard least recently goes, and only for what was heard later. */
	count(&kernel, 9, 1, now += MS);
	mpo_rtp_state_merge(&sockets, &kernel);
	CHECK_EQUAL(sockets.ssrcs[1].ssrc, 9);
	CHECK_EQUAL(sockets.ssrcs[1].packets, 1);
	memset(&kernel, 0, sizeof(kernel));
	count(&kernel, 2, 20, START);
	mpo_rtp_state_merge(&sockets, &kernel);
	mpo_rtp_state_seed(&sockets, &kernel);
	for (ssrc = 0; ssrc < 4; ssrc++)
		CHECK(sockets.ssrcs[ssrc].ssrc != 2);
}

/* ---- the mailbox ---- */

struct post {
	struct mpo_rtp_mailbox mailbox;
	atomic_int stop;
	struct mpo_rtp_state read;
};

static void *read_letters(void *context)
{
	const struct mpo_rtp_state *letter;
	struct post *post = context;
	bool last;

	do {
		last = atomic_load(&post->stop);
		if (!mpo_rtp_mailbox_waits(&post->mailbox))
			continue;
		letter = mpo_rtp_mailbox_open(&post->mailbox);
		if (!letter)
			continue;
		mpo_rtp_state_seed(&post->read, letter);
		mpo_rtp_mailbox_done(&post->mailbox);
	} while (!last);
	return NULL;
}

static void test_mailbox(void)
{
	static struct post post;
	pthread_t worker;
	unsigned int i;

	begin();
	CHECK(mpo_rtp_mailbox_open(&post.mailbox) == NULL);
	pthread_create(&worker, NULL, read_letters, &post);
	for (i = 0; i < 20000; i++) {
		count(&kernel, 7, i, now += MS);
		CHECK_EQUAL(mpo_rtp_mailbox_put(&post.mailbox, &kernel), 0);
	}
	atomic_store(&post.stop, 1);
	pthread_join(worker, NULL);
	CHECK_EQUAL(post.read.sources[0].highest, 19999);
	CHECK_EQUAL(post.read.sources[0].received, 0);
	CHECK_EQUAL(post.read.sources[0].elsewhere, 20000);
	mpo_rtp_mailbox_end(&post.mailbox);

	/* Two letters of two paths before the first is read. */
	memset(&post, 0, sizeof(post));
	begin();
	count(&kernel, 7, 1, now += MS);
	count(&sockets, 8, 1, now += MS);
	CHECK_EQUAL(mpo_rtp_mailbox_put(&post.mailbox, &kernel), 0);
	CHECK_EQUAL(mpo_rtp_mailbox_put(&post.mailbox, &sockets), 0);
	atomic_store(&post.stop, 1);
	read_letters(&post);
	CHECK_EQUAL(post.read.ssrcs[0].ssrc, 7);
	CHECK_EQUAL(post.read.ssrcs[1].ssrc, 8);
	CHECK(!mpo_rtp_mailbox_waits(&post.mailbox));
	mpo_rtp_mailbox_end(&post.mailbox);
}

void test_rtp_handover(void)
{
	test_seed();
	test_seed_late_first();
	test_wraps();
	test_no_seed();
	test_restart();
	test_stale();
	test_tables();
	test_random_flips();
	test_random_queues();
	test_mailbox();
}
