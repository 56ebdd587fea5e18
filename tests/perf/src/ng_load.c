// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * ng_load: plain calls (offer, answer, delete) against an ng server over UDP, as fast as it answers or at a given rate.
 *
 *   ng_load IP PORT WINDOW RATE MILLISECONDS INTERFACES CALLER_IP CALLEE_IP PREFIX
 *
 * WINDOW calls are under way at once, each over one of up to eight sockets, as a SIP proxy's worker processes would.
 * RATE 0: the next call begins when one has ended. Otherwise calls begin RATE times a second whether or not the earlier
 * ones have ended (never more than WINDOW), and a latency counts from the moment the request was sent.
 * INTERFACES is n: call i goes from interface a{i mod n} to b{i mod n}.
 * Messages have the key order of Kamailio's rtpengine module and the SDP of SIPp's plain call. A request without a reply is
 * resent with the same cookie after 1 s, at most four times. One line of JSON goes to standard output.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000ull
#define RESEND_NS NS
#define MAX_TRIES 5
#define SOCKETS 8
#define MAX_WINDOW 1024
#define MESSAGE 2048

enum step { STEP_IDLE = -1, STEP_OFFER, STEP_ANSWER, STEP_DELETE, STEPS };
static const char *const step_names[STEPS] = { "offer", "answer", "delete" };

struct slot {
	enum step step;
	uint64_t call, sent_at, first_sent_at;
	int tries;
	size_t length;
	char message[MESSAGE];
};

struct samples {
	uint32_t *us;
	size_t count, room;
};

static struct slot slots[MAX_WINDOW];
static struct samples samples[STEPS];
static struct sockaddr_in server;
static int sockets[SOCKETS];
static const char *caller_ip, *callee_ip, *prefix;
static unsigned int interfaces;
static uint64_t resent, failed, completed, behind;
static char first_failure[256];

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "ng_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void sample_add(struct samples *to, uint64_t ns)
{
	if (to->count == to->room) {
		to->room = to->room ? to->room * 2 : 65536;
		to->us = realloc(to->us, to->room * sizeof(*to->us));
		if (!to->us)
			fail("realloc");
	}
	to->us[to->count++] = (uint32_t)(ns / 1000);
}

static size_t put_sdp(char *out, size_t room, const char *user, const char *ip, unsigned int port, const char *more)
{
	char body[1024];
	int n = snprintf(body, sizeof(body),
			 "v=0\r\no=%s 53655765 2353687637 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\n"
			 "m=audio %u RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n%s"
			 "a=ptime:20\r\na=sendrecv\r\n", user, ip, ip, port, more);

	return (size_t)snprintf(out, room, "3:sdp%d:%s", n, body);
}

static size_t put_string(char *out, size_t room, const char *key, const char *value)
{
	return (size_t)snprintf(out, room, "%zu:%s%zu:%s", strlen(key), key, strlen(value), value);
}

