/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How the control side tells a worker where a stream has come to, without a lock and without an allocation by the
 * worker. The control side is one caller at a time; so is the worker.
 */
#ifndef MPO_RTP_MAILBOX_H
#define MPO_RTP_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>

#include "mpo_abi.h"

/* Zeroed: empty. */
struct mpo_rtp_mailbox {
	_Atomic __u32 state;
	struct mpo_rtp_state *letter;	/* the control side's until the state says that it is full; kept for the next */
};

/* As control side: leave @state; what is still there is joined with it. 0 or -ENOMEM. */
int mpo_rtp_mailbox_put(struct mpo_rtp_mailbox *mailbox, const struct mpo_rtp_state *state);

/* As worker: a letter to be read, which is the worker's until mpo_rtp_mailbox_done(); or NULL. */
const struct mpo_rtp_state *mpo_rtp_mailbox_open(struct mpo_rtp_mailbox *mailbox);
void mpo_rtp_mailbox_done(struct mpo_rtp_mailbox *mailbox);

/* As worker, for each batch: whether there is something to open. */
static inline bool mpo_rtp_mailbox_waits(struct mpo_rtp_mailbox *mailbox)
{
	return atomic_load_explicit(&mailbox->state, memory_order_relaxed) != 0;
}

/* When neither side uses it any more. */
void mpo_rtp_mailbox_end(struct mpo_rtp_mailbox *mailbox);

#endif
