/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which flows are in the table, by their key: nftables could only be asked for all of them. */
#ifndef MPO_NFT_FLOWS_H
#define MPO_NFT_FLOWS_H

#include <stdbool.h>

#include "mpo_abi.h"

#define MPO_NFT_NONE 0xffffffffu

/* What one flow has counted, in IP packets and their bytes: struct mpo_flow_stats has the payload. */
struct mpo_nft_count {
	__u64 packets, bytes;
};

struct mpo_nft_flow {
	struct mpo_endpoint local;
	struct mpo_flow flow;
	__u32 next;		/* of its bucket, or of the free ones */
	__u32 way;		/* number; 0 in the fast form */
	__u8 gateway[16];	/* as in struct mpo_nft_way */
	struct mpo_nft_count before;	/* by elements that counted for this slot and are removed */
	struct mpo_nft_count now;	/* by the present element, as read last */
	bool used;
};

struct mpo_nft_flows {
	struct mpo_nft_flow *flows;
	__u32 *buckets;
	__u32 *by_slot;
	__u32 capacity, bucket_mask, count;
	__u32 free;	/* the first of the free ones, by .next */
	__u32 fresh;	/* this one and those after it have never been used */
};

/* -ENOMEM. Memory is taken as flows come. */
int mpo_nft_flows_create(struct mpo_nft_flows *flows, __u32 capacity);
void mpo_nft_flows_destroy(struct mpo_nft_flows *flows);
void mpo_nft_flows_clear(struct mpo_nft_flows *flows);

struct mpo_nft_flow *mpo_nft_flows_find(const struct mpo_nft_flows *flows, const struct mpo_endpoint *local);
/* The flow that counts in a slot, NULL if none does. */
struct mpo_nft_flow *mpo_nft_flows_of_slot(const struct mpo_nft_flows *flows, __u32 slot);
/* A new one, zeroed but for its key and slot. NULL: full, or another flow counts in that slot. */
struct mpo_nft_flow *mpo_nft_flows_add(struct mpo_nft_flows *flows, const struct mpo_endpoint *local, __u32 slot);
void mpo_nft_flows_remove(struct mpo_nft_flows *flows, struct mpo_nft_flow *flow);

#endif
