/* SPDX-License-Identifier: GPL-3.0-or-later */
/* libnftnl, loaded at run time: where it is missing this backend is, and nothing else. */
#ifndef MPO_NFT_LIB_H
#define MPO_NFT_LIB_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>

#define MPO_NFTNL_FUNCTIONS(X)			\
	X(nftnl_nlmsg_build_hdr)		\
	X(nftnl_batch_begin)			\
	X(nftnl_batch_end)			\
	X(nftnl_table_alloc)			\
	X(nftnl_table_free)			\
	X(nftnl_table_set_u32)			\
	X(nftnl_table_set_str)			\
	X(nftnl_table_set_data)			\
	X(nftnl_table_nlmsg_build_payload)	\
	X(nftnl_chain_alloc)			\
	X(nftnl_chain_free)			\
	X(nftnl_chain_set_u32)			\
	X(nftnl_chain_set_s32)			\
	X(nftnl_chain_set_str)			\
	X(nftnl_chain_nlmsg_build_payload)	\
	X(nftnl_rule_alloc)			\
	X(nftnl_rule_free)			\
	X(nftnl_rule_set_str)			\
	X(nftnl_rule_add_expr)			\
	X(nftnl_rule_nlmsg_build_payload)	\
	X(nftnl_expr_alloc)			\
	X(nftnl_expr_set)			\
	X(nftnl_expr_set_u32)			\
	X(nftnl_expr_set_str)			\
	X(nftnl_set_alloc)			\
	X(nftnl_set_free)			\
	X(nftnl_set_set_u32)			\
	X(nftnl_set_set_str)			\
	X(nftnl_set_set_data)			\
	X(nftnl_set_add_expr)			\
	X(nftnl_set_nlmsg_build_payload)	\
	X(nftnl_set_elem_alloc)			\
	X(nftnl_set_elem_free)			\
	X(nftnl_set_elem_set)			\
	X(nftnl_set_elem_set_u32)		\
	X(nftnl_set_elem_set_str)		\
	X(nftnl_set_elem_nlmsg_build)

struct mpo_nft_lib {
	void *handle;
#define X(name) __typeof__(name) *name;
	MPO_NFTNL_FUNCTIONS(X)
#undef X
};

/* Load it. -ENOSYS with one line in @reason (MPO_NFT_REASON_LENGTH bytes): not installed, or too old. */
int mpo_nft_lib_open(struct mpo_nft_lib *lib, char *reason);
void mpo_nft_lib_close(struct mpo_nft_lib *lib);

#endif
