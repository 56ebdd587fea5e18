/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The packet path. Per ready socket: one recvmmsg, one pass that judges and counts each datagram, one sendmmsg per
 * sink. Sockets are edge-triggered: fewer datagrams than asked for means that the queue was empty, and what arrives
 * later makes a new edge, so there is no receive that returns EAGAIN and no second look by epoll. A socket that is
 * never empty goes back to the end of epoll's own list after MPO_ROUNDS batches.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "mpo_classify.h"
#include "mpo_clock.h"
#include "mpo_shared.h"
#include "mpo_worker.h"

#define ROUNDS 4u
#define EVENTS 128
#define RECEIVE_ERRORS_MAX 8u

/*
 * A datagram lies in two pieces: nearly all fit into HEAD bytes; what does not goes on in a piece large enough for
 * any UDP payload, whose memory is taken only when it is used. Heads are not a power of two apart, or they would
 * all meet in the same lines of the cache.
 */
#define HEAD 2048u
#define HEAD_STRIDE (HEAD + 192u)
#define TAIL (65536u - HEAD)

/* epoll_event.data: the handle, with this bit set for the socket of strangers (slots are below 2^31). */
#define STRANGERS 0x80000000u
#define STOP (~0ull)

/* What becomes of a datagram. */
#define ROUTE_NONE 0
#define ROUTE_RTP 1	/* to rtp_sinks */
#define ROUTE_RTCP 2	/* to rtcp_sinks */

struct mpo_batch {
	struct mmsghdr in[MPO_BATCH];
	struct iovec in_pieces[MPO_BATCH][2];
	union mpo_address source[MPO_BATCH];
	__u8 route[MPO_BATCH];
	__u8 class[MPO_BATCH];

	struct mmsghdr out[MPO_BATCH];
	struct iovec out_pieces[MPO_BATCH][2];
	__u8 *tails;		/* MPO_BATCH * TAIL, mapped */
	_Alignas(64) __u8 heads[MPO_BATCH][HEAD_STRIDE];
};

static struct mpo_batch *batch_make(void)
{
	struct mpo_batch *batch;
	unsigned int i;

