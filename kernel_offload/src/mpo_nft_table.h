/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The table: its maps, chains and rules, in both forms. What is said here of IPv4 goes for IPv6, where 6 stands for 4.
 *
 * A base chain "in_INDEX" per device, on its ingress, leads to the chain media4 (lo: loop4), whose rules test for RTP
 * and look the packet up in
 *   flows4                 source and relay endpoint of what is forwarded
 *   open4                  relay endpoint: the same from any source
 *   local4, local_open4    (loop4) the same for what stays on this host
 *
 * What comes from an agent on this host for one elsewhere is left to the socket: a packet that arrived on lo and has to
 * wait for its neighbour's address is sent to lo again when that is known, and lost.
 *
 * Readable form: these yield a mark, way << 20 | slot, which is the key of sport4, daddr4 and dport4 (what to write into
 * the packet; sport4 counts) and, without the slot, of ways4, which leads to a chain "wayN_4" that holds what many flows
 * have in common: source address, DSCP, device, gateway. The mark is 0 again when the packet leaves. Flows are data
 * only: an element with a verdict, or a chain, per flow would have the kernel walk through all of them at each
 * transaction (14 ms at 20 000 flows).
 *
 * Fast form: they yield all that is written into the packet at once, and count.
 */
#ifndef MPO_NFT_TABLE_H
#define MPO_NFT_TABLE_H

#include "mpo_nft_rule.h"

#define MPO_NFT_NAME_LENGTH 96

enum mpo_nft_map {
	MPO_NFT_FLOWS,
	MPO_NFT_OPEN,
	MPO_NFT_LOCAL,
	MPO_NFT_LOCAL_OPEN,
	MPO_NFT_ENTRIES,	/* the maps before this one are what arriving packets are looked up in */
	MPO_NFT_SPORT = MPO_NFT_ENTRIES,
	MPO_NFT_DADDR,
	MPO_NFT_DPORT,
	MPO_NFT_WAYS,
	MPO_NFT_MAPS,
};

#define MPO_NFT_SLOT_BITS 20
#define MPO_NFT_SLOT_MASK ((1u << MPO_NFT_SLOT_BITS) - 1)
#define MPO_NFT_WAYS_MAX 4095u

/* Families by index. */
#define MPO_NFT_IP4 0
#define MPO_NFT_IP6 1
#define MPO_NFT_FAMILIES 2

struct mpo_nft_shape {
	char name[MPO_NFT_NAME_LENGTH];	/* of the table */
	char comment[64];		/* on the table: by which it is recognised */
	__u32 form, flags, slots;
	__u32 longest;	/* longer IP packets go up; 0: all are short enough */
};

/* What flows have in common that leave by the same way. */
struct mpo_nft_way {
	__u8 sender[16];	/* as in struct mpo_endpoint */
	__u8 gateway[16];	/* all zero: the target is a neighbour */
	__u32 ifindex;		/* 0: accepted here */
	__u8 tos;
	__u8 family;
	__u8 zero[2];
};

/* The value of an element of the fast form, and where it is in the registers. */
struct mpo_nft_fast4 {
	__u8 saddr[4], daddr[4];
	__be16 sport, dport;
	__u8 hop[4];
	__u32 ifindex;
	__u8 head[4];	/* the first two bytes of the header, and two of padding */
};
struct mpo_nft_fast6 {
	__u8 saddr[16], daddr[16];
	__be16 sport, dport;
	__u8 hop[16];
	__u32 ifindex;
	__u8 head[4];	/* the first four bytes of the header */
};

const char *mpo_nft_map_name(int family, int map);

/* The length of keys of flows4 and the like. */
__u32 mpo_nft_key_length(const struct mpo_nft_shape *shape, int family, int map);

/* All of these append to a transaction; 0 or -ENOMEM. */
int mpo_nft_table_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape);
void mpo_nft_table_delete(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape);
int mpo_nft_maps_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape);
/* A chain without rules, whether it is there already or not. @device: hook it there, for a chain that is not. */
int mpo_nft_chain_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain,
		      const char *device);
void mpo_nft_chain_delete(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain);
/* The chains media4, media6, loop4, loop6 with their rules, instead of those that they have. */
int mpo_nft_rules_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape);
/* A message that changes nothing, for the time it takes the kernel to carry it out and to notify of it. */
int mpo_nft_nothing_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, __u32 tag);
/* The rules of the base chain of a device. @tagged: it has VLAN devices on top. */
int mpo_nft_hook_rules_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain,
			   bool loopback, bool tagged);
void mpo_nft_way_name(char *name, int family, __u32 number);
/* The chain of a way, its rule, and its element in ways4, with @comment. */
int mpo_nft_way_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, __u32 number,
		    const struct mpo_nft_way *way, const char *comment);
int mpo_nft_way_delete(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, __u32 number, int family);

/*
 * Add (@flags NLM_F_CREATE) or remove an element. @value NULL on removal; @chain instead of @value in ways4. @comment
 * may be NULL.
 */
int mpo_nft_element(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, __u16 type, __u16 flags, __u32 tag,
		    const char *map, const void *key, __u32 key_length, const void *value, __u32 value_length,
		    const char *chain, const char *comment);

#endif
