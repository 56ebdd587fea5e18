/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The control side of the relay: what mpo.h declares. One mutex keeps its callers apart; no worker ever takes it. */
#include <errno.h>
#include <stdlib.h>

#include <sys/mman.h>
#include <sys/resource.h>

#include "mpo.h"
#include "mpo_clock.h"
#include "mpo_shared.h"
#include "mpo_worker.h"

#define WORKERS_MAX 64u
#define CAPACITY_MAX (1u << 22)

/* Second sockets (mpo_transport_open_strangers) only while this much of the limit is free for new calls. */
#define DESCRIPTORS_KEPT_FREE(limit) ((limit) / 4)

struct mpo_relay {
	pthread_mutex_t control;
	pthread_mutex_t taking;		/* the consumer's side of the rings */
	struct mpo_table table;
	struct mpo_slots slots;
	struct mpo_grace grace;
	struct mpo_event_signal signal;
	struct mpo_descriptors descriptors;
	struct mpo_transport_stats *stats;
	size_t stats_length;
	struct mpo_worker *workers;
	struct mpo_reader **readers;
	__u32 worker_count;
	__u32 next_serial;
	_Atomic __u32 open;
};

static __u32 descriptor_budget(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > 1u << 30)
		return 1u << 30;
	return (__u32)(limit.rlim_cur - DESCRIPTORS_KEPT_FREE(limit.rlim_cur));
}

static int start_workers(struct mpo_relay *relay, __u32 count)
{
	struct mpo_worker *worker;
	int err;

	for (; relay->worker_count < count; relay->worker_count++) {
		worker = &relay->workers[relay->worker_count];
		worker->index = relay->worker_count;
		worker->table = &relay->table;
		worker->grace = &relay->grace;
		worker->signal = &relay->signal;
		err = mpo_worker_start(worker);
		if (err < 0)
			goto err_stop;
	}
	return 0;
err_stop:
	while (relay->worker_count > 0) {
		worker = &relay->workers[--relay->worker_count];
		mpo_worker_stop(worker);
		mpo_worker_end(worker);
	}
	return err;
}

