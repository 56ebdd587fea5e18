/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parts of the nft backend that need no kernel: its books of flows, reading attributes that may be anything, and
 * telling which answers belong to which question.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "mpo_nft_flows.h"
#include "mpo_nft_private.h"

#define CAPACITY 300u

static struct mpo_endpoint numbered(__u32 number)
{
	struct mpo_endpoint endpoint = { .address = { [10] = 0xff, [11] = 0xff, [12] = 10 },
					 .port = (__u16)(1000 + number % 7) };

	endpoint.address[14] = (__u8)(number >> 8);
	endpoint.address[15] = (__u8)number;
	return endpoint;
}

void test_nft_flows(void)
{
	struct mpo_nft_flows flows;
	struct mpo_endpoint key;
	__u32 i, round;

	CHECK_EQUAL(mpo_nft_flows_create(&flows, CAPACITY), 0);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < CAPACITY; i++) {
			key = numbered(i);
			CHECK(mpo_nft_flows_add(&flows, &key, (i + round) % CAPACITY) != NULL);
		}
		key = numbered(CAPACITY);
		CHECK(mpo_nft_flows_add(&flows, &key, 0) == NULL);	/* full */
		CHECK_EQUAL(flows.count, CAPACITY);
		for (i = 0; i < CAPACITY; i++) {
			key = numbered(i);
			CHECK(mpo_nft_flows_find(&flows, &key) ==
			      mpo_nft_flows_of_slot(&flows, (i + round) % CAPACITY));
		}
		for (i = 0; i < CAPACITY; i += 2) {
			key = numbered(i);
			mpo_nft_flows_remove(&flows, mpo_nft_flows_find(&flows, &key));
			CHECK(mpo_nft_flows_find(&flows, &key) == NULL);
			CHECK(mpo_nft_flows_of_slot(&flows, (i + round) % CAPACITY) == NULL);
		}
		for (i = 1; i < CAPACITY; i += 2) {
			key = numbered(i);
			CHECK(mpo_nft_flows_find(&flows, &key) != NULL);
			CHECK(mpo_nft_flows_add(&flows, &key, (i + round) % CAPACITY) == NULL);	/* slot in use */
			if (round != 1)	/* the other round leaves them to clear() */
				mpo_nft_flows_remove(&flows, mpo_nft_flows_find(&flows, &key));
		}
		if (round == 1)
			mpo_nft_flows_clear(&flows);
		CHECK_EQUAL(flows.count, 0);
	}
	CHECK(mpo_nft_flows_of_slot(&flows, CAPACITY) == NULL);
	mpo_nft_flows_destroy(&flows);
}

struct seen {
	__u32 elements;
	__u64 packets;
};

static void element_seen(void *context, const struct mpo_nft_read *element)
{
	struct seen *seen = context;

	seen->elements++;
	seen->packets += element->count.packets;
}

static struct nlattr *nest(struct nlmsghdr *message, __u16 type)
{
	struct nlattr *at = (struct nlattr *)((char *)message + NLMSG_ALIGN(message->nlmsg_len));

	mpo_nft_put(message, type | NLA_F_NESTED, NULL, 0);
	return at;
}

static void nest_end(struct nlmsghdr *message, struct nlattr *at)
{
	at->nla_len = (__u16)((char *)message + message->nlmsg_len - (char *)at);
}

