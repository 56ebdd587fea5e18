/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The packet path. Per ready socket: one receive, one pass that judges and counts each datagram, one send per sink.
 *
 * Sockets are level-triggered: epoll's second look costs less than a receive that finds nothing, and a socket that is
 * never empty goes to the end of epoll's own list, behind the others that are ready. A socket is read one datagram at a
 * time (mpo_batch.h says why) unless more than one is to be expected: see expects_many().
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "mpo_batch.h"
#include "mpo_classify.h"
#include "mpo_clock.h"
#include "mpo_rtp_handover.h"
#include "mpo_shared.h"
#include "mpo_worker.h"

#define EVENTS 128
/* How many batches settle() reads before it takes a socket for empty. */
#define ROUNDS 4u
/* Sooner than any audio stream sends its next packet. */
#define BURST_NS 5000000u
/* One read in so many asks for several datagrams to see whether the queues are deep. */
#define PROBE 16u
/* Of how many such reads .depth_q4 is the average, and from where on the queues are deep, in sixteenths of a datagram. */
#define DEPTH_READS 8
#define DEPTH_MANY_Q4 24
/*
 * How long after connect() the source of each packet is still asked for: a packet of somebody else may have been on its
 * way into the queue. Afterwards only the peer's get there.
 */
#define CONNECT_REST_NS 1000000000u

/* epoll_event.data: the handle, with this bit set for the socket of strangers (slots are below 2^31). */
#define STRANGERS 0x80000000u
#define STOP (~0ull)

/* What becomes of a datagram. */
#define ROUTE_NONE 0
#define ROUTE_RTP 1	/* to rtp_sinks */
#define ROUTE_RTCP 2	/* to rtcp_sinks */
#define ROUTES 3

/* Returns whether it got into the ring; if not, the source stays news and its next packet tries again. */
static bool report(struct mpo_worker *worker, struct mpo_transport *transport, __u8 kind, unsigned int i, __u64 now)
{
	const struct mpo_batch *batch = worker->batch;
	struct mpo_event event = { .handle = transport->handle, .kind = kind, .packet_class = batch->class[i] };

	if (!mpo_report_allowed(&transport->report_limit, now)) {
		mpo_add(&transport->stats->suppressed, 1);
		mpo_add(&worker->counters.reports_suppressed, 1);
		return false;
	}
	mpo_endpoint_from_address(&batch->source[i], &event.source);
	if (batch->class[i] == MPO_CLASS_RTP)
		event.ssrc = mpo_load32(mpo_batch_bytes(batch, i) + 8);
	else if (batch->class[i] == MPO_CLASS_RTCP)
		event.ssrc = mpo_load32(mpo_batch_bytes(batch, i) + 4);
	if (!mpo_event_push(&worker->ring, &event)) {
		mpo_add(&transport->stats->suppressed, 1);
		mpo_add(&worker->counters.ring_overflows, 1);
		return false;
	}
	mpo_add(&transport->stats->reports, 1);
	mpo_add(&worker->counters.reports, 1);
	worker->reported = true;
	return true;
}

/*
 * A source is news when it is neither the one that the core expects nor the one reported last, or when that one now
 * sends something of a class with a lower number: media after mere STUN may be what the core waits for.
 */
static void maybe_report_seen(struct mpo_worker *worker, struct mpo_transport *transport, const struct mpo_rule *rule,
			      unsigned int i, __u64 now)
{
	const struct mpo_batch *batch = worker->batch;

	if (mpo_address_equal(&rule->expected, &batch->source[i]))
		return;
	if (transport->reported_any && mpo_address_equal(&transport->reported, &batch->source[i]) &&
	    batch->class[i] >= transport->reported_class)
		return;
	if (batch->class[i] == MPO_CLASS_OTHER && !rule->opaque)
		return;
	if (!report(worker, transport, MPO_EVENT_SEEN, i, now))
		return;
	transport->reported = batch->source[i];
	transport->reported_class = batch->class[i];
	transport->reported_any = true;
}

