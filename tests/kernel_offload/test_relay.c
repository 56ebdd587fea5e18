/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The relay over the loopback: a call through it, and everything at once for the thread sanitizer. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "mpo.h"
#include "mpo_address.h"

#define WAIT_MS 5000
#define STRESS_NS 1500000000ull
#define CALLS 8

struct party {
	int fd;
	struct mpo_endpoint endpoint;
};

static struct mpo_endpoint localhost(__u16 port)
{
	struct mpo_endpoint endpoint = { .port = port };

	memcpy(endpoint.address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix));
	endpoint.address[12] = 127;
	endpoint.address[15] = 1;
	return endpoint;
}

static void party_open(struct party *party)
{
	struct mpo_endpoint any = localhost(0);
	union mpo_address address;
	socklen_t length = sizeof(address);

	mpo_address_from_endpoint(&any, &address);
	party->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(party->fd >= 0);
	CHECK_EQUAL(bind(party->fd, &address.any, mpo_address_length(&address)), 0);
	CHECK_EQUAL(getsockname(party->fd, &address.any, &length), 0);
	mpo_endpoint_from_address(&address, &party->endpoint);
}

static void party_send(const struct party *party, const struct mpo_endpoint *to, const void *bytes, size_t length)
{
	union mpo_address address;

	mpo_address_from_endpoint(to, &address);
	(void)sendto(party->fd, bytes, length, 0, &address.any, mpo_address_length(&address));
}

static __u64 monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000u + (__u64)now.tv_nsec;
}

/* How many bytes came within WAIT_MS. */
static ssize_t party_receive(const struct party *party, void *bytes, size_t capacity)
{
	struct pollfd poller = { .fd = party->fd, .events = POLLIN };

	if (poll(&poller, 1, WAIT_MS) != 1)
		return -1;
	return recv(party->fd, bytes, capacity, 0);
}

/* A port pair that happens to be free, below those that the kernel gives to others: it stays free when closed. */
static int open_pair(struct mpo_relay *relay, __u32 group, struct mpo_endpoint *local, __u64 handles[2])
{
	static __u16 next;
	int attempt, err = -EADDRINUSE;

	for (attempt = 0; err == -EADDRINUSE && attempt < 1000; attempt++) {
		*local = localhost((__u16)(10000 + ((unsigned int)getpid() * 32 + next++ * 2) % 20000));
		err = mpo_relay_open_pair(relay, local, group, handles);
	}
	return err;
}

static void make_rtp(__u8 packet[172], __u32 number)
{
	memset(packet, 0, 172);
	packet[0] = 0x80;
	packet[2] = (__u8)(number >> 8);
	packet[3] = (__u8)number;
	packet[11] = 9;
}

static struct mpo_transport_config config_of(__u64 handle, __u8 policy, const struct mpo_endpoint *remote, __u64 sink)
{
	struct mpo_transport_config config = { .handle = handle, .policy = policy };

	config.remote = *remote;
	config.expected = *remote;
	config.rtp_sinks[0] = sink;
	config.rtp_sink_count = 1;
	config.rtcp_sinks[0] = sink;
	config.rtcp_sink_count = 1;
	return config;
}

/* Another path has carried the packets 100 to 9999 of the 100 that the sockets had before. */
static void test_resume(struct mpo_relay *relay, __u64 handle, const struct party *from, const struct mpo_endpoint *to,
			const struct party *sink)
{
	struct mpo_rtp_state sockets, kernel = { 0 };
	__u8 packet[172];
	__u32 i;

	CHECK_EQUAL(mpo_relay_read_rtp(relay, handle, &sockets), 0);
	CHECK_EQUAL(sockets.ssrcs[0].ssrc, 9);
	CHECK_EQUAL(sockets.ssrcs[0].packets, 100);
	CHECK_EQUAL(sockets.sources[0].highest, 99);
	mpo_rtp_state_seed(&kernel, &sockets);
	for (i = 100; i < 10000; i++) {
		make_rtp(packet, i);
		mpo_rtp_state_count(&kernel, packet, sizeof(packet), monotonic());
	}
	CHECK_EQUAL(mpo_relay_resume_rtp(relay, handle, &kernel), 0);
	make_rtp(packet, 10001);
	party_send(from, to, packet, sizeof(packet));
	CHECK_EQUAL(party_receive(sink, packet, sizeof(packet)), sizeof(packet));
	do	/* a packet is counted before it is sent; the record may still be open */
		CHECK_EQUAL(mpo_relay_read_rtp(relay, handle, &sockets), 0);
	while (sockets.ssrcs[0].packets < 101);
	CHECK_EQUAL(sockets.ssrcs[0].packets, 101);
	CHECK_EQUAL(sockets.ssrcs[0].lost, 1);
	CHECK_EQUAL(sockets.sources[0].highest, 10001);
	mpo_rtp_state_merge(&sockets, &kernel);
	CHECK_EQUAL(sockets.ssrcs[0].packets, 10001);
	CHECK_EQUAL(sockets.ssrcs[0].lost, 1);
	CHECK_EQUAL(mpo_relay_read_rtp(relay, handle ^ 1ull << 32, &sockets), -ESTALE);
	CHECK_EQUAL(mpo_relay_resume_rtp(relay, handle ^ 1ull << 32, &kernel), -ESTALE);
}

