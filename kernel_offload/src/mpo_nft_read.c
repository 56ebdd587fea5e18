/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <arpa/inet.h>

#include "mpo_address.h"
#include "mpo_nft_private.h"
#include "mpo_shared.h"

#define NS 1000000000ull
#define HEADERS_IP4 (20 + 8)	/* nftables counts IP packets; options never get that far */
#define HEADERS_IP6 (40 + 8)

static void value_read(struct mpo_nft_attributes within, int type, const void **value, size_t *length)
{
	const struct nlattr *found = mpo_nft_find(mpo_nft_nested(mpo_nft_find(within, type)), NFTA_DATA_VALUE);

	*value = found ? mpo_nft_payload(found) : NULL;
	*length = found ? mpo_nft_payload_length(found) : 0;
}

static void count_read(const struct nlattr *expression, struct mpo_nft_count *count)
{
	struct mpo_nft_attributes within = mpo_nft_nested(expression);

	if (!mpo_nft_is(mpo_nft_find(within, NFTA_EXPR_NAME), "counter"))
		return;
	within = mpo_nft_nested(mpo_nft_find(within, NFTA_EXPR_DATA));
	count->packets = mpo_nft_u64(mpo_nft_find(within, NFTA_COUNTER_PACKETS));
	count->bytes = mpo_nft_u64(mpo_nft_find(within, NFTA_COUNTER_BYTES));
}

static void comment_read(const struct nlattr *userdata, struct mpo_nft_read *element)
{
	const __u8 *at = userdata ? mpo_nft_payload(userdata) : NULL;
	size_t length = userdata ? mpo_nft_payload_length(userdata) : 0;

	/* Type 0 is the comment, and the only one that we write. */
	if (length >= 2 && at[0] == 0 && at[1] + 2u <= length) {
		element->comment = (const char *)at + 2;
		element->comment_length = at[1];
	}
}

void mpo_nft_read_elements(const struct mpo_nft *nft, const struct nlmsghdr *message, const char *map,
			   void (*each)(void *context, const struct mpo_nft_read *element), void *context)
{
	struct mpo_nft_attributes all = mpo_nft_message_attributes(message, sizeof(struct nfgenmsg));
	struct mpo_nft_attributes list, within;
	const struct nlattr *item;
	struct mpo_nft_read element;

	if ((message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM) &&
	     message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELSETELEM)) ||
	    !mpo_nft_is(mpo_nft_find(all, NFTA_SET_ELEM_LIST_TABLE), nft->shape.name) ||
	    !mpo_nft_is(mpo_nft_find(all, NFTA_SET_ELEM_LIST_SET), map))
		return;
	list = mpo_nft_nested(mpo_nft_find(all, NFTA_SET_ELEM_LIST_ELEMENTS));
	while ((item = mpo_nft_next(&list)) != NULL) {
		memset(&element, 0, sizeof(element));
		within = mpo_nft_nested(item);
		value_read(within, NFTA_SET_ELEM_KEY, &element.key, &element.key_length);
		value_read(within, NFTA_SET_ELEM_DATA, &element.value, &element.value_length);
		count_read(mpo_nft_find(within, NFTA_SET_ELEM_EXPR), &element.count);
		comment_read(mpo_nft_find(within, NFTA_SET_ELEM_USERDATA), &element);
		if (element.key)
			each(context, &element);
	}
}

struct reading {
	struct mpo_nft *nft;
	int family, map;
	void (*each)(void *context, const struct mpo_nft_read *element);
	void *context;
	__u64 now_ns;
	int err;
};

static void map_ask(const void *about, struct nlmsghdr *request)
{
	const struct reading *reading = about;

	mpo_nft_put_text(request, NFTA_SET_ELEM_LIST_TABLE, reading->nft->shape.name);
	mpo_nft_put_text(request, NFTA_SET_ELEM_LIST_SET, mpo_nft_map_name(reading->family, reading->map));
}

static void map_answer(void *context, __u32 tag, int error, const struct nlmsghdr *message)
{
	const struct reading *reading = context;

	(void)tag;
	(void)error;
	if (message)
		mpo_nft_read_elements(reading->nft, message, mpo_nft_map_name(reading->family, reading->map),
				      reading->each, reading->context);
}

