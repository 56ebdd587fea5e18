/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * When may something be freed that workers read without a lock? When every worker that could have seen it has since
 * let go of everything ("grace period").
 *
 * A worker is a reader between mpo_reader_enter() and mpo_reader_leave(): while it handles what one epoll_wait
 * returned, not while it waits. Whoever takes something out of use first makes it unreachable, then hands it to
 * mpo_grace_retire(). mpo_grace_reap() releases what nobody can hold any more; it is called after each retirement and
 * by every worker that leaves while something is pending, so an idle relay releases at once and a busy one after the
 * round of packets in hand.
 *
 * Why it holds: a reader stores its epoch before it loads any pointer, the retirer replaces the pointer before it
 * reads the epochs, all sequentially consistent; so either the retirer sees the reader and waits, or the reader sees
 * the replacement. Likewise a leaving reader stores 0 before it looks at .pending and a retirer sets .pending before
 * it reads the epochs: the last one of the two reaps.
 */
#ifndef MPO_GRACE_H
#define MPO_GRACE_H

#include <pthread.h>
#include <stdatomic.h>

#include "mpo_abi.h"

struct mpo_reader {
	_Alignas(64) _Atomic __u64 epoch;	/* 0: holds nothing */
};

/* To be embedded in what is to be retired. */
struct mpo_retired {
	struct mpo_retired *next;
	__u64 epoch;
	void (*release)(struct mpo_retired *retired);
};

struct mpo_grace {
	_Atomic __u64 epoch;
	_Atomic __u32 pending;
	pthread_mutex_t lock;		/* of .first and .last */
	struct mpo_retired *first;	/* oldest epoch first */
	struct mpo_retired **last;
	struct mpo_reader **readers;
	__u32 reader_count;
};

/* @readers is borrowed until mpo_grace_end(). */
void mpo_grace_begin(struct mpo_grace *grace, struct mpo_reader **readers, __u32 reader_count);
/* No reader may be left. Releases what is pending. */
void mpo_grace_end(struct mpo_grace *grace);

/* @retired, no longer reachable, becomes @grace's until @release is called with it, in any thread. */
void mpo_grace_retire(struct mpo_grace *grace, struct mpo_retired *retired, void (*release)(struct mpo_retired *));
void mpo_grace_reap(struct mpo_grace *grace);

static inline void mpo_reader_enter(struct mpo_grace *grace, struct mpo_reader *reader)
{
	atomic_store(&reader->epoch, atomic_load(&grace->epoch));
}

static inline void mpo_reader_leave(struct mpo_grace *grace, struct mpo_reader *reader)
{
	atomic_store(&reader->epoch, 0);
	if (atomic_load(&grace->pending) != 0)
		mpo_grace_reap(grace);
}

#endif