static void test_call(void)
{
	struct mpo_endpoint local[2];
	struct mpo_transport_config configs[2];
	struct mpo_transport_stats stats;
	struct mpo_relay_totals totals;
	struct party a, b, stranger;
	struct mpo_relay *relay;
	struct mpo_event event;
	__u64 x[2], y[2];
	__u8 packet[172], received[4096];
	__u32 ids[2] = { 0, 0 };
	unsigned int i;

	CHECK_EQUAL(mpo_relay_create(2, 64, &relay), 0);
	CHECK_EQUAL(mpo_relay_thread_ids(relay, ids, 2), 2);
	CHECK(ids[0] && ids[1] && ids[0] != ids[1]);
	party_open(&a);
	party_open(&b);
	party_open(&stranger);
	CHECK_EQUAL(open_pair(relay, 0, &local[0], x), 0);
	CHECK_EQUAL(open_pair(relay, 0, &local[1], y), 0);
	CHECK_EQUAL(mpo_relay_open_pair(relay, &local[0], 0, x), -EADDRINUSE);

	configs[0] = config_of(x[0], MPO_POLICY_OPEN, &a.endpoint, y[0]);
	configs[1] = config_of(y[0], MPO_POLICY_OPEN, &b.endpoint, x[0]);
	memset(&configs[0].expected, 0, sizeof(configs[0].expected));
	CHECK_EQUAL(mpo_relay_configure(relay, configs, 2), 2);
	for (i = 0; i < 100; i++) {
		make_rtp(packet, i);
		party_send(&a, &local[0], packet, sizeof(packet));
		CHECK_EQUAL(party_receive(&b, received, sizeof(received)), sizeof(packet));
		CHECK(memcmp(packet, received, sizeof(packet)) == 0);
		party_send(&b, &local[1], packet, sizeof(packet));
		CHECK_EQUAL(party_receive(&a, received, sizeof(received)), sizeof(packet));
		/* Half way: settled, so the sockets get connected. */
		if (i == 50) {
			configs[0] = config_of(x[0], MPO_POLICY_LOCKED, &a.endpoint, y[0]);
			configs[1] = config_of(y[0], MPO_POLICY_LOCKED, &b.endpoint, x[0]);
			CHECK_EQUAL(mpo_relay_configure(relay, configs, 2), 2);
		}
	}
	CHECK_EQUAL(mpo_relay_take_events(relay, &event, 1), 1);
	CHECK_EQUAL(event.kind, MPO_EVENT_SEEN);
	CHECK_EQUAL(event.handle, x[0]);
	CHECK_EQUAL(event.ssrc, 9);
	CHECK(memcmp(&event.source, &a.endpoint, sizeof(event.source)) == 0);
	CHECK_EQUAL(mpo_relay_take_events(relay, &event, 1), 0);
	mpo_relay_read_totals(relay, &totals);
	CHECK_EQUAL(totals.descriptors, 6);	/* four transports, two of them connected */

	party_send(&stranger, &local[0], packet, sizeof(packet));
	do
		CHECK_EQUAL(mpo_relay_read_stats(relay, x[0], &stats), 0);
	while (stats.drops[MPO_DROP_WRONG_SOURCE] == 0);
	CHECK_EQUAL(stats.rtp.packets, 100);
	CHECK_EQUAL(stats.rtp.errors, 1);
	CHECK_EQUAL(stats.rtp.packets_out, 100);
	CHECK_EQUAL(stats.rtp.ssrcs[0].lost, 0);
	CHECK_EQUAL(stats.reports, 2);

	test_resume(relay, x[0], &a, &local[0], &b);

	/* A value out of range changes nothing, also not for the good one before it. */
	configs[0].policy = MPO_POLICY_CLOSED;
	configs[1].policy = MPO_POLICIES;
	CHECK_EQUAL(mpo_relay_configure(relay, configs, 2), -EINVAL);
	party_send(&a, &local[0], packet, sizeof(packet));
	CHECK_EQUAL(party_receive(&b, received, sizeof(received)), sizeof(packet));

	CHECK_EQUAL(mpo_relay_close(relay, x, 2), 2);
	CHECK_EQUAL(mpo_relay_close(relay, x, 2), 0);
	CHECK_EQUAL(mpo_relay_read_stats(relay, x[0], &stats), 0);
	CHECK_EQUAL(stats.rtp.packets, 102);
	CHECK_EQUAL(mpo_relay_close_all(relay), 2);
	mpo_relay_read_totals(relay, &totals);
	CHECK_EQUAL(totals.transports, 0);
	mpo_relay_destroy(relay);
	close(a.fd);
	close(b.fd);
	close(stranger.fd);
}

