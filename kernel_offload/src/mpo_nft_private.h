/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef MPO_NFT_PRIVATE_H
#define MPO_NFT_PRIVATE_H

#include "mpo_nft.h"
#include "mpo_nft_flows.h"
#include "mpo_nft_table.h"

struct mpo_nft_used_way {
	struct mpo_nft_way way;
	__u32 flows;	/* how many leave by it; 0: it can go */
	bool used;
};

struct mpo_nft {
	struct mpo_nft_lib lib;
	struct mpo_nft_talk talk;
	struct mpo_nft_shape shape;
	struct mpo_nft_flows flows;
	struct mpo_flow_stats *stats;
	int monitor_fd;
	int route_fd;
	__u64 table_handle;
	__u32 shortest_mtu;	/* of the devices but lo, and of the ways of flows; 0: not known */
	__u32 in_map[MPO_NFT_FAMILIES][MPO_NFT_ENTRIES];	/* how many flows */
	__u32 ways_end;		/* no way from this number on is used */
	struct mpo_nft_used_way ways[MPO_NFT_WAYS_MAX + 1];	/* by number; none has 0 */
};

int mpo_nft_family_of(const struct mpo_endpoint *endpoint);
int mpo_nft_map_of(const struct mpo_flow *flow);

/* mpo_nft_elements.c: what a flow is in the kernel. */

#define MPO_NFT_KEY_MAX 40

struct mpo_nft_element {
	int family, map;
	__u32 key_length, value_length;
	__u8 key[MPO_NFT_KEY_MAX];
	__u8 value[64];
};
#define MPO_NFT_ELEMENTS_MAX 4

/* The elements of a flow, the one that leads to it first. Returns how many. */
int mpo_nft_elements_of(const struct mpo_nft *nft, const struct mpo_nft_flow *flow, struct mpo_nft_element *elements);
/* Which of them counts. */
int mpo_nft_counting(const struct mpo_nft *nft);
/* The comment on the first element, and on a way: what is not in the elements otherwise. */
#define MPO_NFT_COMMENT_LENGTH 128
void mpo_nft_flow_comment(const struct mpo_flow *flow, char *comment);
void mpo_nft_way_comment(const struct mpo_nft_way *way, char *comment);

/* mpo_nft_ways.c */

/* The number of a way, made in the transaction that is open if it is new (*made). -ENOSPC, -ENOMEM. */
int mpo_nft_ways_get(struct mpo_nft *nft, const struct mpo_nft_way *way, bool *made);
/* Remove those that no flow uses. */
int mpo_nft_ways_sweep(struct mpo_nft *nft);
void mpo_nft_ways_clear(struct mpo_nft *nft);

/* mpo_nft_read.c */

/* An element as the kernel sends it. Pointers are into the message. */
struct mpo_nft_read {
	const void *key;
	const void *value;
	const char *comment;	/* not necessarily NUL-terminated */
	size_t key_length, value_length, comment_length;
	struct mpo_nft_count count;
};
/* Call @each for the elements of a message about map @map of this table, and for no other message. */
void mpo_nft_read_elements(const struct mpo_nft *nft, const struct nlmsghdr *message, const char *map,
			   void (*each)(void *context, const struct mpo_nft_read *element), void *context);
/* Call @each for the elements of a map. */
int mpo_nft_read_map(struct mpo_nft *nft, int family, int map,
		     void (*each)(void *context, const struct mpo_nft_read *element), void *context);
/* Find out which flows are in the table. -EBADMSG: it is not as we leave it. */
int mpo_nft_read_flows(struct mpo_nft *nft);
/* Bring a flow's count into the statistics. @grown: it has just received packets. */
void mpo_nft_stats_write(struct mpo_nft *nft, int family, __u32 slot, __u32 generation,
			 const struct mpo_nft_count *count, bool grown);

/* mpo_nft_apply.c */

/* Keep the books of maps and ways when a flow comes and goes. */
void mpo_nft_flow_entered(struct mpo_nft *nft, const struct mpo_nft_flow *flow);
void mpo_nft_flow_left(struct mpo_nft *nft, const struct mpo_nft_flow *flow);

#endif