/* One element with a key, a counter and a comment, as the kernel sends it. */
static size_t message_build(char *buffer)
{
	struct nlmsghdr *message = (struct nlmsghdr *)buffer;
	const __u8 comment[] = { 0, 3, 'h', 'i', 0 };
	const __u64 packets = 0x0700000000000000ull;	/* 7, big-endian, where this is tested */
	struct nlattr *list, *item, *data, *expression;
	const __u32 mark = 0x100005;

	memset(message, 0, sizeof(*message));
	message->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM;
	message->nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg));
	mpo_nft_put_text(message, NFTA_SET_ELEM_LIST_TABLE, "t");
	mpo_nft_put_text(message, NFTA_SET_ELEM_LIST_SET, "m");
	list = nest(message, NFTA_SET_ELEM_LIST_ELEMENTS);
	item = nest(message, NFTA_LIST_ELEM);
	data = nest(message, NFTA_SET_ELEM_KEY);
	mpo_nft_put(message, NFTA_DATA_VALUE, &mark, sizeof(mark));
	nest_end(message, data);
	expression = nest(message, NFTA_SET_ELEM_EXPR);
	mpo_nft_put_text(message, NFTA_EXPR_NAME, "counter");
	data = nest(message, NFTA_EXPR_DATA);
	mpo_nft_put(message, NFTA_COUNTER_PACKETS, &packets, sizeof(packets));
	nest_end(message, data);
	nest_end(message, expression);
	mpo_nft_put(message, NFTA_SET_ELEM_USERDATA, comment, sizeof(comment));
	nest_end(message, item);
	nest_end(message, list);
	return message->nlmsg_len;
}

void test_nft_read(void)
{
	_Alignas(8) char whole[512];
	struct mpo_nft *nft = calloc(1, sizeof(*nft));
	struct seen seen = { 0, 0 };
	unsigned int seed = 1;
	size_t length, cut;
	int i, k;

	CHECK(nft != NULL);
	if (!nft)
		return;
	strcpy(nft->shape.name, "t");
	length = message_build(whole);
	mpo_nft_read_elements(nft, (struct nlmsghdr *)whole, "m", element_seen, &seen);
	CHECK_EQUAL(seen.elements, 1);
	CHECK_EQUAL(seen.packets, 7);
	mpo_nft_read_elements(nft, (struct nlmsghdr *)whole, "other", element_seen, &seen);
	CHECK_EQUAL(seen.elements, 1);

	/* Cut anywhere or changed anywhere: nothing outside the message is read (AddressSanitizer watches the copy). */
	for (cut = NLMSG_LENGTH(sizeof(struct nfgenmsg)); cut < length; cut++) {
		char *copy = malloc(cut);

		CHECK(copy != NULL);
		if (!copy)
			break;
		memcpy(copy, whole, cut);
		((struct nlmsghdr *)copy)->nlmsg_len = (__u32)cut;
		mpo_nft_read_elements(nft, (struct nlmsghdr *)copy, "m", element_seen, &seen);
		free(copy);
	}
	for (i = 0; i < 20000; i++) {
		char *copy = malloc(length);

		CHECK(copy != NULL);
		if (!copy)
			break;
		memcpy(copy, whole, length);
		for (k = 0; k < 3; k++) {
			seed = seed * 1103515245u + 12345u;
			copy[sizeof(struct nlmsghdr) + (seed >> 8) % (length - sizeof(struct nlmsghdr))] =
				(char)(seed >> 24);
		}
		mpo_nft_read_elements(nft, (struct nlmsghdr *)copy, "m", element_seen, &seen);
		free(copy);
	}
	free(nft);
}

/* ---- questions and answers, by a socket pair instead of the kernel ---- */

static struct nlmsghdr *header_build(char *buffer, __u16 type, __u16 family, __u16 flags, __u32 sequence)
{
	struct nlmsghdr *message = (struct nlmsghdr *)buffer;

	(void)family;
	memset(buffer, 0, NLMSG_LENGTH(sizeof(struct nfgenmsg)));
	message->nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg));
	message->nlmsg_type = (__u16)(NFNL_SUBSYS_NFTABLES << 8 | type);
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	message->nlmsg_seq = sequence;
	return message;
}

static struct nlmsghdr *batch_mark(char *buffer, __u32 sequence)
{
	return header_build(buffer, 0, 0, 0, sequence);
}

struct heard {
	int errors, messages;
	__u32 last_tag;
};

static void hear(void *context, __u32 tag, int error, const struct nlmsghdr *message)
{
	struct heard *heard = context;

	heard->errors += error != 0;
	heard->messages += message != NULL;
	heard->last_tag = tag;
}

