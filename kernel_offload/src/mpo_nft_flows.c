/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mpo_nft_flows.h"

/* FNV-1a. Keys are our own addresses and ports: nobody outside chooses them. */
static __u32 endpoint_hash(const struct mpo_endpoint *local)
{
	__u32 hash = 2166136261u;
	size_t i;

	for (i = 0; i < sizeof(local->address); i++)
		hash = (hash ^ local->address[i]) * 16777619u;
	hash = (hash ^ (local->port & 0xff)) * 16777619u;
	return (hash ^ (local->port >> 8)) * 16777619u;
}

int mpo_nft_flows_create(struct mpo_nft_flows *flows, __u32 capacity)
{
	__u32 buckets = 16;

	while (buckets < capacity)
		buckets *= 2;
	flows->capacity = capacity;
	flows->fresh = 0;
	flows->bucket_mask = buckets - 1;
	flows->flows = calloc(capacity, sizeof(*flows->flows));
	flows->buckets = malloc(buckets * sizeof(*flows->buckets));
	flows->by_slot = malloc(capacity * sizeof(*flows->by_slot));
	if (!flows->flows || !flows->buckets || !flows->by_slot) {
		mpo_nft_flows_destroy(flows);
		return -ENOMEM;
	}
	mpo_nft_flows_clear(flows);
	return 0;
}

void mpo_nft_flows_destroy(struct mpo_nft_flows *flows)
{
	free(flows->flows);
	free(flows->buckets);
	free(flows->by_slot);
	flows->flows = NULL;
	flows->buckets = flows->by_slot = NULL;
}

void mpo_nft_flows_clear(struct mpo_nft_flows *flows)
{
	__u32 i;

	for (i = 0; i < flows->fresh; i++)
		flows->flows[i].used = false;
	memset(flows->buckets, 0xff, (flows->bucket_mask + 1) * sizeof(*flows->buckets));
	memset(flows->by_slot, 0xff, flows->capacity * sizeof(*flows->by_slot));
	flows->free = MPO_NFT_NONE;
	flows->fresh = 0;
	flows->count = 0;
}

struct mpo_nft_flow *mpo_nft_flows_find(const struct mpo_nft_flows *flows, const struct mpo_endpoint *local)
{
	__u32 at = flows->buckets[endpoint_hash(local) & flows->bucket_mask];

	while (at != MPO_NFT_NONE && memcmp(&flows->flows[at].local, local, sizeof(*local)) != 0)
		at = flows->flows[at].next;
	return at == MPO_NFT_NONE ? NULL : &flows->flows[at];
}

struct mpo_nft_flow *mpo_nft_flows_of_slot(const struct mpo_nft_flows *flows, __u32 slot)
{
	if (slot >= flows->capacity || flows->by_slot[slot] == MPO_NFT_NONE)
		return NULL;
	return &flows->flows[flows->by_slot[slot]];
}

struct mpo_nft_flow *mpo_nft_flows_add(struct mpo_nft_flows *flows, const struct mpo_endpoint *local, __u32 slot)
{
	__u32 *bucket = &flows->buckets[endpoint_hash(local) & flows->bucket_mask];
	struct mpo_nft_flow *flow;
	__u32 at;

	if (slot >= flows->capacity || flows->by_slot[slot] != MPO_NFT_NONE || flows->count == flows->capacity)
		return NULL;
	if (flows->free == MPO_NFT_NONE) {
		at = flows->fresh++;
		flow = &flows->flows[at];
	} else {
		at = flows->free;
		flow = &flows->flows[at];
		flows->free = flow->next;
	}
	memset(flow, 0, sizeof(*flow));
	flow->local = *local;
	flow->flow.slot = slot;
	flow->used = true;
	flow->next = *bucket;
	*bucket = at;
	flows->by_slot[slot] = at;
	flows->count++;
	return flow;
}

void mpo_nft_flows_remove(struct mpo_nft_flows *flows, struct mpo_nft_flow *flow)
{
	__u32 *link = &flows->buckets[endpoint_hash(&flow->local) & flows->bucket_mask];
	__u32 at = (__u32)(flow - flows->flows);

	while (*link != at)
		link = &flows->flows[*link].next;
	*link = flow->next;
	flows->by_slot[flow->flow.slot] = MPO_NFT_NONE;
	flow->used = false;
	flow->next = flows->free;
	flows->free = at;
	flows->count--;
}