/* Each refused source once, as long as another one is not refused in between: the core may know better. */
static void maybe_report_refused(struct mpo_worker *worker, struct mpo_transport *transport, unsigned int i, __u64 now)
{
	const struct mpo_batch *batch = worker->batch;

	if (transport->reported_any && mpo_address_equal(&transport->reported, &batch->source[i]))
		return;
	if (!report(worker, transport, MPO_EVENT_REFUSED, i, now))
		return;
	transport->reported = batch->source[i];
	transport->reported_class = batch->class[i];
	transport->reported_any = true;
}

static __u8 classify(const struct mpo_rule *rule, const __u8 *bytes, __u32 length)
{
	if (rule->opaque)
		return MPO_CLASS_OTHER;
	if (rule->rtcp_sink_count == 0)
		return mpo_classify_unmuxed(bytes, length);
	return mpo_classify(bytes, length);
}

/* Whether a datagram may pass, and if not why (*reason). The source is reported by the way. */
static bool accept_source(struct mpo_worker *worker, struct mpo_transport *transport, const struct mpo_rule *rule,
			  unsigned int i, __u64 now, __u8 *reason)
{
	switch (rule->policy) {
	case MPO_POLICY_OPEN:
		maybe_report_seen(worker, transport, rule, i, now);
		return true;
	case MPO_POLICY_LOCKED:
		if (mpo_address_equal(&worker->batch->source[i], &rule->expected))
			return true;
		maybe_report_refused(worker, transport, i, now);
		*reason = MPO_DROP_WRONG_SOURCE;
		return false;
	case MPO_POLICY_TRUSTING:
		return true;
	default:
		*reason = MPO_DROP_CLOSED;
		return false;
	}
}

static void count_accepted(struct mpo_transport *transport, const struct mpo_rule *rule, const __u8 *bytes,
			   __u32 length, __u8 class, __u64 now)
{
	struct mpo_transport_stats *stats = transport->stats;
	struct mpo_stream_stats *stream = class == MPO_CLASS_RTCP ? &stats->rtcp : &stats->rtp;

	mpo_add(&stream->packets, 1);
	mpo_add(&stream->bytes, length);
	mpo_put(&stream->last_seen_ns, now);
	if (rule->opaque) {
		mpo_put(&stats->last_seen_ns, now);
	} else if (class == MPO_CLASS_RTP) {
		mpo_put(&stats->last_seen_ns, now);
		mpo_rtp_count(&transport->rtp, stream->ssrcs, &rule->clock_rates, bytes, length, now);
	} else if (class == MPO_CLASS_RTCP) {
		mpo_put(&stats->last_seen_ns, now);
		mpo_rtcp_count(stream->ssrcs, bytes, length, now);
	}
}

static void count_drops(struct mpo_transport_stats *stats, __u8 reason, __u64 rtp, __u64 rtcp)
{
	mpo_add(&stats->drops[reason], rtp + rtcp);
	mpo_add(&stats->rtp.errors, rtp);
	mpo_add(&stats->rtcp.errors, rtcp);
}

/* Go on where another path has come to. */
static void resume_rtp(struct mpo_transport *transport)
{
	const struct mpo_rtp_state *state = mpo_rtp_mailbox_open(&transport->resume);

	if (!state)
		return;
	mpo_rtp_table_seed(transport->stats->rtp.ssrcs, transport->rtp.sources, MPO_SSRCS_MAX, state);
	mpo_rtp_mailbox_done(&transport->resume);
}