static void answer_put(int fd, __u16 type, __u16 flags, __u32 sequence, int error)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr said;
	} answer = { .head = { .nlmsg_len = sizeof(answer), .nlmsg_type = type, .nlmsg_flags = flags,
			       .nlmsg_seq = sequence }, .said = { .error = error } };

	CHECK_EQUAL(send(fd, &answer, sizeof(answer), 0), sizeof(answer));
}

void test_nft_talk(void)
{
	const __u16 element = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM;
	struct mpo_nft_lib lib = { .nftnl_nlmsg_build_hdr = header_build, .nftnl_batch_begin = batch_mark,
				   .nftnl_batch_end = batch_mark };
	struct mpo_nft_talk talk = { .lib = &lib };
	struct heard heard = { 0 };
	int pair[2];

	talk.batch = malloc(MPO_NFT_BATCH_SIZE);
	CHECK(talk.batch != NULL);
	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	if (!talk.batch)
		return;
	talk.fd = pair[0];

	/* No answer: done. */
	mpo_nft_begin(&talk);
	CHECK_EQUAL(mpo_nft_commit(&talk, hear, &heard), 0);
	CHECK_EQUAL(heard.errors, 0);

	/* Errors of this transaction, each with its tag; that of the message that begins it has none. */
	mpo_nft_begin(&talk);
	answer_put(pair[1], NLMSG_ERROR, 0, talk.sequence + 3, -ENOENT);
	answer_put(pair[1], NLMSG_ERROR, 0, talk.sequence + 4, -EEXIST);
	CHECK_EQUAL(mpo_nft_commit(&talk, hear, &heard), -ENOENT);
	CHECK_EQUAL(heard.errors, 2);
	CHECK_EQUAL(heard.last_tag, 4);
	mpo_nft_begin(&talk);
	answer_put(pair[1], NLMSG_ERROR, 0, talk.sequence - 1, -EPERM);
	CHECK_EQUAL(mpo_nft_commit(&talk, hear, &heard), -EPERM);
	CHECK_EQUAL(heard.last_tag, MPO_NFT_NO_TAG);

	/* What an earlier question left in the socket is no answer to this one. */
	heard = (struct heard){ 0 };
	mpo_nft_begin(&talk);
	answer_put(pair[1], NLMSG_ERROR, 0, talk.sequence - 1000000, -ENOENT);
	answer_put(pair[1], element, 0, talk.sequence - 2, 0);
	CHECK_EQUAL(mpo_nft_commit(&talk, hear, &heard), 0);
	CHECK_EQUAL(heard.errors + heard.messages, 0);

	/* A notification that was asked for has no number. */
	mpo_nft_begin(&talk);
	answer_put(pair[1], element, 0, 0, 0);
	CHECK_EQUAL(mpo_nft_commit(&talk, hear, &heard), 0);
	CHECK_EQUAL(heard.messages, 1);
	heard = (struct heard){ 0 };
	answer_put(pair[1], NLMSG_DONE, 0, talk.sequence, 0);
	answer_put(pair[1], element, NLM_F_MULTI, talk.sequence + 1000000, 0);
	answer_put(pair[1], NLMSG_DONE, 0, talk.sequence + 1000000, 0);
	CHECK_EQUAL(mpo_nft_ask(&talk, NFT_MSG_GETSETELEM, NLM_F_DUMP, NULL, NULL, hear, &heard), 0);
	CHECK_EQUAL(heard.messages, 1);

	/* Changed while it was read. */
	answer_put(pair[1], element, NLM_F_MULTI, talk.sequence + 1000000, 0);
	answer_put(pair[1], NLMSG_DONE, NLM_F_DUMP_INTR, talk.sequence + 1000000, 0);
	CHECK_EQUAL(mpo_nft_ask(&talk, NFT_MSG_GETSETELEM, NLM_F_DUMP, NULL, NULL, hear, &heard), -EINTR);

	/* Nothing in the socket: nothing will come. */
	CHECK_EQUAL(mpo_nft_ask(&talk, NFT_MSG_GETSETELEM, 0, NULL, NULL, hear, &heard), -EAGAIN);
	close(pair[0]);
	close(pair[1]);
	free(talk.batch);
}
