/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mpo_histogram.h"
#include "mpo_load.h"
#include "mpo_load_flow.h"
#include "mpo_load_port.h"

#define SECOND_NS 1000000000ull
#define MILLISECOND_NS 1000000ull
#define LATE_NS (20 * MILLISECOND_NS)	/* a generator this far behind gives up what it owes */
#define SLEEP_NS 5000			/* shorter waits are spent looking at the rings */
#define BURSTS_PER_DRAIN 64u		/* also when it is behind, so that the rings don't fill */
#define QUIET_NS (150 * MILLISECOND_NS)	/* after so long without a packet nothing more is expected */
#define PPS_MAX 100000000ull
#define DURATION_MAX (3600 * SECOND_NS)

struct mpo_load {
	struct mpo_load_port ports[MPO_LOAD_SIDES];
	struct mpo_load_item *items;
	size_t count;
	struct mpo_load_item **of_side[MPO_LOAD_SIDES];
	size_t side_count[MPO_LOAD_SIDES];
	size_t next[MPO_LOAD_SIDES];
	__u32 run;
	struct mpo_load_result *result;		/* of the run under way */
	struct mpo_histogram delays;
};

struct arrivals {
	struct mpo_load *load;
	__u32 side;
};

static __u64 clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (__u64)now.tv_sec * SECOND_NS + (__u64)now.tv_nsec;
}