/* The first pass. Fills .class and .route; counts how many go which way, and tells whether RTP was among them. */
static bool judge(struct mpo_worker *worker, struct mpo_transport *transport, const struct mpo_rule *rule,
		  unsigned int routed[ROUTES])
{
	struct mpo_batch *batch = worker->batch;
	struct mpo_transport_stats *stats = transport->stats;
	bool media = false, rtcp;
	__u64 now = mpo_now();
	const __u8 *bytes;
	unsigned int i;
	__u8 reason = 0;

	worker->now = now;
	transport->received_at = now;
	mpo_record_begin(&stats->version);
	if (mpo_rtp_mailbox_waits(&transport->resume))
		resume_rtp(transport);
	if (rule->clock_rates.serial != transport->rule_serial) {
		transport->rule_serial = rule->clock_rates.serial;
		transport->reported_any = false;
	}
	/* A nanosecond more for each: of two SSRCs in one batch the later one is the one heard last. */
	for (i = 0; i < batch->count; i++, now++) {
		bytes = mpo_batch_bytes(batch, i);
		batch->route[i] = ROUTE_NONE;
		batch->class[i] = classify(rule, bytes, batch->length[i]);
		rtcp = batch->class[i] == MPO_CLASS_RTCP;
		if (!accept_source(worker, transport, rule, i, now, &reason)) {
			count_drops(stats, reason, !rtcp, rtcp);
			routed[ROUTE_NONE]++;
			continue;
		}
		count_accepted(transport, rule, bytes, batch->length[i], batch->class[i], now);
		if (batch->class[i] == MPO_CLASS_RTP)
			media = true;
		if (batch->length[i] > MPO_BUFFER)
			count_drops(stats, MPO_DROP_TRUNCATED, !rtcp, rtcp);
		else if (rule->drop)
			count_drops(stats, MPO_DROP_BLOCKED, !rtcp, rtcp);
		else if ((rtcp ? rule->rtcp_sink_count : rule->rtp_sink_count) == 0)
			count_drops(stats, MPO_DROP_NO_SINK, !rtcp, rtcp);
		else
			batch->route[i] = rtcp && !rule->one_route ? ROUTE_RTCP : ROUTE_RTP;
		routed[batch->route[i]]++;
	}
	mpo_record_end(&stats->version);
	return media;
}

static void count_out(struct mpo_stream_stats *stream, __u64 packets, __u64 bytes)
{
	if (packets == 0)
		return;
	/* By any worker that has this sink. */
	__atomic_fetch_add(&stream->packets_out, packets, __ATOMIC_RELAXED);
	__atomic_fetch_add(&stream->bytes_out, bytes, __ATOMIC_RELAXED);
}

/* Send .out to one sink. Returns the bits of what was not sent, and why. */
static __u32 send_to_sink(struct mpo_worker *worker, __u64 handle, __u32 rtcp, __u8 *reason)
{
	struct mpo_batch *batch = worker->batch;
	struct mpo_transport *sink = mpo_table_find(worker->table, handle);
	__u64 packets[2] = { 0, 0 }, bytes[2] = { 0, 0 };
	const struct mpo_rule *rule;
	unsigned int i, stream;
	bool connected;
	__u32 failed;

	*reason = MPO_DROP_NO_SINK;
	if (!sink)
		return ~0u;
	rule = atomic_load(&sink->rule);
	*reason = MPO_DROP_NO_DESTINATION;
	if (!rule->has_remote)
		return ~0u;
	/*
	 * Only its own worker knows what a socket is connected to at this moment. An address given is right in any
	 * state; it costs a route look-up.
	 */
	connected = sink->worker == worker && sink->connected && mpo_address_equal(&sink->peer, &rule->remote);
	mpo_add(&worker->counters.send_calls,
		mpo_batch_send(batch, sink->fd, connected ? NULL : &rule->remote, &failed));
	for (i = 0; i < batch->out_count; i++) {
		if (failed & 1u << i)
			continue;
		stream = rtcp >> i & 1;
		packets[stream]++;
		bytes[stream] += batch->out_piece[i].iov_len;
	}
	count_out(&sink->stats->rtp, packets[0], bytes[0]);
	count_out(&sink->stats->rtcp, packets[1], bytes[1]);
	mpo_add(&worker->counters.packets_out, packets[0] + packets[1]);
	*reason = MPO_DROP_SEND_FAILED;
	return failed;
}

