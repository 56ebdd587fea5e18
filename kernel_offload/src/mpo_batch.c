/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#include "mpo_batch.h"
#include "mpo_classify.h"

/* An error on receipt is an ICMP message, told once each; data may be behind it. So many in a row: look again later. */
#define RECEIVE_ERRORS_MAX 8u

struct mpo_batch *mpo_batch_make(void)
{
	struct mpo_batch *batch;
	unsigned int i;

	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return NULL;
	batch->buffers = mmap(NULL, MPO_BATCH * MPO_BUFFER_STRIDE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (batch->buffers == MAP_FAILED) {
		free(batch);
		return NULL;
	}
	for (i = 0; i < MPO_BATCH; i++) {
		batch->in_piece[i] = (struct iovec){ mpo_batch_bytes(batch, i), MPO_BUFFER };
		batch->in[i].msg_hdr.msg_name = &batch->source[i];
		batch->in[i].msg_hdr.msg_namelen = sizeof(batch->source[i]);
		batch->in[i].msg_hdr.msg_iov = &batch->in_piece[i];
		batch->in[i].msg_hdr.msg_iovlen = 1;
		batch->out[i].msg_hdr.msg_iov = &batch->out_piece[i];
		batch->out[i].msg_hdr.msg_iovlen = 1;
	}
	return batch;
}

void mpo_batch_free(struct mpo_batch *batch)
{
	munmap(batch->buffers, MPO_BATCH * MPO_BUFFER_STRIDE);
	free(batch);
}

unsigned int mpo_batch_receive_one(struct mpo_batch *batch, int fd, const union mpo_address *peer)
{
	union mpo_address *source = &batch->source[0];
	socklen_t length = sizeof(*source);
	unsigned int calls;
	ssize_t received;

	batch->count = 0;
	for (calls = 1; calls <= RECEIVE_ERRORS_MAX; calls++) {
		received = recvfrom(fd, batch->buffers, MPO_BUFFER, MSG_DONTWAIT | MSG_TRUNC,
				    peer ? NULL : &source->any, peer ? NULL : &length);
		if (received >= 0)
			break;
		if (errno == EAGAIN)
			return calls;
	}
	if (received < 0)
		return calls;
	if (peer)
		*source = *peer;
	batch->length[0] = (__u32)received;
	batch->count = 1;
	return calls;
}

unsigned int mpo_batch_receive_many(struct mpo_batch *batch, int fd)
{
	unsigned int calls, i;
	int received;

	batch->count = 0;
	for (calls = 1; calls <= RECEIVE_ERRORS_MAX; calls++) {
		received = recvmmsg(fd, batch->in, MPO_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
		if (received >= 0)
			break;
		if (errno == EAGAIN)
			return calls;
	}
	if (received < 0)
		return calls;
	batch->count = (unsigned int)received;
	for (i = 0; i < batch->count; i++) {
		batch->length[i] = batch->in[i].msg_len;
		batch->in[i].msg_hdr.msg_namelen = sizeof(batch->source[i]);
	}
	return calls;
}

__u32 mpo_batch_collect(struct mpo_batch *batch, __u8 route)
{
	unsigned int i, n = 0;
	__u32 rtcp = 0;

	for (i = 0; i < batch->count; i++) {
		if (batch->route[i] != route)
			continue;
		batch->out_piece[n] = (struct iovec){ mpo_batch_bytes(batch, i), batch->length[i] };
		if (batch->class[i] == MPO_CLASS_RTCP)
			rtcp |= 1u << n;
		n++;
	}
	batch->out_count = n;
	return rtcp;
}

static bool send_once(const struct mpo_batch *batch, int fd, const union mpo_address *name)
{
	const struct iovec *piece = &batch->out_piece[0];

	return sendto(fd, piece->iov_base, piece->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL, name ? &name->any : NULL,
		      name ? mpo_address_length(name) : 0) >= 0;
}

static unsigned int send_one(const struct mpo_batch *batch, int fd, const union mpo_address *name, __u32 *failed)
{
	*failed = 0;
	if (send_once(batch, fd, name))
		return 1;
	if (errno != EAGAIN && send_once(batch, fd, name))
		return 2;
	*failed = 1;
	return 2;
}

static unsigned int send_many(struct mpo_batch *batch, int fd, const union mpo_address *name, __u32 *failed)
{
	unsigned int i, calls = 0;
	bool retried = false;
	int sent;

	for (i = 0; i < batch->out_count; i++) {
		/* The cast is sendmmsg's: it does not write there. */
		batch->out[i].msg_hdr.msg_name = (void *)(uintptr_t)name;
		batch->out[i].msg_hdr.msg_namelen = name ? mpo_address_length(name) : 0;
	}
	*failed = 0;
	i = 0;
	while (i < batch->out_count) {
		calls++;
		sent = sendmmsg(fd, batch->out + i, batch->out_count - i, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent > 0) {
			i += (unsigned int)sent;
			retried = false;
		} else if (errno == EAGAIN) {
			/* The socket's send buffer is full: more would only wait behind it. */
			*failed |= (__u32)(~0ull << i & ((1ull << batch->out_count) - 1));
			break;
		} else if (!retried) {
			retried = true;
		} else {
			*failed |= 1u << i++;
			retried = false;
		}
	}
	return calls;
}

unsigned int mpo_batch_send(struct mpo_batch *batch, int fd, const union mpo_address *name, __u32 *failed)
{
	if (batch->out_count == 1)
		return send_one(batch, fd, name, failed);
	return send_many(batch, fd, name, failed);
}
