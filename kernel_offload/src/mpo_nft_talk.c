/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "mpo_nft_talk.h"

#define TAGS 1000000u	/* sequence numbers: one block of tags per transaction */
#define BUFFER_SIZE (4 * 1024 * 1024)	/* of the socket: the echoes of one transaction must fit */
#define ANSWER_SIZE 65536

struct mpo_nft_attributes mpo_nft_message_attributes(const struct nlmsghdr *message, size_t header)
{
	size_t skip = NLMSG_HDRLEN + NLMSG_ALIGN(header);
	struct mpo_nft_attributes all = { (const char *)message + skip, 0 };

	if (message->nlmsg_len > skip)
		all.length = message->nlmsg_len - skip;
	return all;
}

struct mpo_nft_attributes mpo_nft_nested(const struct nlattr *attribute)
{
	struct mpo_nft_attributes none = { NULL, 0 };

	if (!attribute)
		return none;
	return (struct mpo_nft_attributes){ mpo_nft_payload(attribute), mpo_nft_payload_length(attribute) };
}

const struct nlattr *mpo_nft_next(struct mpo_nft_attributes *rest)
{
	const struct nlattr *here = (const struct nlattr *)rest->start;
	size_t step;

	if (rest->length < MPO_NFT_HEAD || here->nla_len < MPO_NFT_HEAD || here->nla_len > rest->length)
		return NULL;
	step = mpo_nft_align(here->nla_len);
	rest->start += step;
	rest->length = step < rest->length ? rest->length - step : 0;
	return here;
}

const struct nlattr *mpo_nft_find(struct mpo_nft_attributes within, int type)
{
	const struct nlattr *here;

	while ((here = mpo_nft_next(&within)) != NULL)
		if (mpo_nft_type(here) == type)
			return here;
	return NULL;
}

__u32 mpo_nft_u32(const struct nlattr *attribute)
{
	__u32 value = 0;

	if (attribute && mpo_nft_payload_length(attribute) >= sizeof(value))
		memcpy(&value, mpo_nft_payload(attribute), sizeof(value));
	return ntohl(value);
}

__u64 mpo_nft_u64(const struct nlattr *attribute)
{
	__u64 value = 0;

	if (attribute && mpo_nft_payload_length(attribute) >= sizeof(value))
		memcpy(&value, mpo_nft_payload(attribute), sizeof(value));
	return be64toh(value);
}

bool mpo_nft_is(const struct nlattr *attribute, const char *text)
{
	size_t length = strlen(text) + 1;

	return attribute && mpo_nft_payload_length(attribute) == length &&
	       memcmp(mpo_nft_payload(attribute), text, length) == 0;
}

void mpo_nft_put(struct nlmsghdr *message, __u16 type, const void *data, size_t length)
{
	char *at = (char *)message + NLMSG_ALIGN(message->nlmsg_len);
	struct nlattr *attribute = (struct nlattr *)at;

	memset(at, 0, MPO_NFT_HEAD + mpo_nft_align(length));
	attribute->nla_type = type;
	attribute->nla_len = (__u16)(MPO_NFT_HEAD + length);
	if (length)
		memcpy(at + MPO_NFT_HEAD, data, length);
	message->nlmsg_len = (__u32)(NLMSG_ALIGN(message->nlmsg_len) + MPO_NFT_HEAD + mpo_nft_align(length));
}

void mpo_nft_put_text(struct nlmsghdr *message, __u16 type, const char *text)
{
	mpo_nft_put(message, type, text, strlen(text) + 1);
}

