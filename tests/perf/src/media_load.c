// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * media_load: RTP generator and sink for the benchmark, one thread.
 *
 * It sends by AF_PACKET (one socket a side, whatever the number of flows: a UDP socket a flow would need a system call
 * a packet) and receives through one TPACKET_V3 ring a side. Every packet carries its flow, the number of the run and
 * the time of sending, so loss is counted exactly and a packet that comes out at the wrong place is noticed.
 *
 *   media_load IFNAME_A IFNAME_B RELAY_MAC_A RELAY_MAC_B FLOWS
 *
 * FLOWS is a file of one flow a line: "side source-ip source-port relay-ip relay-port sink-ip sink-port"; the packet
 * leaves by `side` (0 or 1) and is expected on the other side, addressed to sink-ip:sink-port.
 * Standard input takes "run PPS MILLISECONDS BURST"; each run is answered by one line of JSON on standard output.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define SIDES 2
#define RTP_LEN 172			/* 12 + 20 ms of G.711 */
#define HEADERS (14 + 20 + 8)
#define FRAME_LEN (HEADERS + RTP_LEN)
#define SNAPLEN 80			/* headers, RTP header and our stamp */
#define MAX_BURST 64
#define BLOCK_SIZE (1u << 20)
#define BLOCKS 48u
#define SSRC_BASE 0x10000000u
#define NS 1000000000ull
#define LATE_NS (20 * 1000000ull)	/* a generator this far behind gives up what it owes */
#define SUB_BITS 4			/* histogram: 16 steps an octave, so 6 % wide */
#define BUCKETS (64 << SUB_BITS)

struct flow {
	uint8_t frame[FRAME_LEN + 2];
	uint32_t sink_ip;		/* network order, as sink_port */
	uint16_t sink_port;
	uint16_t seq, first_seq;
	uint32_t timestamp;
	uint32_t last_seen_seq;		/* of this run; 0 = nothing yet, else 1 + distance from first_seq */
	uint64_t sent, received;
	uint8_t side;
};

struct side {
	int tx, rx, ifindex;
	uint8_t mac[6], relay_mac[6];
	uint8_t *ring;
	unsigned int block;
	struct flow **flows;
	size_t flow_count, next;
};

struct run {
	uint64_t sent, received, misdelivered, reordered, stale, foreign, send_errors, dropped_at_entry, forgiven_ns;
	uint64_t histogram[BUCKETS];
	uint64_t latencies;
	uint32_t id;
};

static struct side sides[SIDES];
static struct flow *flows;
static size_t flow_count;

