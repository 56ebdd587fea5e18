/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reports from the workers to whoever reads the eventfd: one bounded ring per worker (one producer, one consumer), so
 * that no worker ever waits for another or for the reader, and a flood on one worker leaves the others' rings alone.
 */
#ifndef MPO_EVENTS_H
#define MPO_EVENTS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "mpo_abi.h"

#define MPO_EVENT_RING 1024u	/* a power of two */

struct mpo_event_ring {
	_Alignas(64) _Atomic __u32 head;	/* the producer's */
	_Alignas(64) _Atomic __u32 tail;	/* the consumer's */
	struct mpo_event events[MPO_EVENT_RING];
};

/* The one wake-up of all rings: an eventfd written once per emptying, not once per event. */
struct mpo_event_signal {
	int fd;
	_Atomic int raised;
};

/* 0 or -errno; what it opens is closed by mpo_event_signal_close(). */
int mpo_event_signal_open(struct mpo_event_signal *signal);
void mpo_event_signal_close(struct mpo_event_signal *signal);
void mpo_event_signal_raise(struct mpo_event_signal *signal);
/* To be called before the rings are emptied: what is pushed afterwards raises it again. */
void mpo_event_signal_lower(struct mpo_event_signal *signal);

/* The producer's. false: the ring is full, the event is not in it. */
bool mpo_event_push(struct mpo_event_ring *ring, const struct mpo_event *event);
/* The consumer's. Moves up to @capacity events, returns how many. */
__u32 mpo_event_take(struct mpo_event_ring *ring, struct mpo_event *events, __u32 capacity);

/*
 * How often one transport may report: a bucket of MPO_REPORT_BURST reports, refilled at one per
 * MPO_REPORT_INTERVAL_NS. Zeroed memory is a full bucket.
 */
#define MPO_REPORT_BURST 8u
#define MPO_REPORT_INTERVAL_NS 250000000u

struct mpo_report_limit {
	__u64 full_at;	/* when the bucket will be full again, nanoseconds */
};

bool mpo_report_allowed(struct mpo_report_limit *limit, __u64 now);

#endif