	batch = aligned_alloc(_Alignof(struct mpo_batch), sizeof(*batch));
	if (!batch)
		return NULL;
	memset(batch, 0, sizeof(*batch));
	batch->tails = mmap(NULL, MPO_BATCH * TAIL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (batch->tails == MAP_FAILED) {
		free(batch);
		return NULL;
	}
	for (i = 0; i < MPO_BATCH; i++) {
		batch->in_pieces[i][0] = (struct iovec){ batch->heads[i], HEAD };
		batch->in_pieces[i][1] = (struct iovec){ batch->tails + i * TAIL, TAIL };
		batch->in[i].msg_hdr.msg_name = &batch->source[i];
		batch->in[i].msg_hdr.msg_namelen = sizeof(batch->source[i]);
		batch->in[i].msg_hdr.msg_iov = batch->in_pieces[i];
		batch->in[i].msg_hdr.msg_iovlen = 2;
		batch->out_pieces[i][0].iov_base = NULL;
		batch->out[i].msg_hdr.msg_iov = batch->out_pieces[i];
	}
	return batch;
}

static void batch_free(struct mpo_batch *batch)
{
	munmap(batch->tails, MPO_BATCH * TAIL);
	free(batch);
}

/* How many datagrams there were, up to MPO_BATCH. */
static unsigned int receive(struct mpo_worker *worker, int fd)
{
	unsigned int errors;
	int count;

	for (errors = 0; errors < RECEIVE_ERRORS_MAX; errors++) {
		mpo_add(&worker->counters.receive_calls, 1);
		count = recvmmsg(fd, worker->batch->in, MPO_BATCH, MSG_DONTWAIT, NULL);
		if (count >= 0)
			return (unsigned int)count;
		if (errno == EAGAIN)
			return 0;
		/* An ICMP error for something we sent (connected sockets). It is told once; data may be behind it. */
	}
	return 0;
}

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
		event.ssrc = mpo_load32(batch->heads[i] + 8);
	else if (batch->class[i] == MPO_CLASS_RTCP)
		event.ssrc = mpo_load32(batch->heads[i] + 4);
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

static void maybe_report_refused(struct mpo_worker *worker, struct mpo_transport *transport, unsigned int i, __u64 now)
{
	if (!transport->reported_any)
		transport->reported_any = report(worker, transport, MPO_EVENT_REFUSED, i, now);
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

/* The first pass. Fills .class and .route; counts how many go which way, and tells whether RTP was among them. */
static bool judge(struct mpo_worker *worker, struct mpo_transport *transport, const struct mpo_rule *rule,
		  unsigned int count, unsigned int routed[3])
{
	struct mpo_batch *batch = worker->batch;
	struct mpo_transport_stats *stats = transport->stats;
	__u64 now = mpo_now();
	bool media = false, rtcp;
	unsigned int i;
	__u32 length;
	__u8 reason = 0;

	mpo_record_begin(&stats->version);
	if (rule->clock_rates.serial != transport->rule_serial) {
		transport->rule_serial = rule->clock_rates.serial;
		transport->reported_any = false;
	}
	/* A nanosecond more for each: of two SSRCs in one batch the later one is the one heard last. */
	for (i = 0; i < count; i++, now++) {
		length = batch->in[i].msg_len;
		batch->route[i] = ROUTE_NONE;
		batch->class[i] = classify(rule, batch->heads[i], length);
		rtcp = batch->class[i] == MPO_CLASS_RTCP;
		if (!accept_source(worker, transport, rule, i, now, &reason)) {
			count_drops(stats, reason, !rtcp, rtcp);
			routed[ROUTE_NONE]++;
			continue;
		}
		count_accepted(transport, rule, batch->heads[i], length, batch->class[i], now);
		if (batch->class[i] == MPO_CLASS_RTP)
			media = true;
		if (batch->in[i].msg_hdr.msg_flags & MSG_TRUNC)
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

/*
 * Send out[0..count-1]; a bit of the result is set for each that could not be sent. Each is tried twice at most: on a
 * connected socket the first error may be an ICMP message about an earlier packet, told once.
 */
static __u32 send_all(struct mpo_worker *worker, int fd, unsigned int count)
{
	struct mmsghdr *out = worker->batch->out;
	bool retried = false;
	unsigned int i = 0;
	__u32 failed = 0;
	int sent;

	while (i < count) {
		mpo_add(&worker->counters.send_calls, 1);
		sent = sendmmsg(fd, out + i, count - i, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent > 0) {
			i += (unsigned int)sent;
			retried = false;
		} else if (errno == EAGAIN) {
			/* The socket's send buffer is full: more would only wait behind it. */
			return failed | (__u32)(~0ull << i & ((1ull << count) - 1));
		} else if (!retried) {
			retried = true;
		} else {
			failed |= 1u << i++;
			retried = false;
		}
	}
	return failed;
}

/* Collect the datagrams of a route into .out, in order. Returns how many; *rtcp has a bit for each that is RTCP. */
static unsigned int collect(struct mpo_batch *batch, unsigned int count, __u8 route, __u32 *rtcp)
{
	unsigned int i, n = 0;
	__u32 length;

	*rtcp = 0;
	for (i = 0; i < count; i++) {
		if (batch->route[i] != route)
			continue;
		length = batch->in[i].msg_len;
		batch->out_pieces[n][0].iov_base = batch->heads[i];
		batch->out_pieces[n][0].iov_len = length < HEAD ? length : HEAD;
		if (length > HEAD)
			batch->out_pieces[n][1] = (struct iovec){ batch->in_pieces[i][1].iov_base, length - HEAD };
		batch->out[n].msg_hdr.msg_iovlen = length > HEAD ? 2 : 1;
		batch->out[n].msg_len = length;
		if (batch->class[i] == MPO_CLASS_RTCP)
			*rtcp |= 1u << n;
		n++;
	}
	return n;
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
static __u32 send_to_sink(struct mpo_worker *worker, __u64 handle, unsigned int count, __u32 rtcp, __u8 *reason)
{
	struct mpo_batch *batch = worker->batch;
	struct mpo_transport *sink = mpo_table_find(worker->table, handle);
	__u64 packets[2] = { 0, 0 }, bytes[2] = { 0, 0 };
	const struct mpo_rule *rule;
	union mpo_address *name;
	unsigned int i, stream;
	socklen_t name_length;
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
	 * state; it costs a route look-up. The cast is sendmmsg's: it does not write to msg_name.
	 */
	name = (union mpo_address *)(uintptr_t)&rule->remote;
	name_length = mpo_address_length(name);
	if (sink->worker == worker && sink->connected && mpo_address_equal(&sink->peer, name)) {
		name = NULL;
		name_length = 0;
	}
	for (i = 0; i < count; i++) {
		batch->out[i].msg_hdr.msg_name = name;
		batch->out[i].msg_hdr.msg_namelen = name_length;
	}
	failed = send_all(worker, sink->fd, count);
	for (i = 0; i < count; i++) {
		if (failed & 1u << i)
			continue;
		stream = rtcp >> i & 1;
		packets[stream]++;
		/* sendmmsg has put the number of bytes sent there: all of them, for UDP. */
		bytes[stream] += batch->out[i].msg_len;
	}
	count_out(&sink->stats->rtp, packets[0], bytes[0]);
	count_out(&sink->stats->rtcp, packets[1], bytes[1]);
	mpo_add(&worker->counters.packets_out, packets[0] + packets[1]);
	*reason = MPO_DROP_SEND_FAILED;
	return failed;
}

static void send_route(struct mpo_worker *worker, struct mpo_transport *transport, unsigned int count, __u8 route,
		       const __u64 *sinks, unsigned int sink_count)
{
	struct mpo_batch *batch = worker->batch;
	unsigned int n, i, of_rtcp;
	__u32 rtcp, failed, nowhere;
	__u64 packets = 0, bytes = 0;
	__u8 reason;

	n = collect(batch, count, route, &rtcp);
	nowhere = (__u32)((1ull << n) - 1);
	for (i = 0; i < sink_count; i++) {
		failed = send_to_sink(worker, sinks[i], n, rtcp, &reason) & (__u32)((1ull << n) - 1);
		nowhere &= failed;
		if (!failed)
			continue;
		of_rtcp = (unsigned int)__builtin_popcount(failed & rtcp);
		mpo_record_begin(&transport->stats->version);
		count_drops(transport->stats, reason, (unsigned int)__builtin_popcount(failed) - of_rtcp, of_rtcp);
		mpo_record_end(&transport->stats->version);
	}
	for (i = 0; i < n; i++) {
		if (nowhere & 1u << i)
			continue;
		packets++;
		bytes += batch->out[i].msg_len;
	}
	mpo_add(&worker->counters.packets, packets);
	mpo_add(&worker->counters.bytes, bytes);
	mpo_add(&worker->counters.errors, n - packets);
}

/* Judge, count and send what receive() has brought. Returns whether the socket should be connected and is not. */
static bool forward(struct mpo_worker *worker, struct mpo_transport *transport, unsigned int count)
{
	const struct mpo_rule *rule = atomic_load(&transport->rule);
	unsigned int routed[3] = { 0, 0, 0 };
	unsigned int i;
	bool media;

	media = judge(worker, transport, rule, count, routed);
	mpo_add(&worker->counters.errors, routed[ROUTE_NONE]);
	if (routed[ROUTE_RTP])
		send_route(worker, transport, count, ROUTE_RTP, rule->rtp_sinks, rule->rtp_sink_count);
	if (routed[ROUTE_RTCP])
		send_route(worker, transport, count, ROUTE_RTCP, rule->rtcp_sinks, rule->rtcp_sink_count);
	for (i = 0; i < count; i++)
		worker->batch->in[i].msg_hdr.msg_namelen = sizeof(worker->batch->source[i]);
	/* Transports without RTP (the RTCP of a pair) stay as they are: it would cost a descriptor for a packet in 5 s. */
	return media && rule->connectable && transport->connect_failed != rule->clock_rates.serial &&
	       !(transport->connected && mpo_address_equal(&transport->peer, &rule->expected));
}

/* Forward what is queued. Returns whether the queue was seen empty. */
static bool drain(struct mpo_worker *worker, struct mpo_transport *transport, int fd, bool *connect_wanted)
{
	unsigned int round, count;

	for (round = 0; round < ROUNDS; round++) {
		count = receive(worker, fd);
		if (count > 0 && forward(worker, transport, count))
			*connect_wanted = true;
		if (count < MPO_BATCH)
			return true;
	}
	return false;
}

/* Put a socket that is not empty yet behind the others that are ready. */
static void look_again(struct mpo_worker *worker, int fd, __u64 data)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = data };

	/* Fails for no reason that the next datagram would not make good. */
	(void)epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

/*
 * Connect a socket whose peer is settled: the kernel then has the route and the receiving socket at hand.
 *
 * No packet is lost or overtakes another of its source. Sources may come over to the second socket as soon as that is
 * bound, and the peer comes (back) to fd when that is connected. So: empty fd, connect it, empty the second socket, and
 * only then go on with fd. It waits for a moment without a backlog.
 */
static void settle(struct mpo_worker *worker, struct mpo_transport *transport)
{
	const struct mpo_rule *rule = atomic_load(&transport->rule);
	bool first = transport->strangers_fd < 0;
	__u64 strangers = transport->handle | STRANGERS;
	bool again = false;
	int err = 0;

	if (!rule->connectable)
		return;
	if (first)
		err = mpo_transport_open_strangers(transport, worker->epoll_fd, strangers);
	if (err)
		goto out_failed;
	if (!drain(worker, transport, transport->fd, &again))
		look_again(worker, transport->fd, transport->handle);
	err = mpo_transport_connect(transport, &rule->expected);
	if (!drain(worker, transport, transport->strangers_fd, &again))
		look_again(worker, transport->strangers_fd, strangers);
	if (first)
		mpo_transport_seal(transport);
	if (!err)
		return;
	if (first)
		mpo_transport_close_strangers(transport);
out_failed:
	transport->connect_failed = rule->clock_rates.serial;
}

static void serve(struct mpo_worker *worker, __u64 data)
{
	__u64 handle = data & ~(__u64)STRANGERS;
	struct mpo_transport *transport = mpo_table_find(worker->table, handle);
	bool connect_wanted = false;
	int fd;

	if (!transport)
		return;	/* closed since epoll_wait saw it */
	fd = data & STRANGERS ? transport->strangers_fd : transport->fd;
	if (fd < 0)
		return;
	if (!drain(worker, transport, fd, &connect_wanted))
		look_again(worker, fd, data);
	else if (connect_wanted)
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

	worker->batch = batch_make();
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
	batch_free(worker->batch);
	return err;
}

void mpo_worker_stop(struct mpo_worker *worker)
{
	/* Can't fail: the counter is 0. */
	(void)eventfd_write(worker->stop_fd, 1);
	pthread_join(worker->thread, NULL);
	sem_destroy(&worker->started);
	close(worker->stop_fd);
	close(worker->epoll_fd);
	batch_free(worker->batch);
}

int mpo_worker_add(struct mpo_worker *worker, const struct mpo_transport *transport)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = transport->handle };

	return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, transport->fd, &event) < 0 ? -errno : 0;
}