static void fail(const char *what)
{
	fprintf(stderr, "media_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

static uint64_t cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static uint16_t ip_checksum(const uint8_t *header)
{
	uint32_t sum = 0;

	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	sum = (sum >> 16) + (sum & 0xffff);
	sum += sum >> 16;
	return htons((uint16_t)~sum);
}

static void put32(uint8_t *at, uint32_t value)
{
	value = htonl(value);
	memcpy(at, &value, 4);
}

static void put16(uint8_t *at, uint16_t value)
{
	value = htons(value);
	memcpy(at, &value, 2);
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return ntohl(value);
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* The UDP checksum is left out (0, RFC 768): the receiving stack then does the same work as behind a card that checks it. */
static void frame_build(struct flow *flow, size_t index, uint32_t saddr, uint16_t sport, uint32_t daddr, uint16_t dport)
{
	struct side *side = &sides[flow->side];
	struct iphdr ip = {
		.version = 4, .ihl = 5, .tot_len = htons(20 + 8 + RTP_LEN), .frag_off = htons(IP_DF), .ttl = 64,
		.protocol = IPPROTO_UDP, .saddr = saddr, .daddr = daddr,
	};
	struct udphdr udp = { .source = htons(sport), .dest = htons(dport), .len = htons(8 + RTP_LEN) };
	uint8_t *f = flow->frame;

	memcpy(f, side->relay_mac, 6);
	memcpy(f + 6, side->mac, 6);
	put16(f + 12, ETH_P_IP);
	ip.check = ip_checksum((uint8_t *)&ip);
	memcpy(f + 14, &ip, 20);
	memcpy(f + 34, &udp, 8);
	f[42] = 0x80;		/* version 2 */
	f[43] = 8;		/* PCMA */
	put32(f + 50, SSRC_BASE + (uint32_t)index);
	memset(f + 54, 0xd5, 160);	/* A-law silence */
	flow->seq = (uint16_t)(index * 7919);
	flow->timestamp = (uint32_t)index * 104729u;
}

static void flows_read(const char *path)
{
	FILE *file = fopen(path, "r");
	char saddr[64], daddr[64], sink[64];
	unsigned int side, sport, dport, sink_port;
	size_t room = 0;

	if (!file)
		fail(path);
	while (fscanf(file, "%u %63s %u %63s %u %63s %u", &side, saddr, &sport, daddr, &dport, sink, &sink_port) == 7) {
		struct flow *flow;

		if (flow_count == room) {
			room = room ? room * 2 : 64;
			flows = realloc(flows, room * sizeof(*flows));
			if (!flows)
				fail("realloc");
		}
		flow = &flows[flow_count];
		memset(flow, 0, sizeof(*flow));
		flow->side = side & 1;
		flow->sink_ip = inet_addr(sink);
		flow->sink_port = htons((uint16_t)sink_port);
		frame_build(flow, flow_count, inet_addr(saddr), (uint16_t)sport, inet_addr(daddr), (uint16_t)dport);
		flow_count++;
	}
	fclose(file);
	for (int s = 0; s < SIDES; s++) {
		sides[s].flows = calloc(flow_count ? flow_count : 1, sizeof(struct flow *));
		if (!sides[s].flows)
			fail("calloc");
	}
	for (size_t i = 0; i < flow_count; i++)
		sides[flows[i].side].flows[sides[flows[i].side].flow_count++] = &flows[i];
}

static void side_open(struct side *side, const char *name, const char *relay_mac)
{
	struct sock_filter take_head[] = { BPF_STMT(BPF_RET | BPF_K, SNAPLEN) };
	struct sock_fprog filter = { .len = 1, .filter = take_head };
	struct tpacket_req3 req = {
		.tp_block_size = BLOCK_SIZE, .tp_block_nr = BLOCKS, .tp_frame_size = 2048,
		.tp_frame_nr = BLOCKS * (BLOCK_SIZE / 2048), .tp_retire_blk_tov = 5,
	};
	struct sockaddr_ll address = { .sll_family = AF_PACKET };
	struct ifreq ifr = { 0 };
	unsigned int m[6];
	int one = 1, version = TPACKET_V3, buffer = 8 << 20;

	if (sscanf(relay_mac, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6) {
		errno = EINVAL;
		fail(relay_mac);
	}
	for (int i = 0; i < 6; i++)
		side->relay_mac[i] = (uint8_t)m[i];
	side->tx = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	side->rx = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (side->tx < 0 || side->rx < 0)
		fail("socket(AF_PACKET)");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(side->tx, SIOCGIFHWADDR, &ifr) < 0)
		fail(name);
	memcpy(side->mac, ifr.ifr_hwaddr.sa_data, 6);
	side->ifindex = (int)if_nametoindex(name);
	address.sll_ifindex = side->ifindex;
	if (setsockopt(side->tx, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0)
		fail("PACKET_QDISC_BYPASS");
	setsockopt(side->tx, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
	if (bind(side->tx, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("bind");
	if (setsockopt(side->rx, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
	    setsockopt(side->rx, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0 ||
	    setsockopt(side->rx, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ||
	    setsockopt(side->rx, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0)
		fail("receive ring");
	side->ring = mmap(NULL, (size_t)BLOCK_SIZE * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_LOCKED, side->rx, 0);
	if (side->ring == MAP_FAILED)
		fail("mmap");
	address.sll_protocol = htons(ETH_P_ALL);
	if (bind(side->rx, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("bind");
}

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int octave;

	if (ns < (1u << SUB_BITS))
		return (unsigned int)ns;
	octave = 63u - (unsigned int)__builtin_clzll(ns);
	return ((octave - SUB_BITS + 1) << SUB_BITS) + (unsigned int)(ns >> (octave - SUB_BITS) & ((1u << SUB_BITS) - 1));
}

static uint64_t bucket_top(unsigned int bucket)
{
	unsigned int octave = bucket >> SUB_BITS;

	if (octave == 0)
		return bucket + 1;
	return (uint64_t)((1u << SUB_BITS) + (bucket & ((1u << SUB_BITS) - 1)) + 1) << (octave - 1);
}

static uint64_t percentile_ns(const struct run *run, double part)
{
	uint64_t want = (uint64_t)((double)run->latencies * part), seen = 0;

	for (unsigned int b = 0; b < BUCKETS; b++) {
		seen += run->histogram[b];
		if (seen > want)
			return bucket_top(b);
	}
	return 0;
}

static void packet_take(struct run *run, int side, const uint8_t *frame, uint32_t len, uint32_t full_len, uint64_t at)
{
	uint32_t ssrc, index, step;
	struct flow *flow;
	uint64_t sent_at;

	if (len < HEADERS + 24 || get16(frame + 12) != ETH_P_IP || frame[23] != IPPROTO_UDP || full_len != FRAME_LEN) {
		run->foreign++;		/* router solicitations, our own RTCP: not media */
		return;
	}
	ssrc = get32(frame + 50);
	index = ssrc - SSRC_BASE;
	if (ssrc < SSRC_BASE || index >= flow_count) {
		run->foreign++;
		return;
	}
	if (get32(frame + 62) != run->id) {
		run->stale++;
		return;
	}
	flow = &flows[index];
	if (flow->side == side || memcmp(frame + 30, &flow->sink_ip, 4) || memcmp(frame + 36, &flow->sink_port, 2)) {
		run->misdelivered++;
		return;
	}
	step = (uint16_t)(get16(frame + 44) - flow->first_seq) + 1u;
	if (step <= flow->last_seen_seq && flow->last_seen_seq - step < 0x8000)
		run->reordered++;
	else
		flow->last_seen_seq = step;
	flow->received++;
	run->received++;
	memcpy(&sent_at, frame + 54, 8);
	if (at > sent_at) {
		run->histogram[bucket_of(at - sent_at)]++;
		run->latencies++;
	}
}

static bool rings_drain(struct run *run)
{
	bool any = false;

	for (int s = 0; s < SIDES; s++) {
		struct side *side = &sides[s];

		for (;;) {
			struct tpacket_block_desc *block = (void *)(side->ring + (size_t)side->block * BLOCK_SIZE);
			struct tpacket3_hdr *packet;

			if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
				break;
			packet = (void *)((uint8_t *)block + block->hdr.bh1.offset_to_first_pkt);
			for (uint32_t i = 0; i < block->hdr.bh1.num_pkts; i++) {
				packet_take(run, s, (uint8_t *)packet + packet->tp_mac, packet->tp_snaplen, packet->tp_len,
					    (uint64_t)packet->tp_sec * NS + packet->tp_nsec);
				packet = (void *)((uint8_t *)packet + packet->tp_next_offset);
			}
			__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
			side->block = (side->block + 1) % BLOCKS;
			any = true;
		}
	}
	return any;
}

static void burst_send(struct run *run, struct side *side, unsigned int count)
{
	struct mmsghdr messages[MAX_BURST];
	struct iovec vectors[MAX_BURST];
	struct flow *chosen[MAX_BURST];
	uint64_t now = clock_ns(CLOCK_REALTIME);
	unsigned int done = 0;

	memset(messages, 0, sizeof(messages[0]) * count);
	for (unsigned int i = 0; i < count; i++) {
		struct flow *flow = side->flows[side->next];

		if (++side->next == side->flow_count)
			side->next = 0;
		put16(flow->frame + 44, flow->seq++);
		put32(flow->frame + 46, flow->timestamp);
		flow->timestamp += 160;
		memcpy(flow->frame + 54, &now, 8);
		put32(flow->frame + 62, run->id);
		vectors[i] = (struct iovec){ .iov_base = flow->frame, .iov_len = FRAME_LEN };
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		chosen[i] = flow;
		/* A flow that comes twice in one burst shares its frame: end the burst before that. */
		if (side->flow_count <= i + 1) {
			count = i + 1;
			break;
		}
	}
	while (done < count) {
		int n = sendmmsg(side->tx, messages + done, count - done, 0);

		if (n > 0) {
			done += (unsigned int)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		/* The ring of the relay's veth is full: offered and lost, so it counts as sent. */
		if (errno == ENOBUFS)
			run->dropped_at_entry++;
		else
			run->send_errors++;
		done++;
	}
	for (unsigned int i = 0; i < count; i++)
		chosen[i]->sent++;
	run->sent += count;
}

static uint64_t sink_drops(void)
{
	uint64_t drops = 0;

	for (int s = 0; s < SIDES; s++) {
		struct tpacket_stats_v3 stats;
		socklen_t len = sizeof(stats);

		if (getsockopt(sides[s].rx, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0)
			drops += stats.tp_drops;
	}
	return drops;
}

static void run_media(struct run *run, uint64_t pps, uint64_t milliseconds, unsigned int burst)
{
	uint64_t interval, start, end, due, now, quiet_since, cpu_before;
	uint64_t quiet = 0, worst = 0, drops;
	unsigned int turn = 0, since_drain = 0;
	double seconds, cpu;

	if (burst > MAX_BURST)
		burst = MAX_BURST;
	for (int s = 0; s < SIDES; s++)
		if (sides[s].flow_count < burst)
			burst = (unsigned int)sides[s].flow_count;
	interval = NS * burst / pps;
	for (size_t i = 0; i < flow_count; i++) {
		flows[i].sent = flows[i].received = 0;
		flows[i].first_seq = flows[i].seq;
		flows[i].last_seen_seq = 0;
	}
	rings_drain(run);
	sink_drops();
	memset(run->histogram, 0, sizeof(run->histogram));
	run->sent = run->received = run->misdelivered = run->reordered = run->stale = run->foreign = run->latencies = 0;
	run->send_errors = run->dropped_at_entry = run->forgiven_ns = 0;
	run->id++;
	cpu_before = cpu_ns();
	start = due = clock_ns(CLOCK_MONOTONIC);
	end = start + milliseconds * 1000000ull;
	while ((now = clock_ns(CLOCK_MONOTONIC)) < end) {
		if (now >= due) {
			burst_send(run, &sides[turn++ % SIDES], burst);
			due += interval;
			if (now > due + LATE_NS) {
				run->forgiven_ns += now - due;
				due = now;
			}
			if (++since_drain < 64)
				continue;
		}
		since_drain = 0;
		rings_drain(run);
		now = clock_ns(CLOCK_MONOTONIC);
		if (due > now + 5000) {
			struct timespec until = { .tv_sec = (time_t)(due / NS), .tv_nsec = (long)(due % NS) };

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
	}
	seconds = (double)(now - start) / 1e9;
	cpu = (double)(cpu_ns() - cpu_before) / 1e9;
	quiet_since = now;
	/* What is on its way may still arrive: until 150 ms pass without any, at most 1 s. */
	while ((now = clock_ns(CLOCK_MONOTONIC)) < quiet_since + NS && quiet < 150) {
		struct timespec pause = { .tv_nsec = 5000000 };

		nanosleep(&pause, NULL);
		quiet = rings_drain(run) ? 0 : quiet + 5;
	}
	drops = sink_drops();
	for (size_t i = 0; i < flow_count; i++)
		if (flows[i].sent - flows[i].received > worst)
			worst = flows[i].sent - flows[i].received;
	printf("{\"offered_pps\": %llu, \"seconds\": %.4f, \"sent\": %llu, \"received\": %llu, \"lost\": %lld, "
	       "\"worst_flow_lost\": %llu, \"misdelivered\": %llu, \"reordered\": %llu, \"stale\": %llu, \"foreign\": %llu, "
	       "\"dropped_at_entry\": %llu, \"send_errors\": %llu, \"sink_drops\": %llu, \"forgiven_ms\": %.1f, "
	       "\"generator_cpu\": %.4f, \"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f}}\n",
	       (unsigned long long)pps, seconds, (unsigned long long)run->sent, (unsigned long long)run->received,
	       (long long)(run->sent - run->received), (unsigned long long)worst, (unsigned long long)run->misdelivered,
	       (unsigned long long)run->reordered, (unsigned long long)run->stale, (unsigned long long)run->foreign,
	       (unsigned long long)run->dropped_at_entry, (unsigned long long)run->send_errors, (unsigned long long)drops,
	       (double)run->forgiven_ns / 1e6, cpu / seconds, (double)percentile_ns(run, 0.5) / 1e3,
	       (double)percentile_ns(run, 0.99) / 1e3, (double)percentile_ns(run, 0.999) / 1e3);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static struct run run;
	char line[256];

	if (argc != 6) {
		fprintf(stderr, "usage: media_load IFNAME_A IFNAME_B RELAY_MAC_A RELAY_MAC_B FLOWS\n");
		return 2;
	}
	for (int s = 0; s < SIDES; s++)
		side_open(&sides[s], argv[1 + s], argv[3 + s]);
	flows_read(argv[5]);
	if (!sides[0].flow_count || !sides[1].flow_count) {
		fprintf(stderr, "media_load: each side needs a flow\n");
		return 1;
	}
	printf("{\"flows\": %zu}\n", flow_count);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		unsigned long long pps, milliseconds;
		unsigned int burst;

		if (sscanf(line, "run %llu %llu %u", &pps, &milliseconds, &burst) != 3 || !pps || !burst) {
			fprintf(stderr, "media_load: not understood: %s", line);
			return 1;
		}
		run_media(&run, pps, milliseconds, burst);
	}
	return 0;
}
