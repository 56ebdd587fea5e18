/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * CPU per packet of the relay's worker over the loopback: for comparing two versions of the packet path on one machine.
 * It includes what the kernel does on the worker's behalf, delivery to the sink's socket among it. The official figures
 * are those of `make bench`, over veth.
 *
 *   gcc -D_GNU_SOURCE -std=gnu11 -O2 -pthread -Ikernel_offload/include -Ikernel_offload/src kernel_offload/src/[a-z]*.c \
 *       tests/perf/relay_throughput.c -o relay_throughput
 *   ./relay_throughput [calls] [packets per second] [seconds] [connected: 1 or 0]
 *
 * One thread sends to all calls in turn on CPU 0, the one worker runs on CPU 1.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mpo.h"
#include "mpo_address.h"

#define PACKET 172
#define BURST 16

struct call {
	union mpo_address relay;	/* where its caller sends */
	int caller;
	int callee;
	__u16 sequence;
};

static __u64 monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000u + (__u64)now.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct mpo_endpoint localhost(__u16 port)
{
	struct mpo_endpoint endpoint = { .port = port };

	memcpy(endpoint.address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix));
	endpoint.address[12] = 127;
	endpoint.address[15] = 1;
	return endpoint;
}

static int open_party(struct mpo_endpoint *out)
{
	struct mpo_endpoint any = localhost(0);
	union mpo_address address;
	socklen_t length = sizeof(address);
	int fd;

	mpo_address_from_endpoint(&any, &address);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, &address.any, mpo_address_length(&address)) < 0 ||
	    getsockname(fd, &address.any, &length) < 0)
		fail("party");
	mpo_endpoint_from_address(&address, out);
	return fd;
}

static __u64 open_leg(struct mpo_relay *relay, __u16 *port)
{
	struct mpo_endpoint local;
	__u64 handles[2];
	int err;

	do {
		local = localhost(*port);
		*port = (__u16)(*port + 2);
		err = mpo_relay_open_pair(relay, &local, 0, handles);
	} while (err == -EADDRINUSE);
	if (err < 0) {
		fprintf(stderr, "open: %s\n", strerror(-err));
		exit(1);
	}
	return handles[0];
}

static __u64 cpu_time(__u32 thread_id)
{
	unsigned long long on_cpu = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%u/schedstat", thread_id);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%llu", &on_cpu) != 1)
		fail(path);
	fclose(file);
	return on_cpu;
}

static void pin(pid_t thread_id, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(thread_id, sizeof(set), &set) < 0)
		fail("sched_setaffinity");
}

static void send_rtp(int fd, const union mpo_address *to, __u16 sequence)
{
	__u8 packet[PACKET] = { 0x80, 0, (__u8)(sequence >> 8), (__u8)sequence, [11] = 1 };

	(void)sendto(fd, packet, sizeof(packet), 0, &to->any, mpo_address_length(to));
}

static void send_one(struct call *call)
{
	send_rtp(call->caller, &call->relay, call->sequence++);
}

static void set_up(struct mpo_relay *relay, struct call *call, int connected)
{
	static __u16 port = 20000;
	struct mpo_transport_config configs[2] = { 0 };
	struct mpo_endpoint parties[2], local;
	union mpo_address address;
	__u64 handles[2];
	unsigned int i;

	call->caller = open_party(&parties[0]);
	call->callee = open_party(&parties[1]);
	handles[0] = open_leg(relay, &port);
	local = localhost((__u16)(port - 2));
	mpo_address_from_endpoint(&local, &call->relay);
	handles[1] = open_leg(relay, &port);
	local = localhost((__u16)(port - 2));
	mpo_address_from_endpoint(&local, &address);
	for (i = 0; i < 2; i++) {
		configs[i].handle = handles[i];
		configs[i].policy = connected ? MPO_POLICY_LOCKED : MPO_POLICY_TRUSTING;
		configs[i].remote = parties[i];
		configs[i].expected = parties[i];
		configs[i].rtp_sink_count = 1;
		configs[i].rtp_sinks[0] = handles[!i];
		configs[i].rtcp_sink_count = 1;
		configs[i].rtcp_sinks[0] = handles[!i];
	}
	if (mpo_relay_configure(relay, configs, 2) != 2)
		fail("configure");
	/* One packet each way settles the call. */
	send_one(call);
	send_rtp(call->callee, &address, 0);
	usleep(100);
}

static void empty(int fd)
{
	__u8 bytes[PACKET];

	while (recv(fd, bytes, sizeof(bytes), 0) > 0)
		;
}

int main(int argc, char **argv)
{
	unsigned int count = argc > 1 ? (unsigned int)atoi(argv[1]) : 1000;
	__u64 rate = argc > 2 ? (__u64)atoll(argv[2]) : 50000;
	__u64 seconds = argc > 3 ? (__u64)atoll(argv[3]) : 3;
	int connected = argc > 4 ? atoi(argv[4]) : 1;
	struct mpo_relay_totals before, after;
	__u64 start, sent, cpu;
	struct mpo_relay *relay;
	struct call *calls;
	unsigned int i;
	__u32 worker;

	calls = calloc(count, sizeof(*calls));
	if (!calls || mpo_relay_create(1, 4 * count + 16, &relay) < 0)
		fail("relay");
	mpo_relay_thread_ids(relay, &worker, 1);
	pin(0, 0);
	pin((pid_t)worker, 1);
	for (i = 0; i < count; i++)
		set_up(relay, &calls[i], connected);
	usleep(100000);
	for (i = 0; i < count; i++) {
		empty(calls[i].caller);
		empty(calls[i].callee);
	}
	mpo_relay_read_totals(relay, &before);
	cpu = cpu_time(worker);
	start = monotonic();
	for (sent = 0; monotonic() < start + seconds * 1000000000u;) {
		if (sent * 1000000000u / rate > monotonic() - start)
			continue;
		for (i = 0; i < BURST; i++, sent++) {
			send_one(&calls[sent % count]);
			if (sent >= count)
				empty(calls[(sent + count / 2) % count].callee);
		}
	}
	usleep(50000);
	mpo_relay_read_totals(relay, &after);
	cpu = cpu_time(worker) - cpu;
	printf("calls %u  offered %.0f pps  relayed %.2f %%  %.0f ns/packet  per packet: %.2f receives %.2f sends %.2f waits"
	       "  descriptors %llu\n",
	       count, (double)sent / (double)seconds,
	       100.0 * (double)(after.packets - before.packets) / (double)sent,
	       (double)cpu / (double)(after.packets - before.packets),
	       (double)(after.receive_calls - before.receive_calls) / (double)(after.packets - before.packets),
	       (double)(after.send_calls - before.send_calls) / (double)(after.packets - before.packets),
	       (double)(after.wakeups - before.wakeups) / (double)(after.packets - before.packets),
	       (unsigned long long)after.descriptors);
	mpo_relay_destroy(relay);
	free(calls);
	return 0;
}