/* The cookie is "SLOT_CALL_STEP": the reply names the slot it is for. */
static void message_build(struct slot *slot, size_t index)
{
	char *m = slot->message, name[64], call_id[128], from_tag[64], to_tag[64];
	const char *source = slot->step == STEP_ANSWER ? callee_ip : caller_ip;
	unsigned int port = 6000 + (unsigned int)(slot->call % 20000) * 2, leg = (unsigned int)(slot->call % interfaces);
	size_t n = 0;

	snprintf(call_id, sizeof(call_id), "%s-%llu@%s", prefix, (unsigned long long)slot->call, caller_ip);
	snprintf(from_tag, sizeof(from_tag), "%lluSIPpTag1", (unsigned long long)slot->call);
	snprintf(to_tag, sizeof(to_tag), "%lluB1", (unsigned long long)slot->call);
	n += (size_t)snprintf(m, MESSAGE, "%zu_%llu_%d d8:supportsl10:load limite", index,
			      (unsigned long long)slot->call, (int)slot->step);
	if (slot->step == STEP_OFFER) {
		n += put_sdp(m + n, MESSAGE - n, "caller", caller_ip, port, "a=fmtp:101 0-15\r\n");
		n += (size_t)snprintf(m + n, MESSAGE - n, "9:directionl");
		snprintf(name, sizeof(name), "a%u", leg);
		n += (size_t)snprintf(m + n, MESSAGE - n, "%zu:%s", strlen(name), name);
		n += (size_t)snprintf(m + n, MESSAGE - n, "%zu:b%se", strlen(name), name + 1);
	}
	if (slot->step == STEP_ANSWER)
		n += put_sdp(m + n, MESSAGE - n, "callee", callee_ip, port, "");
	if (slot->step != STEP_DELETE)
		n += (size_t)snprintf(m + n, MESSAGE - n, "7:replacel6:origin18:session-connectione");
	if (slot->step == STEP_OFFER)
		n += put_string(m + n, MESSAGE - n, "transport-protocol", "RTP/AVP");
	n += put_string(m + n, MESSAGE - n, "call-id", call_id);
	n += (size_t)snprintf(m + n, MESSAGE - n, "13:received-froml3:IP4%zu:%se", strlen(source), source);
	n += put_string(m + n, MESSAGE - n, "from-tag", from_tag);
	if (slot->step == STEP_ANSWER)
		n += put_string(m + n, MESSAGE - n, "to-tag", to_tag);
	n += put_string(m + n, MESSAGE - n, "command", step_names[slot->step]);
	n += (size_t)snprintf(m + n, MESSAGE - n, "e");
	slot->length = n;
	slot->tries = 0;
}

static void message_send(struct slot *slot, size_t index)
{
	slot->sent_at = clock_ns(CLOCK_MONOTONIC);
	if (slot->tries++ == 0)
		slot->first_sent_at = slot->sent_at;
	/* A refused or full socket is the same as a lost datagram: the timer below resends it. */
	if (send(sockets[index % SOCKETS], slot->message, slot->length, 0) < 0 && !first_failure[0])
		snprintf(first_failure, sizeof(first_failure), "send: %s", strerror(errno));
}

static void call_begin(size_t index, uint64_t call)
{
	struct slot *slot = &slots[index];

	slot->call = call;
	slot->step = STEP_OFFER;
	message_build(slot, index);
	message_send(slot, index);
}

static void note_failure(const char *text, size_t length)
{
	failed++;
	if (!first_failure[0]) {
		size_t n = length < sizeof(first_failure) - 1 ? length : sizeof(first_failure) - 1;

		for (size_t i = 0; i < n; i++)
			first_failure[i] = text[i] < ' ' || text[i] == '"' || text[i] == '\\' || text[i] > '~' ? ' ' : text[i];
		first_failure[n] = 0;
	}
}

