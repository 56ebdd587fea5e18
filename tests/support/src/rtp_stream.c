// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * rtp_stream: one RTP stream and those who hear it, with a record of each packet.
 *
 *   rtp_stream SENDER_FD RECEIVER_FD...
 *
 * The descriptors are bound UDP sockets (IPv4) of whatever network namespaces. Each packet has a place in the stream
 * (0, 1, 2, ...), which it carries; a place that the stream leaves out on purpose is lost on the way as far as whoever
 * is further down can tell. Standard input takes commands, each of which is answered by one line:
 *
 *   aim ADDRESS PORT                 where to send from now on
 *   source SSRC SEQUENCE             SSRC from now on, and the sequence number of the next place
 *   start PPS LOSS SWAP TWICE SEED   of a thousand places: left out, sent after the next one, sent twice
 *   place                            the place that is next
 *   stop                             send no more, and hear until nothing comes any more
 *   record FILE                      a byte and a number of 32 bits for each place, see below; only after stop
 *
 * The byte: 0 nothing came, 255 left out, else 1 + which receiver heard it, with 128 added if it was heard again. The
 * number: microseconds from the start until it was heard first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000ull
#define PLACES (1u << 24)
#define RTP_LEN 172u			/* 12 + 20 ms of G.711 */
#define BATCH 32u
#define LATE_NS (20 * 1000000ull)	/* who is this far behind gives up what it owes: a burst would test buffers */
#define QUIET_MS 200
#define RECEIVERS_MAX 8
#define MAGIC 0x6d705265u
#define LEFT_OUT 255u
#define AGAIN 128u

struct chance {
	uint32_t loss, swap, twice;
	uint64_t state;
};

static int sender;
static struct pollfd receivers[RECEIVERS_MAX];
static unsigned int receiver_count;
static uint8_t *heard;
static uint32_t *heard_at;
static atomic_uint next_place;
static atomic_bool sending, ended;
static atomic_ullong arrived, foreign, sent, send_errors;
static _Atomic uint64_t aim;		/* address and port, network order */
static _Atomic uint64_t source;		/* SSRC, and sequence number less place */
static uint64_t started;
static uint64_t interval;
static struct chance chance;