struct flood {
	struct party from;
	struct mpo_endpoint to[CALLS];
	_Atomic int stop;
};

static void *send_flood(void *argument)
{
	struct flood *flood = argument;
	__u8 packet[172];
	__u32 i;

	for (i = 0; !atomic_load(&flood->stop); i++) {
		make_rtp(packet, i);
		if (i % 50 == 0)
			packet[1] = 201;
		party_send(&flood->from, &flood->to[i % CALLS], packet, sizeof(packet));
	}
	return NULL;
}

/*
 * Two floods on eight transports of two workers that are each other's sinks, while all is reconfigured, connected to
 * one peer and the other, closed, opened anew on the same port, and read. The sanitizers are the judges.
 */
static void test_stress(void)
{
	struct flood floods[2] = { 0 };
	struct mpo_transport_config config;
	struct mpo_transport_stats stats;
	struct mpo_endpoint local;
	struct mpo_event events[16];
	struct mpo_relay_totals totals;
	__u64 handles[CALLS][2], end;
	struct mpo_rtp_state rtp;
	struct mpo_relay *relay;
	pthread_t senders[2];
	struct party sink;
	__u32 round, i;
	int err;

	CHECK_EQUAL(mpo_relay_create(2, 65536, &relay), 0);
	party_open(&sink);
	for (i = 0; i < CALLS; i++) {
		CHECK_EQUAL(open_pair(relay, i, &local, handles[i]), 0);
		floods[0].to[i] = local;
		floods[1].to[i] = local;
	}
	for (i = 0; i < 2; i++) {
		party_open(&floods[i].from);
		pthread_create(&senders[i], NULL, send_flood, &floods[i]);
	}
	end = monotonic() + STRESS_NS;
	for (round = 0; monotonic() < end; round++) {
		i = round % CALLS;
		config = config_of(handles[i][0], (__u8)(1 + round / CALLS % 3), &floods[round / 7 % 2].from.endpoint,
				   handles[(i + 1) % CALLS][0]);
		config.rtp_sink_count = 2;	/* the second one is of another generation half of the time */
		config.rtp_sinks[1] = handles[(i + 3) % CALLS][0] ^ (__u64)(round & 1) << 32;
		config.clock_rate_count = 1;
		if (round % 3 == 0) {
			config.flags = MPO_CONFIG_TOS;
			config.tos = (__u8)(round & 0xfc);
		}
		CHECK_EQUAL(mpo_relay_configure(relay, &config, 1), 1);
		CHECK_EQUAL(mpo_relay_read_stats(relay, handles[i][0], &stats), 0);
		CHECK(stats.rtp.errors <= stats.drops[0] + stats.drops[1] + stats.drops[2] + stats.drops[3] +
						  stats.drops[4] + stats.drops[5] + stats.drops[6]);
		CHECK(mpo_relay_take_events(relay, events, 16) >= 0);
		CHECK_EQUAL(mpo_relay_read_rtp(relay, handles[i][0], &rtp), 0);
		CHECK(rtp.sources[0].highest - rtp.sources[0].base + 1 >= 0);
		CHECK_EQUAL(mpo_relay_resume_rtp(relay, handles[i][0], &rtp), 0);
		if (round % 16 == 5) {
			CHECK_EQUAL(mpo_relay_close(relay, handles[i], 2), 2);
			/* The port is free as soon as no worker holds the socket any more. */
			while ((err = mpo_relay_open_pair(relay, &floods[0].to[i], i, handles[i])) == -EADDRINUSE &&
			       monotonic() < end + STRESS_NS)
				usleep(10);
			CHECK_EQUAL(err, 0);
		}
	}
	for (i = 0; i < 2; i++) {
		atomic_store(&floods[i].stop, 1);
		pthread_join(senders[i], NULL);
		close(floods[i].from.fd);
	}
	mpo_relay_read_totals(relay, &totals);
	CHECK(totals.packets_out > 0);
	CHECK_EQUAL(totals.transports, 2 * CALLS);
	mpo_relay_destroy(relay);
	close(sink.fd);
}

void test_relay(void)
{
	test_call();
	test_stress();
}
