/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>

#include "mpo_address.h"
#include "mpo_nft_private.h"

int mpo_nft_family_of(const struct mpo_endpoint *endpoint)
{
	bool mapped = memcmp(endpoint->address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix)) == 0;

	return mapped ? MPO_NFT_IP4 : MPO_NFT_IP6;
}

int mpo_nft_map_of(const struct mpo_flow *flow)
{
	if (flow->flags & MPO_FLOW_LOCAL)
		return flow->source.port ? MPO_NFT_LOCAL : MPO_NFT_LOCAL_OPEN;
	return flow->source.port ? MPO_NFT_FLOWS : MPO_NFT_OPEN;
}

static __u32 append(__u8 *to, __u32 at, const void *value, __u32 length)
{
	memcpy(to + at, value, length);
	return at + length;
}

static __u32 append_address(__u8 *to, __u32 at, int family, const __u8 address[16])
{
	return family == MPO_NFT_IP4 ? append(to, at, address + 12, 4) : append(to, at, address, 16);
}

static __u32 append_port(__u8 *to, __u32 at, __u16 port, __u32 padding)
{
	__be16 wire = htons(port);

	at = append(to, at, &wire, sizeof(wire));
	memset(to + at, 0, padding);
	return at + padding;
}

static void entry_key(const struct mpo_nft *nft, const struct mpo_nft_flow *flow, struct mpo_nft_element *entry)
{
	const struct mpo_endpoint *source = &flow->flow.source, *local = &flow->local;
	__u8 *key = entry->key;
	__u32 at = 0;

	if (!source->port) {
		at = append_address(key, at, entry->family, local->address);
		at = append_port(key, at, local->port, 2);
	} else if (nft->shape.form == MPO_NFT_FAST) {
		at = append_address(key, at, entry->family, source->address);
		at = append_address(key, at, entry->family, local->address);
		at = append_port(key, at, source->port, 0);
		at = append_port(key, at, local->port, 0);
	} else {
		at = append_address(key, at, entry->family, source->address);
		at = append_port(key, at, source->port, 2);
		at = append_address(key, at, entry->family, local->address);
		at = append_port(key, at, local->port, 2);
	}
	entry->key_length = at;
}

/* struct mpo_nft_fast4 or struct mpo_nft_fast6 */
static void entry_value_fast(const struct mpo_nft_flow *flow, struct mpo_nft_element *entry)
{
	static const __u8 nowhere[16];
	const struct mpo_flow *to = &flow->flow;
	__u8 head[4] = { 0x45, to->tos, 0, 0 };
	const __u8 *hop = flow->gateway;
	__u8 *value = entry->value;
	__u32 at = 0;

	if (entry->family == MPO_NFT_IP6) {
		head[0] = (__u8)(0x60 | to->tos >> 4);
		head[1] = (__u8)(to->tos << 4);
	}
	at = append_address(value, at, entry->family, to->sender.address);
	at = append_address(value, at, entry->family, to->target.address);
	at = append_port(value, at, to->sender.port, 0);
	at = append_port(value, at, to->target.port, 0);
	if (memcmp(hop, nowhere, sizeof(nowhere)) == 0)
		hop = to->target.address;
	at = append_address(value, at, entry->family, hop);
	at = append(value, at, &to->ifindex, sizeof(to->ifindex));
	entry->value_length = append(value, at, head, sizeof(head));
}

int mpo_nft_counting(const struct mpo_nft *nft)
{
	return nft->shape.form == MPO_NFT_FAST ? 0 : 1;
}

int mpo_nft_elements_of(const struct mpo_nft *nft, const struct mpo_nft_flow *flow, struct mpo_nft_element *elements)
{
	__u32 mark = flow->way << MPO_NFT_SLOT_BITS | flow->flow.slot;
	int family = mpo_nft_family_of(&flow->local);
	int i;

	memset(elements, 0, MPO_NFT_ELEMENTS_MAX * sizeof(*elements));
	elements[0].family = family;
	elements[0].map = mpo_nft_map_of(&flow->flow);
	entry_key(nft, flow, &elements[0]);
	if (nft->shape.form == MPO_NFT_FAST) {
		entry_value_fast(flow, &elements[0]);
		return 1;
	}
	elements[0].value_length = append(elements[0].value, 0, &mark, sizeof(mark));
	for (i = 1; i < MPO_NFT_ELEMENTS_MAX; i++) {
		elements[i].family = family;
		elements[i].map = MPO_NFT_SPORT + i - 1;
		elements[i].key_length = append(elements[i].key, 0, &mark, sizeof(mark));
	}
	elements[1].value_length = append_port(elements[1].value, 0, flow->flow.sender.port, 0);
	elements[2].value_length = append_address(elements[2].value, 0, family, flow->flow.target.address);
	elements[3].value_length = append_port(elements[3].value, 0, flow->flow.target.port, 0);
	return MPO_NFT_ELEMENTS_MAX;
}

void mpo_nft_flow_comment(const struct mpo_flow *flow, char *comment)
{
	snprintf(comment, MPO_NFT_COMMENT_LENGTH, "slot %u generation %u flags %u mtu %u", flow->slot, flow->generation,
		 flow->flags, flow->mtu);
}

void mpo_nft_way_comment(const struct mpo_nft_way *way, char *comment)
{
	char sender[INET6_ADDRSTRLEN], gateway[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, way->sender, sender, sizeof(sender));
	inet_ntop(AF_INET6, way->gateway, gateway, sizeof(gateway));
	snprintf(comment, MPO_NFT_COMMENT_LENGTH, "from %s device %u via %s tos %u", sender, way->ifindex, gateway,
		 way->tos);
}