static void fail(const char *what)
{
	fprintf(stderr, "rtp_stream: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

/* xorshift64*: the same seed yields the same stream everywhere. */
static bool happens(uint32_t per_mille)
{
	chance.state ^= chance.state >> 12;
	chance.state ^= chance.state << 25;
	chance.state ^= chance.state >> 27;
	return (chance.state * 0x2545f4914f6cdd1dull >> 33) % 1000 < per_mille;
}

static void put32(uint8_t *at, uint32_t value)
{
	value = htonl(value);
	memcpy(at, &value, 4);
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return ntohl(value);
}

static void packet_build(uint8_t *packet, uint32_t place)
{
	uint64_t now_source = atomic_load(&source);
	uint16_t sequence = htons((uint16_t)(place + (uint32_t)(now_source & 0xffff)));

	memset(packet, 0xff, RTP_LEN);		/* PCMU silence */
	packet[0] = 0x80;
	packet[1] = 0;
	memcpy(packet + 2, &sequence, 2);
	put32(packet + 4, place * 160);
	put32(packet + 8, (uint32_t)(now_source >> 32));
	put32(packet + 12, MAGIC);
	put32(packet + 16, place);
}

static void batch_send(uint8_t (*packets)[RTP_LEN], unsigned int count)
{
	struct mmsghdr messages[BATCH * 2];
	struct iovec vectors[BATCH * 2];
	uint64_t to = atomic_load(&aim);
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = (uint32_t)(to >> 16), .sin_port = (uint16_t)(to & 0xffff),
	};
	unsigned int done = 0;

	memset(messages, 0, sizeof(messages[0]) * count);
	for (unsigned int i = 0; i < count; i++) {
		vectors[i] = (struct iovec){ .iov_base = packets[i], .iov_len = RTP_LEN };
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &address;
		messages[i].msg_hdr.msg_namelen = sizeof(address);
	}
	while (done < count) {
		int n = sendmmsg(sender, messages + done, count - done, 0);

		if (n > 0) {
			done += (unsigned int)n;
			atomic_fetch_add(&sent, (unsigned int)n);
		} else if (errno != EINTR && errno != ECONNREFUSED) {
			/* An error that an ICMP message has left is about an earlier packet: that one is sent again. */
			atomic_fetch_add(&send_errors, 1);
			done++;
		}
	}
}

static void places_send(unsigned int places)
{
	static uint8_t packets[BATCH * 2][RTP_LEN];
	unsigned int count = 0;
	bool swap = false;

	while (places--) {
		uint32_t place = atomic_load(&next_place);

		if (place >= PLACES)
			fail("too long a stream");
		if (happens(chance.loss)) {
			heard[place] = LEFT_OUT;
		} else {
			packet_build(packets[count++], place);
			if (swap) {
				uint8_t other[RTP_LEN];

				memcpy(other, packets[count - 1], RTP_LEN);
				memcpy(packets[count - 1], packets[count - 2], RTP_LEN);
				memcpy(packets[count - 2], other, RTP_LEN);
				swap = false;
			} else {
				swap = happens(chance.swap);
			}
			if (happens(chance.twice)) {
				memcpy(packets[count], packets[count - 1], RTP_LEN);
				count++;
				swap = false;
			}
		}
		/* Whoever asks for the place gets one that no packet under way has. */
		atomic_store(&next_place, place + 1);
	}
	if (count)
		batch_send(packets, count);
}

static void *send_all(void *unused)
{
	uint64_t due = started;

	(void)unused;
	while (atomic_load(&sending)) {
		uint64_t now = now_ns();
		unsigned int places = 0;

		if (now > due + LATE_NS)
			due = now;
		while (due <= now && places < BATCH) {
			places++;
			due += interval;
		}
		if (places)
			places_send(places);
		now = now_ns();
		if (due > now) {
			uint64_t wake = due > now + 1000000 ? due : now + 1000000;	/* 1000 batches a second do */
			struct timespec until = { .tv_sec = (time_t)(wake / NS), .tv_nsec = (long)(wake % NS) };

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
	}
	return NULL;
}

static void packet_hear(const uint8_t *packet, size_t length, unsigned int receiver, uint64_t now)
{
	uint32_t place;

	if (length != RTP_LEN || get32(packet + 12) != MAGIC || (place = get32(packet + 16)) >= PLACES) {
		atomic_fetch_add(&foreign, 1);
		return;
	}
	if (heard[place] != 0) {
		heard[place] |= AGAIN;
		return;
	}
	heard[place] = (uint8_t)(receiver + 1);
	heard_at[place] = (uint32_t)((now - started) / 1000);
	atomic_fetch_add(&arrived, 1);
}

static void *hear_all(void *unused)
{
	static uint8_t packets[BATCH][2048];
	struct mmsghdr messages[BATCH];
	struct iovec vectors[BATCH];

	(void)unused;
	while (!atomic_load(&ended)) {
		if (poll(receivers, receiver_count, 20) <= 0)
			continue;
		for (unsigned int r = 0; r < receiver_count; r++) {
			int n;

			if (!receivers[r].revents)
				continue;
			memset(messages, 0, sizeof(messages));
			for (unsigned int i = 0; i < BATCH; i++) {
				vectors[i] = (struct iovec){ .iov_base = packets[i], .iov_len = sizeof(packets[i]) };
				messages[i].msg_hdr.msg_iov = &vectors[i];
				messages[i].msg_hdr.msg_iovlen = 1;
			}
			n = recvmmsg(receivers[r].fd, messages, BATCH, MSG_DONTWAIT, NULL);
			for (int i = 0; i < n; i++)
				packet_hear(packets[i], messages[i].msg_len, r, now_ns());
		}
	}
	return NULL;
}

static void wait_quiet(void)
{
	unsigned long long before = ~0ull;

	while (before != atomic_load(&arrived)) {
		struct timespec pause = { .tv_nsec = QUIET_MS * 1000000l };

		before = atomic_load(&arrived);
		nanosleep(&pause, NULL);
	}
}

static void record(const char *path)
{
	FILE *file = fopen(path, "wb");
	unsigned int places = atomic_load(&next_place);

	if (!file)
		fail(path);
	if (fwrite(heard, 1, places, file) != places || fwrite(heard_at, 4, places, file) != places || fclose(file))
		fail(path);
}

static bool command(const char *line, pthread_t *thread)
{
	char address[64], path[512];
	unsigned int port, ssrc, sequence, pps;
	unsigned long long seed;

	if (sscanf(line, "aim %63s %u", address, &port) == 2) {
		atomic_store(&aim, (uint64_t)inet_addr(address) << 16 | htons((uint16_t)port));
	} else if (sscanf(line, "source %u %u", &ssrc, &sequence) == 2) {
		uint32_t offset = (sequence - atomic_load(&next_place)) & 0xffff;

		atomic_store(&source, (uint64_t)ssrc << 32 | offset);
	} else if (sscanf(line, "start %u %u %u %u %llu", &pps, &chance.loss, &chance.swap, &chance.twice, &seed) == 5) {
		chance.state = seed | 1;
		interval = NS / pps;
		if (!started)
			started = now_ns();
		atomic_store(&sending, true);
		if (pthread_create(thread, NULL, send_all, NULL))
			fail("thread");
	} else if (!strncmp(line, "stop", 4)) {
		atomic_store(&sending, false);
		pthread_join(*thread, NULL);
		wait_quiet();
	} else if (sscanf(line, "record %511s", path) == 1) {
		record(path);
	} else if (strncmp(line, "place", 5)) {
		return false;
	}
	printf("{\"place\": %u, \"sent\": %llu, \"arrived\": %llu, \"foreign\": %llu, \"send_errors\": %llu, \"us\": %llu}\n",
	       atomic_load(&next_place), (unsigned long long)atomic_load(&sent), (unsigned long long)atomic_load(&arrived),
	       (unsigned long long)atomic_load(&foreign), (unsigned long long)atomic_load(&send_errors),
	       started ? (unsigned long long)((now_ns() - started) / 1000) : 0);
	fflush(stdout);
	return true;
}

static void *room(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		fail("memory");
	return memory;
}

int main(int argc, char **argv)
{
	pthread_t sending_thread, hearing_thread;
	char line[600];

	if (argc < 3 || argc > 2 + RECEIVERS_MAX) {
		fprintf(stderr, "usage: rtp_stream SENDER_FD RECEIVER_FD...\n");
		return 2;
	}
	sender = atoi(argv[1]);
	for (int i = 2; i < argc; i++)
		receivers[receiver_count++] = (struct pollfd){ .fd = atoi(argv[i]), .events = POLLIN };
	heard = room(PLACES);
	heard_at = room(PLACES * sizeof(*heard_at));
	if (pthread_create(&hearing_thread, NULL, hear_all, NULL))
		fail("thread");
	while (fgets(line, sizeof(line), stdin)) {
		if (!command(line, &sending_thread)) {
			fprintf(stderr, "rtp_stream: no such command: %s", line);
			return 2;
		}
	}
	atomic_store(&ended, true);
	atomic_store(&sending, false);
	return 0;
}