int mpo_nft_read_map(struct mpo_nft *nft, int family, int map,
		     void (*each)(void *context, const struct mpo_nft_read *element), void *context)
{
	struct reading reading = { .nft = nft, .family = family, .map = map, .each = each, .context = context };
	int err;

	err = mpo_nft_ask(&nft->talk, NFT_MSG_GETSETELEM, NLM_F_DUMP, map_ask, &reading, map_answer, &reading);
	/* Any change of nftables says so, but only we change this map, and it has a fixed number of buckets. */
	return err == -EINTR ? 0 : err;
}

void mpo_nft_stats_write(struct mpo_nft *nft, int family, __u32 slot, __u32 generation,
			 const struct mpo_nft_count *count, bool grown)
{
	struct mpo_flow_stats *stats = &nft->stats[slot];
	__u32 headers = family == MPO_NFT_IP4 ? HEADERS_IP4 : HEADERS_IP6;
	struct timespec now;

	/* Whoever owns the slot may have prepared it for another flow already. */
	if (mpo_own(&stats->generation) != generation && mpo_own(&stats->generation) != 0)
		return;
	mpo_put(&stats->generation, generation);
	mpo_put(&stats->packets, count->packets);
	mpo_put(&stats->bytes, count->bytes - count->packets * headers);
	if (grown) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		mpo_put(&stats->last_seen_ns, (__u64)now.tv_sec * NS + (__u64)now.tv_nsec);
	}
}

static void mark_of(const struct mpo_nft_read *element, __u32 *mark)
{
	*mark = 0;
	if (element->key_length == sizeof(*mark))
		memcpy(mark, element->key, sizeof(*mark));
}

static void read_address(const __u8 *from, int family, __u8 address[16])
{
	if (family == MPO_NFT_IP6) {
		memcpy(address, from, 16);
		return;
	}
	memcpy(address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix));
	memcpy(address + 12, from, 4);
}

static __u16 read_port(const __u8 *from)
{
	return (__u16)(from[0] << 8 | from[1]);
}

/* The inverse of entry_key() in mpo_nft_elements.c. */
static bool read_key(const struct reading *reading, const struct mpo_nft_read *element, struct mpo_endpoint *source,
		     struct mpo_endpoint *local)
{
	bool has_source = reading->map == MPO_NFT_FLOWS || reading->map == MPO_NFT_LOCAL;
	__u32 address = reading->family == MPO_NFT_IP4 ? 4 : 16;
	const __u8 *key = element->key;

	memset(source, 0, sizeof(*source));
	memset(local, 0, sizeof(*local));
	if (element->key_length != mpo_nft_key_length(&reading->nft->shape, reading->family, reading->map))
		return false;
	if (!has_source) {
		read_address(key, reading->family, local->address);
		local->port = read_port(key + address);
		return true;
	}
	read_address(key, reading->family, source->address);
	if (reading->nft->shape.form == MPO_NFT_FAST) {
		read_address(key + address, reading->family, local->address);
		source->port = read_port(key + 2 * address);
		local->port = read_port(key + 2 * address + 2);
	} else {
		source->port = read_port(key + address);
		read_address(key + address + 4, reading->family, local->address);
		local->port = read_port(key + 2 * address + 4);
	}
	return true;
}

static void count_update(struct mpo_nft *nft, int family, struct mpo_nft_flow *flow, const struct mpo_nft_count *now)
{
	struct mpo_nft_count sum = { flow->before.packets + now->packets, flow->before.bytes + now->bytes };
	bool grown = now->packets != flow->now.packets;

	flow->now = *now;
	if (grown)
		mpo_nft_stats_write(nft, family, flow->flow.slot, flow->flow.generation, &sum, true);
}

static void poll_each(void *context, const struct mpo_nft_read *element)
{
	const struct reading *reading = context;
	struct mpo_endpoint source, local;
	struct mpo_nft_flow *flow;
	__u32 mark;

	if (reading->map == MPO_NFT_SPORT) {
		mark_of(element, &mark);
		flow = mpo_nft_flows_of_slot(&reading->nft->flows, mark & MPO_NFT_SLOT_MASK);
	} else {
		if (!read_key(reading, element, &source, &local))
			return;
		flow = mpo_nft_flows_find(&reading->nft->flows, &local);
	}
	if (flow)
		count_update(reading->nft, reading->family, flow, &element->count);
}

