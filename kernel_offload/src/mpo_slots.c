/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>

#include "mpo_slots.h"

int mpo_slots_begin(struct mpo_slots *slots, __u32 capacity)
{
	slots->capacity = capacity;
	slots->unused = 0;
	slots->first = 0;
	slots->count = 0;
	slots->ring = calloc(capacity, sizeof(*slots->ring));
	slots->given_at = calloc(capacity, sizeof(*slots->given_at));
	slots->generations = calloc(capacity, sizeof(*slots->generations));
	if (!slots->ring || !slots->given_at || !slots->generations)
		goto err_free;
	pthread_mutex_init(&slots->lock, NULL);
	return 0;
err_free:
	free(slots->ring);
	free(slots->given_at);
	free(slots->generations);
	return -ENOMEM;
}

void mpo_slots_end(struct mpo_slots *slots)
{
	pthread_mutex_destroy(&slots->lock);
	free(slots->ring);
	free(slots->given_at);
	free(slots->generations);
}

int mpo_slot_take(struct mpo_slots *slots, __u64 now, __u64 *handle)
{
	__u32 slot = slots->capacity;
	__u64 given_at;

	pthread_mutex_lock(&slots->lock);
	given_at = slots->count > 0 ? slots->given_at[slots->ring[slots->first]] : ~0ull;
	/* A rested one before a new one: memory in use follows the calls at one time, not the calls ever made. */
	if (given_at <= now && now - given_at >= MPO_SLOT_REST_NS) {
		slot = slots->ring[slots->first];
		slots->first = (slots->first + 1) % slots->capacity;
		slots->count--;
	} else if (slots->unused < slots->capacity) {
		slot = slots->unused++;
	}
	if (slot < slots->capacity) {
		if (++slots->generations[slot] == 0)
			slots->generations[slot] = 1;
		*handle = MPO_HANDLE(slot, slots->generations[slot]);
	}
	pthread_mutex_unlock(&slots->lock);
	return slot < slots->capacity ? 0 : -ENOSPC;
}

void mpo_slot_give(struct mpo_slots *slots, __u64 handle, __u64 now)
{
	__u32 slot = MPO_HANDLE_SLOT(handle);

	pthread_mutex_lock(&slots->lock);
	slots->given_at[slot] = now;
	slots->ring[(slots->first + slots->count) % slots->capacity] = slot;
	slots->count++;
	pthread_mutex_unlock(&slots->lock);
}