/* True when the slot has become free. */
static bool reply_take(const char *reply, size_t length, size_t window, size_t *freed)
{
	unsigned long long index, call;
	struct slot *slot;
	int step;

	if (sscanf(reply, "%llu_%llu_%d ", &index, &call, &step) != 3 || index >= window)
		return false;
	slot = &slots[index];
	if (slot->step != (enum step)step || slot->call != call)
		return false;	/* the second reply to a request that was resent */
	sample_add(&samples[step], clock_ns(CLOCK_MONOTONIC) - slot->first_sent_at);
	*freed = index;
	if (!memmem(reply, length, "6:result2:ok", 12)) {
		note_failure(reply, length);
		slot->step = STEP_IDLE;
		return true;
	}
	if (slot->step == STEP_DELETE) {
		completed++;
		slot->step = STEP_IDLE;
		return true;
	}
	slot->step++;
	message_build(slot, index);
	message_send(slot, index);
	return false;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double at_part(const struct samples *s, double part)
{
	size_t i;

	if (!s->count)
		return 0;
	i = (size_t)((double)s->count * part);
	return s->us[i < s->count ? i : s->count - 1] / 1000.0;
}

int main(int argc, char **argv)
{
	size_t window, freed = 0, free_count = 0, under_way = 0;
	static size_t free_slots[MAX_WINDOW];
	uint64_t start, end, now, rate, next_call = 0, swept, due = 0, cpu_before;
	struct epoll_event events[SOCKETS];
	double seconds, cpu;
	int poller;

	if (argc != 10) {
		fprintf(stderr, "usage: ng_load IP PORT WINDOW RATE MILLISECONDS INTERFACES CALLER_IP CALLEE_IP PREFIX\n");
		return 2;
	}
	server.sin_family = AF_INET;
	server.sin_addr.s_addr = inet_addr(argv[1]);
	server.sin_port = htons((uint16_t)atoi(argv[2]));
	window = strtoul(argv[3], NULL, 10);
	rate = strtoull(argv[4], NULL, 10);
	interfaces = (unsigned int)strtoul(argv[6], NULL, 10);
	caller_ip = argv[7];
	callee_ip = argv[8];
	prefix = argv[9];
	if (!window || window > MAX_WINDOW || !interfaces) {
		fprintf(stderr, "ng_load: WINDOW is 1 to %d, INTERFACES at least 1\n", MAX_WINDOW);
		return 2;
	}
	poller = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < SOCKETS; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.fd = 0 };
		int size = 1 << 20;

		sockets[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (sockets[i] < 0 || connect(sockets[i], (struct sockaddr *)&server, sizeof(server)) < 0)
			fail("socket");
		setsockopt(sockets[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		event.data.fd = sockets[i];
		if (epoll_ctl(poller, EPOLL_CTL_ADD, sockets[i], &event) < 0)
			fail("epoll_ctl");
	}
	for (size_t i = window; i-- > 0;) {
		slots[i].step = STEP_IDLE;
		free_slots[free_count++] = i;
	}
	cpu_before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	start = swept = now = clock_ns(CLOCK_MONOTONIC);
	end = start + strtoull(argv[5], NULL, 10) * 1000000ull;
	due = start;
	for (;;) {
		struct timespec timeout = { .tv_nsec = 20000000 };
		int ready;

		now = clock_ns(CLOCK_MONOTONIC);
		while (now < end && free_count && (!rate || now >= due)) {
			call_begin(free_slots[--free_count], next_call++);
			under_way++;
			if (rate) {
				due += NS / rate;
				now = clock_ns(CLOCK_MONOTONIC);
			}
		}
		if (rate && !free_count && now >= due) {
			behind++;	/* the window is full: this call begins late */
			due = now + NS / rate;
		}
		if (now >= end && !under_way)
			break;
		if (rate && now < end && due < now + 20000000)
			timeout.tv_nsec = due > now ? (long)(due - now) : 0;
		ready = epoll_pwait2(poller, events, SOCKETS, &timeout, NULL);
		for (int e = 0; e < ready; e++) {
			char reply[65536];
			ssize_t n;

			while ((n = recv(events[e].data.fd, reply, sizeof(reply) - 1, 0)) >= 0) {
				reply[n] = 0;
				if (reply_take(reply, (size_t)n, window, &freed)) {
					free_slots[free_count++] = freed;
					under_way--;
				}
			}
		}
		if (now - swept < NS / 10)
			continue;
		swept = now;
		for (size_t i = 0; i < window; i++) {
			if (slots[i].step == STEP_IDLE || now < slots[i].sent_at + RESEND_NS)
				continue;
			if (slots[i].tries >= MAX_TRIES) {
				note_failure("no reply", 8);
				slots[i].step = STEP_IDLE;
				free_slots[free_count++] = i;
				under_way--;
			} else {
				resent++;
				message_send(&slots[i], i);
			}
		}
	}
	seconds = (double)(now - start) / 1e9;
	cpu = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_before) / 1e9;
	printf("{\"seconds\": %.4f, \"cycles\": %llu, \"failed\": %llu, \"resent\": %llu, \"window_full\": %llu, "
	       "\"generator_cpu\": %.4f, \"first_failure\": \"%s\"", seconds, (unsigned long long)completed,
	       (unsigned long long)failed, (unsigned long long)resent, (unsigned long long)behind, cpu / seconds, first_failure);
	for (int s = 0; s < STEPS; s++) {
		qsort(samples[s].us, samples[s].count, sizeof(uint32_t), by_size);
		printf(", \"%s_ms\": {\"count\": %zu, \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}", step_names[s], samples[s].count,
		       at_part(&samples[s], 0.5), at_part(&samples[s], 0.99), at_part(&samples[s], 1.0));
	}
	printf("}\n");
	return 0;
}