int mpo_nft_poll(struct mpo_nft *nft)
{
	struct reading reading = { .nft = nft };
	__u32 in_family;
	int err, map;

	for (reading.family = 0; reading.family < MPO_NFT_FAMILIES; reading.family++) {
		in_family = 0;
		for (map = 0; map < MPO_NFT_ENTRIES; map++) {
			in_family += nft->in_map[reading.family][map];
			if (nft->shape.form != MPO_NFT_FAST || !nft->in_map[reading.family][map])
				continue;
			reading.map = map;
			err = mpo_nft_read_map(nft, reading.family, map, poll_each, &reading);
			if (err < 0)
				return err;
		}
		if (nft->shape.form == MPO_NFT_FAST || !in_family)
			continue;
		reading.map = MPO_NFT_SPORT;
		err = mpo_nft_read_map(nft, reading.family, MPO_NFT_SPORT, poll_each, &reading);
		if (err < 0)
			return err;
	}
	return mpo_nft_ways_sweep(nft);
}

/* ---- what a dead process left ---- */

static bool comment_scan(const struct mpo_nft_read *element, char text[MPO_NFT_COMMENT_LENGTH])
{
	if (!element->comment || element->comment_length == 0 || element->comment_length >= MPO_NFT_COMMENT_LENGTH)
		return false;
	memcpy(text, element->comment, element->comment_length);
	text[element->comment_length] = '\0';
	return true;
}

static void way_each(void *context, const struct mpo_nft_read *element)
{
	char text[MPO_NFT_COMMENT_LENGTH], sender[48], gateway[48];
	struct mpo_nft_way way = { 0 };
	struct reading *reading = context;
	unsigned int ifindex, tos;
	__u32 number;

	mark_of(element, &number);
	number >>= MPO_NFT_SLOT_BITS;
	if (!number || !comment_scan(element, text) ||
	    sscanf(text, "from %47s device %u via %47s tos %u", sender, &ifindex, gateway, &tos) != 4 || tos > 255 ||
	    inet_pton(AF_INET6, sender, way.sender) != 1 || inet_pton(AF_INET6, gateway, way.gateway) != 1) {
		reading->err = -EBADMSG;
		return;
	}
	way.ifindex = ifindex;
	way.tos = (__u8)tos;
	way.family = (__u8)reading->family;
	reading->nft->ways[number] = (struct mpo_nft_used_way){ .way = way, .used = true };
	if (number >= reading->nft->ways_end)
		reading->nft->ways_end = number + 1;
}

static bool read_value_fast(const struct reading *reading, const struct mpo_nft_read *element,
			    struct mpo_nft_flow *found)
{
	struct mpo_flow *flow = &found->flow;
	__u32 address = reading->family == MPO_NFT_IP4 ? 4 : 16;
	const __u8 *value = element->value;
	const __u8 *head = value + 3 * address + 4 + sizeof(flow->ifindex);

	if (element->value_length != 3 * address + 4 + sizeof(flow->ifindex) + 4)
		return false;
	read_address(value, reading->family, flow->sender.address);
	read_address(value + address, reading->family, flow->target.address);
	flow->sender.port = read_port(value + 2 * address);
	flow->target.port = read_port(value + 2 * address + 2);
	if (memcmp(value + address, value + 2 * address + 4, address) != 0)
		read_address(value + 2 * address + 4, reading->family, found->gateway);
	memcpy(&flow->ifindex, value + 3 * address + 4, sizeof(flow->ifindex));
	flow->tos = reading->family == MPO_NFT_IP4 ? head[1] : (__u8)((head[0] & 0x0f) << 4 | head[1] >> 4);
	return true;
}