/* Beyond the host's limit only by CAP_NET_ADMIN outside of any user namespace; else as far as the limit. */
static void buffer_enlarge(int fd, int by_force, int as_allowed)
{
	int size = BUFFER_SIZE;

	if (setsockopt(fd, SOL_SOCKET, by_force, &size, sizeof(size)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, as_allowed, &size, sizeof(size));
}

int mpo_nft_talk_open(struct mpo_nft_talk *talk, const struct mpo_nft_lib *lib)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	socklen_t length = sizeof(address);
	int err;

	memset(talk, 0, sizeof(*talk));
	talk->lib = lib;
	talk->batch = malloc(MPO_NFT_BATCH_SIZE);
	if (!talk->batch)
		return -ENOMEM;
	talk->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (talk->fd < 0) {
		err = -errno;
		goto err_free;
	}
	if (bind(talk->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockname(talk->fd, (struct sockaddr *)&address, &length) < 0) {
		err = -errno;
		goto err_close;
	}
	talk->portid = address.nl_pid;
	buffer_enlarge(talk->fd, SO_SNDBUFFORCE, SO_SNDBUF);
	buffer_enlarge(talk->fd, SO_RCVBUFFORCE, SO_RCVBUF);
	return 0;
err_close:
	close(talk->fd);
err_free:
	free(talk->batch);
	return err;
}

void mpo_nft_talk_close(struct mpo_nft_talk *talk)
{
	close(talk->fd);
	free(talk->batch);
	talk->batch = NULL;
}

void mpo_nft_begin(struct mpo_nft_talk *talk)
{
	talk->sequence += TAGS;
	talk->overflow = false;
	talk->used = talk->lib->nftnl_batch_begin(talk->batch, talk->sequence - 1)->nlmsg_len;
}

struct nlmsghdr *mpo_nft_message(struct mpo_nft_talk *talk, __u16 type, __u16 flags, __u32 tag)
{
	/* Room for one message and for the end of the transaction. What does not fit overwrites the last message. */
	if (talk->used + 2 * MPO_NFT_MESSAGE_MAX > MPO_NFT_BATCH_SIZE) {
		talk->overflow = true;
		talk->used = 0;
	}
	return talk->lib->nftnl_nlmsg_build_hdr(talk->batch + talk->used, type, MPO_NFT_FAMILY, flags,
						talk->sequence + tag);
}

void mpo_nft_message_end(struct mpo_nft_talk *talk, const struct nlmsghdr *message)
{
	talk->used += NLMSG_ALIGN(message->nlmsg_len);
}

/* What the answers received so far come to. */
struct outcome {
	int error;		/* the first one */
	bool done;
	bool interrupted;	/* the table changed while it was dumped */
};

/* Receive one datagram and hand out what is in it. Returns what recv() said, or -errno. */
static ssize_t answers_receive(struct mpo_nft_talk *talk, mpo_nft_answer answer, void *context, struct outcome *outcome)
{
	_Alignas(8) char buffer[ANSWER_SIZE];
	const struct nlmsghdr *message;
	const struct nlmsgerr *said;
	ssize_t length;
	size_t rest;
	__u32 tag;

	/* ENOBUFS: not all answers fitted. The first ones did, so an error of a transaction is not missed. */
	do {
		length = recv(talk->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	} while (length < 0 && (errno == EINTR || errno == ENOBUFS));
	if (length < 0)
		return -errno;
	rest = (size_t)length;
	for (message = (const struct nlmsghdr *)buffer; NLMSG_OK(message, rest); message = NLMSG_NEXT(message, rest)) {
		tag = message->nlmsg_seq - talk->sequence;
		/* Of an earlier question, given up. Notifications have the number of their cause, or (kernel 6.18) 0. */
		if (tag >= TAGS && tag != MPO_NFT_NO_TAG && message->nlmsg_seq != 0)
			continue;
		if (message->nlmsg_flags & NLM_F_DUMP_INTR)
			outcome->interrupted = true;
		if (message->nlmsg_type == NLMSG_ERROR) {
			said = NLMSG_DATA(message);
			if (said->error != 0 && outcome->error == 0)
				outcome->error = said->error;
			if (said->error != 0 && answer)
				answer(context, tag, said->error, NULL);
			outcome->done = true;
		} else if (message->nlmsg_type == NLMSG_DONE) {
			outcome->done = true;
		} else if (answer) {
			answer(context, tag, 0, message);
		}
	}
	return length;
}

int mpo_nft_commit(struct mpo_nft_talk *talk, mpo_nft_answer answer, void *context)
{
	struct outcome outcome = { 0 };
	ssize_t err;

	if (talk->overflow)
		return -EMSGSIZE;
	talk->used += talk->lib->nftnl_batch_end(talk->batch + talk->used, talk->sequence + TAGS - 1)->nlmsg_len;
	if (send(talk->fd, talk->batch, talk->used, 0) < 0)
		return -errno;
	/* The kernel has carried it out, or not, before send() returned; all that it says of it is in the socket. */
	do {
		err = answers_receive(talk, answer, context, &outcome);
	} while (err >= 0);
	if (err != -EAGAIN && outcome.error == 0)
		return (int)err;
	return outcome.error;
}

int mpo_nft_ask(struct mpo_nft_talk *talk, __u16 type, __u16 flags,
		void (*fill)(const void *about, struct nlmsghdr *request), const void *about, mpo_nft_answer answer,
		void *context)
{
	struct outcome outcome = { 0 };
	struct nlmsghdr *request;
	ssize_t err;

	talk->sequence += TAGS;
	request = talk->lib->nftnl_nlmsg_build_hdr(talk->batch, type, MPO_NFT_FAMILY, flags | NLM_F_ACK, talk->sequence);
	if (fill)
		fill(about, request);
	if (send(talk->fd, request, request->nlmsg_len, 0) < 0)
		return -errno;
	/* Netlink answers within the call; without an answer in the socket there will be none. */
	while (!outcome.done) {
		err = answers_receive(talk, answer, context, &outcome);
		if (err < 0)
			return (int)err;
	}
	if (outcome.error == 0 && outcome.interrupted)
		return -EINTR;
	return outcome.error;
}
