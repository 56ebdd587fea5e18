/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <string.h>

#include "mpo_address.h"
#include "mpo_load_flow.h"

#define AT_IP 14u
#define AT_PROTOCOL 23u
#define AT_DESTINATION 30u
#define AT_UDP 34u
#define AT_DESTINATION_PORT 36u
#define AT_RTP 42u
#define AT_SEQUENCE 44u
#define AT_TIMESTAMP 46u
#define AT_SSRC 50u
#define AT_SENT_AT 54u
#define AT_RUN 62u

#define FIRST_SSRC 0x10000000u
#define PCMA 8u
#define PCMA_SILENCE 0xd5
#define SAMPLES 160u

static void put32(__u8 *at, __u32 value)
{
	value = htonl(value);
	memcpy(at, &value, sizeof(value));
}

static void put16(__u8 *at, __u16 value)
{
	value = htons(value);
	memcpy(at, &value, sizeof(value));
}

static __u32 get32(const __u8 *at)
{
	__u32 value;

	memcpy(&value, at, sizeof(value));
	return ntohl(value);
}

static __u16 get16(const __u8 *at)
{
	return (__u16)(at[0] << 8 | at[1]);
}

static __u16 ip_checksum(const __u8 *header)
{
	__u32 sum = 0;

	for (unsigned int i = 0; i < 20; i += 2)
		sum += (__u32)header[i] << 8 | header[i + 1];
	sum = (sum >> 16) + (sum & 0xffff);
	sum += sum >> 16;
	return htons((__u16)~sum);
}

static bool is_ipv4(const struct mpo_endpoint *endpoint)
{
	return memcmp(endpoint->address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix)) == 0;
}

int mpo_load_item_build(struct mpo_load_item *item, const struct mpo_load_flow *flow, __u32 index)
{
	/* The UDP checksum is left out (0, RFC 768): the receiver then works as behind a card that checks it. */
	struct udphdr udp = { .source = htons(flow->source.port), .dest = htons(flow->relay.port),
			      .len = htons(8 + 12 + MPO_LOAD_PAYLOAD) };
	struct iphdr ip = { .version = 4, .ihl = 5, .tot_len = htons(20 + 8 + 12 + MPO_LOAD_PAYLOAD),
			    .frag_off = htons(IP_DF), .ttl = 64, .protocol = IPPROTO_UDP };
	__u8 *frame = item->frame;

	if (flow->side >= MPO_LOAD_SIDES)
		return -EINVAL;
	if (!is_ipv4(&flow->source) || !is_ipv4(&flow->relay) || !is_ipv4(&flow->sink))
		return -EAFNOSUPPORT;
	memset(item, 0, sizeof(*item));
	item->side = (__u8)flow->side;
	memcpy(item->sink, flow->sink.address + 12, 4);
	put16(item->sink + 4, flow->sink.port);
	memcpy(&ip.saddr, flow->source.address + 12, 4);
	memcpy(&ip.daddr, flow->relay.address + 12, 4);
	ip.check = ip_checksum((const __u8 *)&ip);
	put16(frame + 12, ETH_P_IP);
	memcpy(frame + AT_IP, &ip, sizeof(ip));
	memcpy(frame + AT_UDP, &udp, sizeof(udp));
	frame[AT_RTP] = 0x80;	/* version 2 */
	frame[AT_RTP + 1] = PCMA;
	put32(frame + AT_SSRC, FIRST_SSRC + index);
	memset(frame + AT_SSRC + 4, PCMA_SILENCE, MPO_LOAD_PAYLOAD);
	/* Different from flow to flow, so that a mix-up shows. */
	item->sequence = (__u16)(index * 7919u);
	item->timestamp = index * 104729u;
	return 0;
}

void mpo_load_item_address(struct mpo_load_item *item, const __u8 own_mac[6], const __u8 relay_mac[6])
{
	memcpy(item->frame, relay_mac, 6);
	memcpy(item->frame + 6, own_mac, 6);
}

void mpo_load_item_begin(struct mpo_load_item *item)
{
	item->sent = item->received = 0;
	item->first_sequence = item->sequence;
	item->last_step = 0;
}

void mpo_load_item_stamp(struct mpo_load_item *item, __u64 now, __u32 run)
{
	put16(item->frame + AT_SEQUENCE, item->sequence++);
	put32(item->frame + AT_TIMESTAMP, item->timestamp);
	item->timestamp += SAMPLES;
	memcpy(item->frame + AT_SENT_AT, &now, sizeof(now));
	put32(item->frame + AT_RUN, run);
}

enum mpo_load_arrival mpo_load_item_arrived(struct mpo_load_item *items, size_t count, __u32 side, __u32 run,
					    const __u8 *frame, size_t length, size_t full_length, __u64 *sent_at)
{
	struct mpo_load_item *item;
	__u32 ssrc, step;

	/* Router solicitations, RTCP: not media. */
	if (length < MPO_LOAD_SNAP || full_length != MPO_LOAD_FRAME || get16(frame + 12) != ETH_P_IP ||
	    frame[AT_PROTOCOL] != IPPROTO_UDP)
		return MPO_LOAD_FOREIGN;
	ssrc = get32(frame + AT_SSRC);
	if (ssrc < FIRST_SSRC || ssrc - FIRST_SSRC >= count)
		return MPO_LOAD_FOREIGN;
	if (get32(frame + AT_RUN) != run)
		return MPO_LOAD_STALE;
	item = &items[ssrc - FIRST_SSRC];
	if (item->side == side || memcmp(frame + AT_DESTINATION, item->sink, 4) ||
	    memcmp(frame + AT_DESTINATION_PORT, item->sink + 4, 2))
		return MPO_LOAD_MISDELIVERED;
	memcpy(sent_at, frame + AT_SENT_AT, sizeof(*sent_at));
	item->received++;
	step = (__u16)(get16(frame + AT_SEQUENCE) - item->first_sequence) + 1u;
	if (step <= item->last_step && item->last_step - step < 0x8000)
		return MPO_LOAD_REORDERED;
	item->last_step = step;
	return MPO_LOAD_OURS;
}
