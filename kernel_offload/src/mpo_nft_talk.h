/* SPDX-License-Identifier: GPL-3.0-or-later */
/* nfnetlink: transactions, dumps, and what comes back. */
#ifndef MPO_NFT_TALK_H
#define MPO_NFT_TALK_H

#include <stdbool.h>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include "mpo_nft_lib.h"
#include "mpo_abi.h"

#define MPO_NFT_FAMILY 5	/* NFPROTO_NETDEV */

/* One message is at most this long; a set of them is sent before more than MPO_NFT_BATCH_FULL is in use. */
#define MPO_NFT_MESSAGE_MAX 4096
#define MPO_NFT_BATCH_FULL (128u * 1024)
#define MPO_NFT_BATCH_SIZE (MPO_NFT_BATCH_FULL + 64 * MPO_NFT_MESSAGE_MAX)

/* An open nfnetlink socket with room for one transaction. */
struct mpo_nft_talk {
	const struct mpo_nft_lib *lib;
	int fd;
	__u32 portid;
	__u32 sequence;		/* of the last message of the last transaction */
	char *batch;
	size_t used;
	bool overflow;		/* the transaction is too long: sending it yields -EMSGSIZE */
};

/* The macros of <linux/netlink.h> are signed. */
#define MPO_NFT_HEAD sizeof(struct nlattr)
static inline size_t mpo_nft_align(size_t length)
{
	return (length + 3) & ~(size_t)3;
}

/* Attributes that are still to be read, by mpo_nft_next(). */
struct mpo_nft_attributes {
	const char *start;
	size_t length;
};

struct mpo_nft_attributes mpo_nft_message_attributes(const struct nlmsghdr *message, size_t header);
struct mpo_nft_attributes mpo_nft_nested(const struct nlattr *attribute);
const struct nlattr *mpo_nft_next(struct mpo_nft_attributes *rest);
const struct nlattr *mpo_nft_find(struct mpo_nft_attributes within, int type);
static inline int mpo_nft_type(const struct nlattr *attribute)
{
	return attribute->nla_type & NLA_TYPE_MASK;
}
static inline const void *mpo_nft_payload(const struct nlattr *attribute)
{
	return (const char *)attribute + MPO_NFT_HEAD;
}
static inline size_t mpo_nft_payload_length(const struct nlattr *attribute)
{
	return (size_t)attribute->nla_len - MPO_NFT_HEAD;
}
/* The numbers of nfnetlink are big-endian. 0 where the attribute is missing or short. */
__u32 mpo_nft_u32(const struct nlattr *attribute);
__u64 mpo_nft_u64(const struct nlattr *attribute);
/* Whether it is this NUL-terminated string. */
bool mpo_nft_is(const struct nlattr *attribute, const char *text);

int mpo_nft_talk_open(struct mpo_nft_talk *talk, const struct mpo_nft_lib *lib);
void mpo_nft_talk_close(struct mpo_nft_talk *talk);

/* Begin a transaction. */
void mpo_nft_begin(struct mpo_nft_talk *talk);

/* Begin a message of a transaction and end it; its errors carry @tag (below 1000000). */
struct nlmsghdr *mpo_nft_message(struct mpo_nft_talk *talk, __u16 type, __u16 flags, __u32 tag);
void mpo_nft_message_end(struct mpo_nft_talk *talk, const struct nlmsghdr *message);

/* What a transaction brought: called for each error (@message NULL) and for each notification that was asked for. */
typedef void (*mpo_nft_answer)(void *context, __u32 tag, int error, const struct nlmsghdr *message);

/*
 * Send the transaction. 0: all of it is done. -errno of the first error: nothing is; @answer (may be NULL) hears of
 * each. Errors that belong to no message have tag MPO_NFT_NO_TAG, that of the message that begins the transaction.
 */
#define MPO_NFT_NO_TAG 0xffffffffu
int mpo_nft_commit(struct mpo_nft_talk *talk, mpo_nft_answer answer, void *context);

/*
 * Ask; @answer is called for each message that comes back. @fill (may be NULL) adds the request's attributes. -EINTR:
 * something changed during the dump, so that a part may be missing or have come twice.
 */
int mpo_nft_ask(struct mpo_nft_talk *talk, __u16 type, __u16 flags,
		void (*fill)(const void *about, struct nlmsghdr *request), const void *about, mpo_nft_answer answer,
		void *context);

/* Append an attribute to a message that is being built and has room for it. */
void mpo_nft_put(struct nlmsghdr *message, __u16 type, const void *data, size_t length);
void mpo_nft_put_text(struct nlmsghdr *message, __u16 type, const char *text);

#endif
