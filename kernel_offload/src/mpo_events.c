/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <unistd.h>

#include <sys/eventfd.h>

#include "mpo_events.h"

int mpo_event_signal_open(struct mpo_event_signal *signal)
{
	signal->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (signal->fd < 0)
		return -errno;
	atomic_init(&signal->raised, 0);
	return 0;
}

void mpo_event_signal_close(struct mpo_event_signal *signal)
{
	close(signal->fd);
	signal->fd = -1;
}

void mpo_event_signal_raise(struct mpo_event_signal *signal)
{
	const __u64 one = 1;

	/* Can't fail: the counter is 0 or 1. Nobody to tell if it did; the next event tries again. */
	if (atomic_exchange(&signal->raised, 1) == 0 && write(signal->fd, &one, sizeof(one)) < 0)
		atomic_store(&signal->raised, 0);
}

void mpo_event_signal_lower(struct mpo_event_signal *signal)
{
	__u64 count;

	/* Nothing to read: nothing was raised. Either way the rings are looked at next. */
	if (read(signal->fd, &count, sizeof(count)) < 0)
		count = 0;
	atomic_store(&signal->raised, 0);
}

bool mpo_event_push(struct mpo_event_ring *ring, const struct mpo_event *event)
{
	__u32 head = atomic_load_explicit(&ring->head, memory_order_relaxed);

	if (head - atomic_load_explicit(&ring->tail, memory_order_acquire) >= MPO_EVENT_RING)
		return false;
	ring->events[head & (MPO_EVENT_RING - 1)] = *event;
	atomic_store(&ring->head, head + 1);
	return true;
}

__u32 mpo_event_take(struct mpo_event_ring *ring, struct mpo_event *events, __u32 capacity)
{
	__u32 tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	__u32 ready = atomic_load(&ring->head) - tail;
	__u32 i;

	if (ready > capacity)
		ready = capacity;
	for (i = 0; i < ready; i++)
		events[i] = ring->events[(tail + i) & (MPO_EVENT_RING - 1)];
	atomic_store_explicit(&ring->tail, tail + ready, memory_order_release);
	return ready;
}

bool mpo_report_allowed(struct mpo_report_limit *limit, __u64 now)
{
	if (limit->full_at < now)
		limit->full_at = now;
	if (limit->full_at - now > (__u64)(MPO_REPORT_BURST - 1) * MPO_REPORT_INTERVAL_NS)
		return false;
	limit->full_at += MPO_REPORT_INTERVAL_NS;
	return true;
}