static void send_route(struct mpo_worker *worker, struct mpo_transport *transport, __u8 route, const __u64 *sinks,
		       unsigned int sink_count)
{
	struct mpo_batch *batch = worker->batch;
	unsigned int i, of_rtcp;
	__u32 all, rtcp, failed, nowhere;
	__u64 packets = 0, bytes = 0;
	__u8 reason;

	rtcp = mpo_batch_collect(batch, route);
	all = (__u32)((1ull << batch->out_count) - 1);
	nowhere = all;
	for (i = 0; i < sink_count; i++) {
		failed = send_to_sink(worker, sinks[i], rtcp, &reason) & all;
		nowhere &= failed;
		if (!failed)
			continue;
		of_rtcp = (unsigned int)__builtin_popcount(failed & rtcp);
		mpo_record_begin(&transport->stats->version);
		count_drops(transport->stats, reason, (unsigned int)__builtin_popcount(failed) - of_rtcp, of_rtcp);
		mpo_record_end(&transport->stats->version);
	}
	for (i = 0; i < batch->out_count; i++) {
		if (nowhere & 1u << i)
			continue;
		packets++;
		bytes += batch->out_piece[i].iov_len;
	}
	mpo_add(&worker->counters.packets, packets);
	mpo_add(&worker->counters.bytes, bytes);
	mpo_add(&worker->counters.errors, batch->out_count - packets);
}

/* Judge, count and send what was received. Returns whether the socket should be connected and is not. */
static bool forward(struct mpo_worker *worker, struct mpo_transport *transport)
{
	const struct mpo_rule *rule = atomic_load(&transport->rule);
	unsigned int routed[ROUTES] = { 0, 0, 0 };
	bool media;

	media = judge(worker, transport, rule, routed);
	mpo_add(&worker->counters.errors, routed[ROUTE_NONE]);
	if (routed[ROUTE_RTP])
		send_route(worker, transport, ROUTE_RTP, rule->rtp_sinks, rule->rtp_sink_count);
	if (routed[ROUTE_RTCP])
		send_route(worker, transport, ROUTE_RTCP, rule->rtcp_sinks, rule->rtcp_sink_count);
	/* Transports without RTP (the RTCP of a pair) stay as they are: it would cost a descriptor for a packet in 5 s. */
	return media && rule->connectable && transport->connect_failed != rule->clock_rates.serial &&
	       !(transport->connected && mpo_address_equal(&transport->peer, &rule->expected));
}

static void receive_many(struct mpo_worker *worker, int fd)
{
	mpo_add(&worker->counters.receive_calls, mpo_batch_receive_many(worker->batch, fd));
}

static void receive_one(struct mpo_worker *worker, int fd, const union mpo_address *peer)
{
	mpo_add(&worker->counters.receive_calls, mpo_batch_receive_one(worker->batch, fd, peer));
}

/* Forward what is queued, unless there is no end to it. */
static void empty(struct mpo_worker *worker, struct mpo_transport *transport, int fd)
{
	unsigned int round;

	for (round = 0; round < ROUNDS; round++) {
		receive_many(worker, fd);
		if (worker->batch->count > 0)
			forward(worker, transport);
		if (worker->batch->count < MPO_BATCH)
			return;
	}
}

/*
 * Connect a socket whose peer is settled: the kernel then has the route and the receiving socket at hand.
 *
 * No packet is lost or overtakes another of its source. Sources may come over to the second socket as soon as that is
 * bound, and the peer comes (back) to fd when that is connected. So: empty fd, connect it, empty the second socket, and
 * only then go on with fd.
 */
static void settle(struct mpo_worker *worker, struct mpo_transport *transport)
{
	const struct mpo_rule *rule = atomic_load(&transport->rule);
	bool first = transport->strangers_fd < 0;
	int err = 0;

	if (!rule->connectable)
		return;
	if (first)
		err = mpo_transport_open_strangers(transport, transport->handle | STRANGERS);
	if (err)
		goto out_failed;
	empty(worker, transport, transport->fd);
	err = mpo_transport_connect(transport, &rule->expected);
	transport->connected_at = worker->now = mpo_now();
	empty(worker, transport, transport->strangers_fd);
	if (first)
		mpo_transport_seal(transport);
	if (!err)
		return;
	if (first)
		mpo_transport_close_strangers(transport);
out_failed:
	transport->connect_failed = rule->clock_rates.serial;
}