static bool read_mark(const struct reading *reading, const struct mpo_nft_read *element, struct mpo_nft_flow *flow)
{
	const struct mpo_nft_used_way *way;
	__u32 mark;

	if (element->value_length != sizeof(mark))
		return false;
	memcpy(&mark, element->value, sizeof(mark));
	flow->way = mark >> MPO_NFT_SLOT_BITS;
	way = &reading->nft->ways[flow->way];
	if (!way->used || (mark & MPO_NFT_SLOT_MASK) != flow->flow.slot)
		return false;
	memcpy(flow->flow.sender.address, way->way.sender, sizeof(way->way.sender));
	memcpy(flow->gateway, way->way.gateway, sizeof(way->way.gateway));
	flow->flow.ifindex = way->way.ifindex;
	flow->flow.tos = way->way.tos;
	return true;
}

static void entry_each(void *context, const struct mpo_nft_read *element)
{
	char text[MPO_NFT_COMMENT_LENGTH];
	struct reading *reading = context;
	struct mpo_endpoint source, local;
	unsigned int slot, generation, flags, mtu;
	struct mpo_nft_flow *flow;

	if (!read_key(reading, element, &source, &local) || !comment_scan(element, text) ||
	    sscanf(text, "slot %u generation %u flags %u mtu %u", &slot, &generation, &flags, &mtu) != 4 ||
	    flags > MPO_FLOW_FLAGS || mpo_nft_flows_find(&reading->nft->flows, &local))
		goto bad;
	flow = mpo_nft_flows_add(&reading->nft->flows, &local, slot);
	if (!flow)
		goto bad;
	flow->flow.source = source;
	flow->flow.generation = generation;
	flow->flow.flags = (__u16)flags;
	flow->flow.mtu = mtu;
	if (reading->nft->shape.form == MPO_NFT_FAST ? !read_value_fast(reading, element, flow) :
						       !read_mark(reading, element, flow))
		goto bad;
	mpo_nft_flow_entered(reading->nft, flow);
	if (reading->nft->shape.form == MPO_NFT_FAST)
		count_update(reading->nft, reading->family, flow, &element->count);
	return;
bad:
	reading->err = -EBADMSG;
}

static void part_each(void *context, const struct mpo_nft_read *element)
{
	struct reading *reading = context;
	struct mpo_nft_flow *flow;
	__u32 mark;

	mark_of(element, &mark);
	flow = mpo_nft_flows_of_slot(&reading->nft->flows, mark & MPO_NFT_SLOT_MASK);
	if (!flow || element->value_length != (reading->map != MPO_NFT_DADDR ? 2u :
					       reading->family == MPO_NFT_IP4 ? 4u : 16u)) {
		reading->err = -EBADMSG;
	} else if (reading->map == MPO_NFT_SPORT) {
		flow->flow.sender.port = read_port(element->value);
		count_update(reading->nft, reading->family, flow, &element->count);
	} else if (reading->map == MPO_NFT_DADDR) {
		read_address(element->value, reading->family, flow->flow.target.address);
	} else {
		flow->flow.target.port = read_port(element->value);
	}
}

static int read_all(struct reading *reading, int first, int end,
		    void (*each)(void *context, const struct mpo_nft_read *element))
{
	int err;

	for (reading->family = 0; reading->family < MPO_NFT_FAMILIES; reading->family++)
		for (reading->map = first; reading->map < end; reading->map++) {
			err = mpo_nft_read_map(reading->nft, reading->family, reading->map, each, reading);
			if (err < 0)
				return err == -ENOENT ? -EBADMSG : err;
		}
	return reading->err;
}

int mpo_nft_read_flows(struct mpo_nft *nft)
{
	struct reading reading = { .nft = nft };
	const struct mpo_nft_flow *flow;
	__u32 i;
	int err;

	if (nft->shape.form == MPO_NFT_FAST)
		return read_all(&reading, 0, MPO_NFT_ENTRIES, entry_each);
	err = read_all(&reading, MPO_NFT_WAYS, MPO_NFT_WAYS + 1, way_each);
	if (err == 0)
		err = read_all(&reading, 0, MPO_NFT_ENTRIES, entry_each);
	if (err == 0)
		err = read_all(&reading, MPO_NFT_SPORT, MPO_NFT_DPORT + 1, part_each);
	for (i = 0; err == 0 && i < nft->flows.fresh; i++) {
		flow = &nft->flows.flows[i];
		if (flow->used && (!flow->flow.sender.port || !flow->flow.target.port))
			err = -EBADMSG;
	}
	return err;
}
