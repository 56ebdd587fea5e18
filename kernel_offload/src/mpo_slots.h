/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which slots are free. A slot that was given back rests for a second, so that its last statistics can be read. */
#ifndef MPO_SLOTS_H
#define MPO_SLOTS_H

#include <pthread.h>

#include "mpo_abi.h"

#define MPO_SLOT_REST_NS 1000000000u

struct mpo_slots {
	pthread_mutex_t lock;
	__u32 capacity;
	__u32 unused;		/* slots from here on were never taken: their memory was never touched */
	__u32 first, count;	/* of the ring of those given back, oldest first */
	__u32 *ring;
	__u64 *given_at;	/* by slot */
	__u32 *generations;	/* by slot, of the last handle; never 0 afterwards */
};

/* 0 or -ENOMEM. What it allocates is freed by mpo_slots_end(). */
int mpo_slots_begin(struct mpo_slots *slots, __u32 capacity);
void mpo_slots_end(struct mpo_slots *slots);

/* 0 with a handle that was never valid before, or -ENOSPC. @now: nanoseconds. */
int mpo_slot_take(struct mpo_slots *slots, __u64 now, __u64 *handle);
void mpo_slot_give(struct mpo_slots *slots, __u64 handle, __u64 now);

#endif