/*
 * Whether to ask for several datagrams: the socket had several the last time, or is ready again very soon (a video frame
 * is a burst), or the worker is so late that queues have grown.
 */
static bool expects_many(struct mpo_worker *worker, const struct mpo_transport *transport)
{
	return transport->burst || worker->depth_q4 >= DEPTH_MANY_Q4 || ++worker->reads % PROBE == 0 ||
	       worker->now - transport->received_at < BURST_NS;
}

static void learn_depth(struct mpo_worker *worker, struct mpo_transport *transport)
{
	transport->burst = worker->batch->count > 1;
	worker->depth_q4 += ((int)worker->batch->count * 16 - worker->depth_q4) / DEPTH_READS;
}

static void serve(struct mpo_worker *worker, __u64 data)
{
	struct mpo_transport *transport = mpo_table_find(worker->table, data & ~(__u64)STRANGERS);
	bool strangers = data & STRANGERS;
	const union mpo_address *peer = NULL;
	int fd;

	if (!transport)
		return;	/* closed since epoll_wait saw it */
	fd = strangers ? transport->strangers_fd : transport->fd;
	if (fd < 0)
		return;
	if (expects_many(worker, transport)) {
		receive_many(worker, fd);
		learn_depth(worker, transport);
	} else {
		if (transport->connected && !strangers && worker->now - transport->connected_at > CONNECT_REST_NS)
			peer = &transport->peer;
		receive_one(worker, fd, peer);
	}
	if (worker->batch->count > 0 && forward(worker, transport))
		settle(worker, transport);
}

static void *run(void *argument)
{
	struct mpo_worker *worker = argument;
	struct epoll_event events[EVENTS];
	bool stop = false;
	char name[16];
	int count, i;

	snprintf(name, sizeof(name), "mpo-relay-%u", worker->index);
	pthread_setname_np(pthread_self(), name);
	worker->thread_id = (__u32)gettid();
	sem_post(&worker->started);
	while (!stop) {
		count = epoll_wait(worker->epoll_fd, events, EVENTS, -1);
		mpo_reader_enter(worker->grace, &worker->reader);
		mpo_add(&worker->counters.wakeups, 1);
		worker->now = mpo_now();
		for (i = 0; i < count; i++) {
			if (events[i].data.u64 == STOP)
				stop = true;
			else
				serve(worker, events[i].data.u64);
		}
		if (worker->reported) {
			worker->reported = false;
			mpo_event_signal_raise(worker->signal);
		}
		mpo_reader_leave(worker->grace, &worker->reader);
	}
	return NULL;
}

/* The thread inherits a mask with everything blocked: signals are the main thread's. */
static int start_thread(struct mpo_worker *worker)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&worker->thread, NULL, run, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

int mpo_worker_start(struct mpo_worker *worker)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = STOP };
	int err = -ENOMEM;

	worker->batch = mpo_batch_make();
	if (!worker->batch)
		return err;
	worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (worker->epoll_fd < 0) {
		err = -errno;
		goto err_free;
	}
	worker->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->stop_fd < 0 || epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->stop_fd, &event) < 0) {
		err = -errno;
		goto err_close;
	}
	sem_init(&worker->started, 0, 0);
	err = start_thread(worker);
	if (err < 0)
		goto err_destroy;
	while (sem_wait(&worker->started) < 0)
		;	/* a signal handler ran */
	return 0;
err_destroy:
	sem_destroy(&worker->started);
err_close:
	if (worker->stop_fd >= 0)
		close(worker->stop_fd);
	close(worker->epoll_fd);
err_free:
	mpo_batch_free(worker->batch);
	return err;
}

void mpo_worker_stop(struct mpo_worker *worker)
{
	/* Can't fail: the counter is 0. */
	(void)eventfd_write(worker->stop_fd, 1);
	pthread_join(worker->thread, NULL);
}

void mpo_worker_end(struct mpo_worker *worker)
{
	sem_destroy(&worker->started);
	close(worker->stop_fd);
	close(worker->epoll_fd);
	mpo_batch_free(worker->batch);
}
