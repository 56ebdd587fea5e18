/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>

#include "mpo_nft_rule.h"

/* The expression belongs to the rule as soon as it is in it. */
static struct nftnl_expr *expression_add(struct mpo_nft_rule *rule, const char *name)
{
	const struct mpo_nft_lib *lib = rule->talk->lib;
	struct nftnl_expr *expression;

	if (rule->err < 0)
		return NULL;
	expression = lib->nftnl_expr_alloc(name);
	if (!expression) {
		rule->err = -ENOMEM;
		return NULL;
	}
	lib->nftnl_rule_add_expr(rule->rule, expression);
	return expression;
}

static void set_u32(struct mpo_nft_rule *rule, struct nftnl_expr *expression, __u16 what, __u32 value)
{
	rule->talk->lib->nftnl_expr_set_u32(expression, what, value);
}

void mpo_nft_rule_begin(struct mpo_nft_rule *rule, struct mpo_nft_talk *talk, const char *table, const char *chain)
{
	const struct mpo_nft_lib *lib = talk->lib;

	rule->talk = talk;
	rule->err = 0;
	rule->rule = lib->nftnl_rule_alloc();
	if (!rule->rule) {
		rule->err = -ENOMEM;
		return;
	}
	lib->nftnl_rule_set_str(rule->rule, NFTNL_RULE_TABLE, table);
	lib->nftnl_rule_set_str(rule->rule, NFTNL_RULE_CHAIN, chain);
}

int mpo_nft_rule_end(struct mpo_nft_rule *rule)
{
	const struct mpo_nft_lib *lib = rule->talk->lib;
	struct nlmsghdr *message;

	if (rule->err == 0) {
		message = mpo_nft_message(rule->talk, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, 0);
		lib->nftnl_rule_nlmsg_build_payload(message, rule->rule);
		mpo_nft_message_end(rule->talk, message);
	}
	if (rule->rule)
		lib->nftnl_rule_free(rule->rule);
	return rule->err;
}

void mpo_nft_load(struct mpo_nft_rule *rule, __u32 base, __u32 offset, __u32 length, __u32 reg)
{
	struct nftnl_expr *expression = expression_add(rule, "payload");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_BASE, base);
	set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_LEN, length);
	set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_DREG, reg);
}

void mpo_nft_store(struct mpo_nft_rule *rule, __u32 base, __u32 offset, __u32 length, __u32 reg, __u32 checksum_offset,
		   bool pseudo)
{
	struct nftnl_expr *expression = expression_add(rule, "payload");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_BASE, base);
	set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_LEN, length);
	set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_SREG, reg);
	if (checksum_offset) {
		set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_INET);
		set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_CSUM_OFFSET, checksum_offset);
	}
	if (pseudo)
		set_u32(rule, expression, NFTNL_EXPR_PAYLOAD_FLAGS, NFT_PAYLOAD_L4CSUM_PSEUDOHDR);
}

void mpo_nft_load_meta(struct mpo_nft_rule *rule, __u32 key, __u32 reg)
{
	struct nftnl_expr *expression = expression_add(rule, "meta");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_META_KEY, key);
	set_u32(rule, expression, NFTNL_EXPR_META_DREG, reg);
}

void mpo_nft_store_meta(struct mpo_nft_rule *rule, __u32 key, __u32 reg)
{
	struct nftnl_expr *expression = expression_add(rule, "meta");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_META_KEY, key);
	set_u32(rule, expression, NFTNL_EXPR_META_SREG, reg);
}

void mpo_nft_constant(struct mpo_nft_rule *rule, __u32 reg, const void *value, __u32 length)
{
	struct nftnl_expr *expression = expression_add(rule, "immediate");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_IMM_DREG, reg);
	rule->talk->lib->nftnl_expr_set(expression, NFTNL_EXPR_IMM_DATA, value, length);
}

void mpo_nft_mask(struct mpo_nft_rule *rule, __u32 reg, __u32 length, const void *mask, const void *flip)
{
	struct nftnl_expr *expression = expression_add(rule, "bitwise");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_BITWISE_SREG, reg);
	set_u32(rule, expression, NFTNL_EXPR_BITWISE_DREG, reg);
	set_u32(rule, expression, NFTNL_EXPR_BITWISE_LEN, length);
	rule->talk->lib->nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_MASK, mask, length);
	rule->talk->lib->nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_XOR, flip, length);
}

void mpo_nft_compare(struct mpo_nft_rule *rule, __u32 reg, __u32 how, const void *value, __u32 length)
{
	struct nftnl_expr *expression = expression_add(rule, "cmp");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_CMP_SREG, reg);
	set_u32(rule, expression, NFTNL_EXPR_CMP_OP, how);
	rule->talk->lib->nftnl_expr_set(expression, NFTNL_EXPR_CMP_DATA, value, length);
}

void mpo_nft_lookup(struct mpo_nft_rule *rule, const char *map, __u32 key, __u32 to)
{
	struct nftnl_expr *expression = expression_add(rule, "lookup");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_LOOKUP_SREG, key);
	set_u32(rule, expression, NFTNL_EXPR_LOOKUP_DREG, to);
	rule->talk->lib->nftnl_expr_set_str(expression, NFTNL_EXPR_LOOKUP_SET, map);
}

void mpo_nft_count(struct mpo_nft_rule *rule)
{
	(void)expression_add(rule, "counter");
}

void mpo_nft_verdict(struct mpo_nft_rule *rule, int verdict, const char *chain)
{
	struct nftnl_expr *expression = expression_add(rule, "immediate");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	if (chain)
		rule->talk->lib->nftnl_expr_set_str(expression, NFTNL_EXPR_IMM_CHAIN, chain);
	set_u32(rule, expression, NFTNL_EXPR_IMM_VERDICT, (__u32)verdict);
}

void mpo_nft_forward(struct mpo_nft_rule *rule, __u32 device, __u32 address, __u32 protocol)
{
	struct nftnl_expr *expression = expression_add(rule, "fwd");

	if (!expression)
		return;
	set_u32(rule, expression, NFTNL_EXPR_FWD_SREG_DEV, device);
	set_u32(rule, expression, NFTNL_EXPR_FWD_SREG_ADDR, address);
	set_u32(rule, expression, NFTNL_EXPR_FWD_NFPROTO, protocol);
}
