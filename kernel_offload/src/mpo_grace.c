/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stddef.h>

#include "mpo_grace.h"

void mpo_grace_begin(struct mpo_grace *grace, struct mpo_reader **readers, __u32 reader_count)
{
	atomic_init(&grace->epoch, 1);
	atomic_init(&grace->pending, 0);
	pthread_mutex_init(&grace->lock, NULL);
	grace->first = NULL;
	grace->last = &grace->first;
	grace->readers = readers;
	grace->reader_count = reader_count;
}

void mpo_grace_end(struct mpo_grace *grace)
{
	mpo_grace_reap(grace);
	pthread_mutex_destroy(&grace->lock);
}

void mpo_grace_retire(struct mpo_grace *grace, struct mpo_retired *retired, void (*release)(struct mpo_retired *))
{
	retired->next = NULL;
	retired->release = release;
	pthread_mutex_lock(&grace->lock);
	/* Who enters from now on can't find it: it may go when all are at this epoch or outside. */
	retired->epoch = atomic_fetch_add(&grace->epoch, 1) + 1;
	*grace->last = retired;
	grace->last = &retired->next;
	atomic_store(&grace->pending, 1);
	pthread_mutex_unlock(&grace->lock);
}

static __u64 oldest_reader(struct mpo_grace *grace)
{
	__u64 oldest = ~0ull, epoch;
	__u32 i;

	for (i = 0; i < grace->reader_count; i++) {
		epoch = atomic_load(&grace->readers[i]->epoch);
		if (epoch != 0 && epoch < oldest)
			oldest = epoch;
	}
	return oldest;
}

void mpo_grace_reap(struct mpo_grace *grace)
{
	struct mpo_retired *ready, *retired;
	struct mpo_retired **end;
	__u64 oldest;

	pthread_mutex_lock(&grace->lock);
	oldest = oldest_reader(grace);
	ready = grace->first;
	end = &grace->first;
	while (*end && (*end)->epoch <= oldest)
		end = &(*end)->next;
	if (end == &grace->first) {
		ready = NULL;
	} else {
		grace->first = *end;
		*end = NULL;
		if (!grace->first) {
			grace->last = &grace->first;
			atomic_store(&grace->pending, 0);
		}
	}
	pthread_mutex_unlock(&grace->lock);
	while (ready) {
		retired = ready;
		ready = retired->next;
		retired->release(retired);
	}
}
