/* SPDX-License-Identifier: GPL-3.0-or-later */
/* nftables rules, expression by expression, appended to a transaction. */
#ifndef MPO_NFT_RULE_H
#define MPO_NFT_RULE_H

#include "mpo_nft_talk.h"

/* A rule that is being written. Failures are kept and reported by mpo_nft_rule_end(). */
struct mpo_nft_rule {
	struct mpo_nft_talk *talk;
	struct nftnl_rule *rule;
	int err;
};

/* The number of the 32-bit register @index (0..15). Expressions may use several from there on. */
#define MPO_NFT_REG(index) ((__u32)NFT_REG32_00 + (index))

void mpo_nft_rule_begin(struct mpo_nft_rule *rule, struct mpo_nft_talk *talk, const char *table, const char *chain);
/* Append it to the transaction. 0 or -ENOMEM. */
int mpo_nft_rule_end(struct mpo_nft_rule *rule);

/* @base: enum nft_payload_bases; @offset and @length in bytes. */
void mpo_nft_load(struct mpo_nft_rule *rule, __u32 base, __u32 offset, __u32 length, __u32 reg);
/* @checksum_offset: of the sum to correct, 0 for none; @pseudo: correct that of the transport header, too. */
void mpo_nft_store(struct mpo_nft_rule *rule, __u32 base, __u32 offset, __u32 length, __u32 reg, __u32 checksum_offset,
		   bool pseudo);
void mpo_nft_load_meta(struct mpo_nft_rule *rule, __u32 key, __u32 reg);
void mpo_nft_store_meta(struct mpo_nft_rule *rule, __u32 key, __u32 reg);
void mpo_nft_constant(struct mpo_nft_rule *rule, __u32 reg, const void *value, __u32 length);
void mpo_nft_mask(struct mpo_nft_rule *rule, __u32 reg, __u32 length, const void *mask, const void *flip);
/* Go on only if the register compares so (NFT_CMP_*). */
void mpo_nft_compare(struct mpo_nft_rule *rule, __u32 reg, __u32 how, const void *value, __u32 length);
/* Go on only if the key is in @map; its value goes to @to (NFT_REG_VERDICT for a map of verdicts). */
void mpo_nft_lookup(struct mpo_nft_rule *rule, const char *map, __u32 key, __u32 to);
void mpo_nft_count(struct mpo_nft_rule *rule);
/* @verdict: NF_ACCEPT, NF_DROP, or NFT_GOTO to @chain. */
void mpo_nft_verdict(struct mpo_nft_rule *rule, int verdict, const char *chain);
/* @protocol: NFPROTO_IPV4 or NFPROTO_IPV6, of the neighbour whose address is in @address. */
void mpo_nft_forward(struct mpo_nft_rule *rule, __u32 device, __u32 address, __u32 protocol);

#endif