static void sleep_until(__u64 due)
{
	struct timespec until = { .tv_sec = (time_t)(due / SECOND_NS), .tv_nsec = (long)(due % SECOND_NS) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

int mpo_load_create(struct mpo_load **out)
{
	struct mpo_load *load = calloc(1, sizeof(*load));

	if (!load)
		return -ENOMEM;
	for (unsigned int side = 0; side < MPO_LOAD_SIDES; side++)
		load->ports[side] = (struct mpo_load_port){ .send_fd = -1, .receive_fd = -1 };
	*out = load;
	return 0;
}

static void drop_flows(struct mpo_load *load)
{
	free(load->items);
	load->items = NULL;
	load->count = 0;
	for (unsigned int side = 0; side < MPO_LOAD_SIDES; side++) {
		free(load->of_side[side]);
		load->of_side[side] = NULL;
		load->side_count[side] = load->next[side] = 0;
	}
}

void mpo_load_destroy(struct mpo_load *load)
{
	if (!load)
		return;
	drop_flows(load);
	for (unsigned int side = 0; side < MPO_LOAD_SIDES; side++)
		mpo_load_port_close(&load->ports[side]);
	free(load);
}

int mpo_load_open_side(struct mpo_load *load, __u32 side, __u32 ifindex, const __u8 relay_mac[6])
{
	if (side >= MPO_LOAD_SIDES || load->ports[side].send_fd >= 0)
		return -EINVAL;
	return mpo_load_port_open(&load->ports[side], ifindex, relay_mac, MPO_LOAD_SNAP);
}

static int build_flows(struct mpo_load *load, const struct mpo_load_flow *flows, __u32 count)
{
	load->items = calloc(count, sizeof(*load->items));
	for (unsigned int side = 0; side < MPO_LOAD_SIDES; side++)
		load->of_side[side] = calloc(count, sizeof(struct mpo_load_item *));
	if (!load->items || !load->of_side[0] || !load->of_side[1])
		return -ENOMEM;
	for (__u32 i = 0; i < count; i++) {
		struct mpo_load_item *item = &load->items[i];
		int err = mpo_load_item_build(item, &flows[i], i);

		if (err < 0)
			return err;
		mpo_load_item_address(item, load->ports[item->side].mac, load->ports[item->side].relay_mac);
		load->of_side[item->side][load->side_count[item->side]++] = item;
	}
	load->count = count;
	return load->side_count[0] && load->side_count[1] ? 0 : -EINVAL;
}

int mpo_load_set_flows(struct mpo_load *load, const struct mpo_load_flow *flows, __u32 count)
{
	int err;

	drop_flows(load);
	if (count > MPO_LOAD_FLOWS_MAX || load->ports[0].send_fd < 0 || load->ports[1].send_fd < 0)
		return -EINVAL;
	err = build_flows(load, flows, count);
	if (err < 0)
		drop_flows(load);
	return err;
}

static void take(void *context, const __u8 *frame, size_t length, size_t full_length, __u64 at_ns)
{
	const struct arrivals *arrivals = context;
	struct mpo_load *load = arrivals->load;
	struct mpo_load_result *result = load->result;
	__u64 sent_at = 0;

	switch (mpo_load_item_arrived(load->items, load->count, arrivals->side, load->run, frame, length, full_length,
				      &sent_at)) {
	case MPO_LOAD_REORDERED:
		result->reordered++;
		/* fall through */
	case MPO_LOAD_OURS:
		result->received++;
		if (at_ns > sent_at)
			mpo_histogram_add(&load->delays, at_ns - sent_at);
		break;
	case MPO_LOAD_MISDELIVERED:
		result->misdelivered++;
		break;
	case MPO_LOAD_STALE:
		result->stale++;
		break;
	case MPO_LOAD_FOREIGN:
		result->foreign++;
		break;
	}
}

static bool drain(struct mpo_load *load)
{
	bool any = false;

	for (__u32 side = 0; side < MPO_LOAD_SIDES; side++) {
		struct arrivals arrivals = { load, side };

		any |= mpo_load_port_drain(&load->ports[side], take, &arrivals);
	}
	return any;
}

static __u64 sink_drops(struct mpo_load *load)
{
	return mpo_load_port_drops(&load->ports[0]) + mpo_load_port_drops(&load->ports[1]);
}

/* @burst is not larger than the flows of either side: a flow has one frame, so it can be in a burst but once. */
static void send_burst(struct mpo_load *load, __u32 side, unsigned int burst)
{
	struct mmsghdr messages[MPO_LOAD_BURST_MAX];
	struct iovec pieces[MPO_LOAD_BURST_MAX];
	__u64 now = clock_ns(CLOCK_REALTIME);

	memset(messages, 0, sizeof(messages[0]) * burst);
	for (unsigned int i = 0; i < burst; i++) {
		struct mpo_load_item *item = load->of_side[side][load->next[side]];

		if (++load->next[side] == load->side_count[side])
			load->next[side] = 0;
		mpo_load_item_stamp(item, now, load->run);
		item->sent++;
		pieces[i] = (struct iovec){ .iov_base = item->frame, .iov_len = MPO_LOAD_FRAME };
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	/* What finds the relay's ring full was offered and is lost: it counts as sent. */
	mpo_load_port_send(&load->ports[side], messages, burst, &load->result->dropped_at_entry,
			   &load->result->send_errors);
	load->result->sent += burst;
}

static void send_all(struct mpo_load *load, __u64 interval, __u64 duration, unsigned int burst)
{
	__u64 now = clock_ns(CLOCK_MONOTONIC), due = now, end = now + duration;
	unsigned int turn = 0, since_drain = 0;

	for (; now < end; now = clock_ns(CLOCK_MONOTONIC)) {
		if (now >= due) {
			send_burst(load, turn++ % MPO_LOAD_SIDES, burst);
			due += interval;
			if (now > due + LATE_NS) {
				load->result->forgiven_ns += now - due;
				due = now;
			}
			if (++since_drain < BURSTS_PER_DRAIN)
				continue;
		}
		since_drain = 0;
		drain(load);
		if (due > clock_ns(CLOCK_MONOTONIC) + SLEEP_NS)
			sleep_until(due < end ? due : end);
	}
}

static void await_stragglers(struct mpo_load *load)
{
	__u64 start = clock_ns(CLOCK_MONOTONIC), now = start, quiet_since = start;

	while (now < start + SECOND_NS && now < quiet_since + QUIET_NS) {
		sleep_until(now + 5 * MILLISECOND_NS);
		now = clock_ns(CLOCK_MONOTONIC);
		if (drain(load))
			quiet_since = now;
	}
}

int mpo_load_run(struct mpo_load *load, __u64 pps, __u64 duration_ns, __u32 burst, struct mpo_load_result *result)
{
	struct mpo_load_result discarded = { 0 };
	__u64 start, cpu_start;

	if (!pps || pps > PPS_MAX || !duration_ns || duration_ns > DURATION_MAX || !burst ||
	    burst > MPO_LOAD_BURST_MAX || !load->count)
		return -EINVAL;
	for (unsigned int side = 0; side < MPO_LOAD_SIDES; side++)
		if (load->side_count[side] < burst)
			burst = (__u32)load->side_count[side];
	load->result = &discarded;	/* for what was left in the rings */
	drain(load);
	sink_drops(load);
	for (size_t i = 0; i < load->count; i++)
		mpo_load_item_begin(&load->items[i]);
	memset(&load->delays, 0, sizeof(load->delays));
	memset(result, 0, sizeof(*result));
	load->result = result;
	load->run++;
	cpu_start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	start = clock_ns(CLOCK_MONOTONIC);
	send_all(load, SECOND_NS * burst / pps, duration_ns, burst);
	result->duration_ns = clock_ns(CLOCK_MONOTONIC) - start;
	result->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_start;
	await_stragglers(load);
	result->sink_drops = sink_drops(load);
	for (size_t i = 0; i < load->count; i++) {
		const struct mpo_load_item *item = &load->items[i];

		if (item->sent - item->received > result->worst_flow_lost)
			result->worst_flow_lost = item->sent - item->received;
	}
	result->p50_ns = mpo_histogram_percentile(&load->delays, 0.5);
	result->p99_ns = mpo_histogram_percentile(&load->delays, 0.99);
	result->p999_ns = mpo_histogram_percentile(&load->delays, 0.999);
	return 0;
}