int mpo_relay_create(__u32 workers, __u32 capacity, struct mpo_relay **out)
{
	struct mpo_relay *relay;
	int err = -ENOMEM;
	__u32 i;

	if (workers < 1 || workers > WORKERS_MAX || capacity < 2 || capacity > CAPACITY_MAX)
		return -EINVAL;
	relay = calloc(1, sizeof(*relay));
	if (!relay)
		return err;
	relay->table.capacity = capacity;
	relay->table.transports = calloc(capacity, sizeof(*relay->table.transports));
	relay->readers = calloc(workers, sizeof(*relay->readers));
	relay->workers = aligned_alloc(_Alignof(struct mpo_worker), workers * sizeof(*relay->workers));
	if (!relay->table.transports || !relay->readers || !relay->workers)
		goto err_free;
	memset(relay->workers, 0, workers * sizeof(*relay->workers));
	for (i = 0; i < workers; i++)
		relay->readers[i] = &relay->workers[i].reader;
	relay->stats_length = capacity * sizeof(*relay->stats);
	relay->stats = mmap(NULL, relay->stats_length, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (relay->stats == MAP_FAILED)
		goto err_free;
	err = mpo_slots_begin(&relay->slots, capacity);
	if (err < 0)
		goto err_unmap;
	err = mpo_event_signal_open(&relay->signal);
	if (err < 0)
		goto err_slots;
	relay->descriptors.budget = descriptor_budget();
	relay->next_serial = 1;
	pthread_mutex_init(&relay->control, NULL);
	pthread_mutex_init(&relay->taking, NULL);
	mpo_grace_begin(&relay->grace, relay->readers, workers);
	err = start_workers(relay, workers);
	if (err < 0)
		goto err_signal;
	*out = relay;
	return 0;
err_signal:
	mpo_grace_end(&relay->grace);
	pthread_mutex_destroy(&relay->taking);
	pthread_mutex_destroy(&relay->control);
	mpo_event_signal_close(&relay->signal);
err_slots:
	mpo_slots_end(&relay->slots);
err_unmap:
	munmap(relay->stats, relay->stats_length);
err_free:
	free(relay->workers);
	free(relay->readers);
	free(relay->table.transports);
	free(relay);
	return err;
}

void mpo_relay_destroy(struct mpo_relay *relay)
{
	__u32 i;

	if (!relay)
		return;
	for (i = 0; i < relay->worker_count; i++)
		mpo_worker_stop(&relay->workers[i]);
	mpo_relay_close_all(relay);
	mpo_grace_end(&relay->grace);
	for (i = 0; i < relay->worker_count; i++)
		mpo_worker_end(&relay->workers[i]);
	pthread_mutex_destroy(&relay->taking);
	pthread_mutex_destroy(&relay->control);
	mpo_event_signal_close(&relay->signal);
	mpo_slots_end(&relay->slots);
	munmap(relay->stats, relay->stats_length);
	free(relay->workers);
	free(relay->readers);
	free(relay->table.transports);
	free(relay);
}

static int open_one(struct mpo_relay *relay, const union mpo_address *local, struct mpo_worker *worker,
		    struct mpo_transport **out)
{
	__u64 handle;
	int err;

	err = mpo_slot_take(&relay->slots, mpo_now(), &handle);
	if (err < 0)
		return err;
	err = mpo_transport_open(local, handle, worker, worker->epoll_fd, &relay->stats[MPO_HANDLE_SLOT(handle)],
				 &relay->slots, &relay->descriptors, out);
	if (err < 0)
		mpo_slot_give(&relay->slots, handle, 0);	/* never seen by anybody: it need not rest */
	return err;
}

static void publish(struct mpo_relay *relay, struct mpo_transport *transport)
{
	atomic_store(&relay->table.transports[MPO_HANDLE_SLOT(transport->handle)], transport);
	atomic_fetch_add(&relay->open, 1);
}

static void withdraw(struct mpo_relay *relay, struct mpo_transport *transport)
{
	atomic_store(&relay->table.transports[MPO_HANDLE_SLOT(transport->handle)], NULL);
	atomic_fetch_sub(&relay->open, 1);
	mpo_grace_retire(&relay->grace, &transport->retired, mpo_transport_release);
}

int mpo_relay_open_pair(struct mpo_relay *relay, const struct mpo_endpoint *local, __u32 group, __u64 handles[2])
{
	struct mpo_worker *worker = &relay->workers[group % relay->worker_count];
	struct mpo_endpoint local_rtcp = *local;
	struct mpo_transport *rtp, *rtcp;
	union mpo_address address;
	int err;

	if (local->port == 0 || local->port & 1)
		return -EINVAL;
	local_rtcp.port++;
	pthread_mutex_lock(&relay->control);
	mpo_address_from_endpoint(local, &address);
	err = open_one(relay, &address, worker, &rtp);
	if (err < 0)
		goto out_unlock;
	mpo_address_from_endpoint(&local_rtcp, &address);
	err = open_one(relay, &address, worker, &rtcp);
	if (err < 0)
		goto out_release;
	publish(relay, rtp);
	publish(relay, rtcp);
	err = mpo_transport_watch(rtp);
	if (!err)
		err = mpo_transport_watch(rtcp);
	if (err < 0)
		goto out_withdraw;
	handles[0] = rtp->handle;
	handles[1] = rtcp->handle;
	goto out_unlock;
out_withdraw:
	withdraw(relay, rtp);
	withdraw(relay, rtcp);
	goto out_unlock;
out_release:
	mpo_transport_release(&rtp->retired);
out_unlock:
	pthread_mutex_unlock(&relay->control);
	mpo_grace_reap(&relay->grace);
	return err;
}

int mpo_relay_close(struct mpo_relay *relay, const __u64 *handles, __u32 count)
{
	struct mpo_transport *transport;
	int closed = 0;
	__u32 i;

	pthread_mutex_lock(&relay->control);
	for (i = 0; i < count; i++) {
		transport = mpo_table_find(&relay->table, handles[i]);
		if (!transport)
			continue;
		withdraw(relay, transport);
		closed++;
	}
	pthread_mutex_unlock(&relay->control);
	mpo_grace_reap(&relay->grace);
	return closed;
}

int mpo_relay_close_all(struct mpo_relay *relay)
{
	struct mpo_transport *transport;
	int closed = 0;
	__u32 slot;

	pthread_mutex_lock(&relay->control);
	for (slot = 0; slot < relay->table.capacity; slot++) {
		transport = atomic_load(&relay->table.transports[slot]);
		if (!transport)
			continue;
		withdraw(relay, transport);
		closed++;
	}
	pthread_mutex_unlock(&relay->control);
	mpo_grace_reap(&relay->grace);
	return closed;
}

static __u32 take_serial(struct mpo_relay *relay)
{
	__u32 serial = relay->next_serial++;

	if (relay->next_serial == 0)
		relay->next_serial = 1;
	return serial;
}

/* As all or none must be in force, the rules are made first; they are chained by what later retires them. */
static int make_rules(struct mpo_relay *relay, const struct mpo_transport_config *configs, __u32 count,
		      struct mpo_retired **out)
{
	struct mpo_retired *first = NULL, **last = &first, *next;
	struct mpo_transport *transport;
	struct mpo_rule *rule;
	__u32 i;

	for (i = 0; i < count; i++) {
		transport = mpo_table_find(&relay->table, configs[i].handle);
		if (!transport)
			continue;
		rule = mpo_rule_make(transport, &configs[i], take_serial(relay));
		if (!rule)
			goto err_free;
		rule->retired.next = NULL;
		*last = &rule->retired;
		last = &rule->retired.next;
	}
	*out = first;
	return 0;
err_free:
	for (; first; first = next) {
		next = first->next;
		mpo_rule_release(first);
	}
	return -ENOMEM;
}

int mpo_relay_configure(struct mpo_relay *relay, const struct mpo_transport_config *configs, __u32 count)
{
	struct mpo_retired *rules, *next;
	struct mpo_transport *transport;
	struct mpo_rule *before;
	int err, configured = 0;
	__u32 i;

	for (i = 0; i < count; i++) {
		err = mpo_config_check(&configs[i]);
		if (err < 0)
			return err;
	}
	pthread_mutex_lock(&relay->control);
	err = make_rules(relay, configs, count, &rules);
	if (err < 0)
		goto out_unlock;
	for (i = 0; i < count; i++) {
		transport = mpo_table_find(&relay->table, configs[i].handle);
		if (!transport)
			continue;
		next = rules->next;
		before = mpo_transport_obey(transport, (struct mpo_rule *)rules, &configs[i]);
		mpo_grace_retire(&relay->grace, &before->retired, mpo_rule_release);
		rules = next;
		configured++;
	}
out_unlock:
	pthread_mutex_unlock(&relay->control);
	mpo_grace_reap(&relay->grace);
	return err < 0 ? err : configured;
}

int mpo_relay_event_fd(const struct mpo_relay *relay)
{
	return relay->signal.fd;
}

int mpo_relay_take_events(struct mpo_relay *relay, struct mpo_event *events, __u32 capacity)
{
	__u32 i, taken = 0;

	pthread_mutex_lock(&relay->taking);
	mpo_event_signal_lower(&relay->signal);
	for (i = 0; i < relay->worker_count && taken < capacity; i++)
		taken += mpo_event_take(&relay->workers[i].ring, events + taken, capacity - taken);
	if (taken == capacity)
		mpo_event_signal_raise(&relay->signal);	/* there may be more */
	pthread_mutex_unlock(&relay->taking);
	return (int)taken;
}

const struct mpo_transport_stats *mpo_relay_stats(const struct mpo_relay *relay, __u32 *count)
{
	*count = relay->table.capacity;
	return relay->stats;
}

int mpo_relay_read_stats(const struct mpo_relay *relay, __u64 handle, struct mpo_transport_stats *out)
{
	const struct mpo_transport_stats *stats;

	if (MPO_HANDLE_SLOT(handle) >= relay->table.capacity)
		return -ESTALE;
	stats = &relay->stats[MPO_HANDLE_SLOT(handle)];
	mpo_shared_copy(out, stats, sizeof(*out), &stats->version);
	return out->handle == handle ? 0 : -ESTALE;
}

/* Under the mutex no transport is retired, so that one in the table stays. */
int mpo_relay_read_rtp(struct mpo_relay *relay, __u64 handle, struct mpo_rtp_state *out)
{
	struct mpo_transport *transport;
	int err = -ESTALE;

	pthread_mutex_lock(&relay->control);
	transport = mpo_table_find(&relay->table, handle);
	if (transport) {
		const struct mpo_shared_part parts[] = {
			{ out->ssrcs, transport->stats->rtp.ssrcs, sizeof(out->ssrcs) },
			{ out->sources, transport->rtp.sources, sizeof(out->sources) },
		};

		mpo_shared_copy_parts(parts, 2, &transport->stats->version);
		err = 0;
	}
	pthread_mutex_unlock(&relay->control);
	return err;
}

int mpo_relay_resume_rtp(struct mpo_relay *relay, __u64 handle, const struct mpo_rtp_state *state)
{
	struct mpo_transport *transport;
	int err = -ESTALE;

	pthread_mutex_lock(&relay->control);
	transport = mpo_table_find(&relay->table, handle);
	if (transport)
		err = mpo_rtp_mailbox_put(&transport->resume, state);
	pthread_mutex_unlock(&relay->control);
	return err;
}

void mpo_relay_read_totals(struct mpo_relay *relay, struct mpo_relay_totals *out)
{
	const struct mpo_worker_counters *counters;
	__u32 i;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < relay->worker_count; i++) {
		counters = &relay->workers[i].counters;
		out->packets += mpo_own(&counters->packets);
		out->bytes += mpo_own(&counters->bytes);
		out->errors += mpo_own(&counters->errors);
		out->packets_out += mpo_own(&counters->packets_out);
		out->wakeups += mpo_own(&counters->wakeups);
		out->receive_calls += mpo_own(&counters->receive_calls);
		out->send_calls += mpo_own(&counters->send_calls);
		out->reports += mpo_own(&counters->reports);
		out->reports_suppressed += mpo_own(&counters->reports_suppressed);
		out->ring_overflows += mpo_own(&counters->ring_overflows);
	}
	out->transports = atomic_load(&relay->open);
	out->descriptors = atomic_load(&relay->descriptors.held);
}

int mpo_relay_thread_ids(const struct mpo_relay *relay, __u32 *ids, __u32 capacity)
{
	__u32 i;

	for (i = 0; i < relay->worker_count && i < capacity; i++)
		ids[i] = relay->workers[i].thread_id;
	return (int)relay->worker_count;
}
