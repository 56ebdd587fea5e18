/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A thread that receives, judges, counts and sends. Nothing is locked or allocated per packet; what was closed or
 * replaced meanwhile is given back between two rounds, under a lock.
 */
#ifndef MPO_WORKER_H
#define MPO_WORKER_H

#include <pthread.h>
#include <semaphore.h>

#include "mpo_transport.h"

struct mpo_batch;

/* What all workers look things up in. */
struct mpo_table {
	_Atomic(struct mpo_transport *) *transports;	/* by slot; NULL: closed */
	__u32 capacity;
};

/* Written by the worker, summed up by the control side. */
struct mpo_worker_counters {
	__u64 packets;
	__u64 bytes;
	__u64 errors;
	__u64 packets_out;
	__u64 wakeups;
	__u64 receive_calls;
	__u64 send_calls;
	__u64 reports;
	__u64 reports_suppressed;
	__u64 ring_overflows;
};

struct mpo_worker {
	struct mpo_reader reader;
	struct mpo_worker_counters counters;
	struct mpo_event_ring ring;

	__u32 index;
	__u32 thread_id;	/* gettid; set before mpo_worker_start() returns */
	struct mpo_table *table;
	struct mpo_grace *grace;
	struct mpo_event_signal *signal;
	int epoll_fd;
	int stop_fd;		/* an eventfd */
	__u64 now;		/* about: when the last packets or the last wake-up came */
	__u32 reads;		/* of single datagrams */
	int depth_q4;		/* datagrams found by a read of several, in sixteenths, on average */
	bool reported;		/* something was pushed in this round: raise the signal */
	struct mpo_batch *batch;
	pthread_t thread;
	sem_t started;
};

/*
 * Start the thread of a zeroed worker; .index, .table, .grace and .signal are set and borrowed until
 * mpo_worker_end(). 0 or -errno: nothing is left then.
 */
int mpo_worker_start(struct mpo_worker *worker);
/* End the thread. Sockets that are still registered with .epoll_fd may be closed until mpo_worker_end(). */
void mpo_worker_stop(struct mpo_worker *worker);
void mpo_worker_end(struct mpo_worker *worker);

static inline struct mpo_transport *mpo_table_find(const struct mpo_table *table, __u64 handle)
{
	__u32 slot = MPO_HANDLE_SLOT(handle);
	struct mpo_transport *transport;

	if (slot >= table->capacity)
		return NULL;
	transport = atomic_load(&table->transports[slot]);
	return transport && transport->handle == handle ? transport : NULL;
}

#endif
