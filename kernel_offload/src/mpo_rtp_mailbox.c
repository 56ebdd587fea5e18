/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "mpo.h"
#include "mpo_rtp_mailbox.h"

#define EMPTY 0u	/* as mpo_rtp_mailbox_waits() knows */
#define WRITING 1u	/* the control side is at the letter */
#define FULL 2u
#define READING 3u	/* the worker is */

/* Take the letter from the worker, or wait the microsecond that it reads. Returns whether it has not been read. */
static bool take_back(struct mpo_rtp_mailbox *mailbox)
{
	__u32 state;

	for (;;) {
		state = atomic_load_explicit(&mailbox->state, memory_order_acquire);
		if (state == EMPTY)
			return false;
		if (state == FULL && atomic_compare_exchange_strong(&mailbox->state, &state, WRITING))
			return true;
		sched_yield();
	}
}

int mpo_rtp_mailbox_put(struct mpo_rtp_mailbox *mailbox, const struct mpo_rtp_state *state)
{
	if (!mailbox->letter) {
		mailbox->letter = malloc(sizeof(*mailbox->letter));
		if (!mailbox->letter)
			return -ENOMEM;
	}
	if (take_back(mailbox))
		mpo_rtp_state_seed(mailbox->letter, state);
	else
		*mailbox->letter = *state;
	atomic_store_explicit(&mailbox->state, FULL, memory_order_release);
	return 0;
}

const struct mpo_rtp_state *mpo_rtp_mailbox_open(struct mpo_rtp_mailbox *mailbox)
{
	__u32 state = FULL;

	if (!atomic_compare_exchange_strong(&mailbox->state, &state, READING))
		return NULL;
	return mailbox->letter;
}

void mpo_rtp_mailbox_done(struct mpo_rtp_mailbox *mailbox)
{
	atomic_store_explicit(&mailbox->state, EMPTY, memory_order_release);
}

void mpo_rtp_mailbox_end(struct mpo_rtp_mailbox *mailbox)
{
	free(mailbox->letter);
}
