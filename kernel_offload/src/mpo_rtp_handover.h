/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One stream that changes its path: sockets, then the kernel, then sockets again.
 *
 * Every path counts its own packets and nobody else's: packets, bytes, .received, duplicates, reordered. What all paths
 * of a stream share is where its sequence has come to: epoch, expected_before, base, highest, the window, and what
 * would be a restart. That is handed over (mpo_rtp_table_seed), so that a path takes neither the packets of another for
 * lost nor a jump over them for a restart, knows late packets from duplicates, and shows the loss of the whole.
 * The sum over all paths (mpo_rtp_state_merge, mpo.h) is then expected by any less received by all.
 *
 * What may go wrong on the way, and why it does not:
 * - Packets queued in a socket when the kernel takes over are counted by the sockets, later and beyond what was handed
 *   over. The kernel sees a gap; both know the base, so the union of their ranges has it once.
 * - A path that has fallen behind by more than MPO_RTP_MAX_DROPOUT because nobody told it takes the next two packets for
 *   a restart. When it meets the other path (seed or merge) it is seen to be the same sequence: it had not known of
 *   MAX_DROPOUT packets at least when it restarted, and where it then began or came to touches where the other one is.
 * - After a restart seen by one path the others contribute what they have received; the path that saw it has closed
 *   the range of all of them.
 * - A path without a seed has another count of cycles: of the same epoch, it is moved to where the ranges are nearest.
 *
 * - A path that counts no sequence numbers leaves a gap of unknown length (MPO_RTP_ANY_SEQUENCE): the next packet opens
 *   a new range, as after a restart.
 *
 * What is not exact: a duplicate, in the network, of a packet that another path still had in its queue when it handed
 * over is counted as received; a packet that comes by a path which has fallen behind by MAX_DROPOUT is a jump there, which
 * A.1 does not count, unless another follows it; and an SSRC that was given up for others begins anew.
 */
#ifndef MPO_RTP_HANDOVER_H
#define MPO_RTP_HANDOVER_H

#include "mpo_abi.h"

/*
 * As the one writer of a table (mpo_rtp.h) of @limit SSRCs: go on where @from has come to. SSRCs that are new here take
 * the place of those heard less recently, with no packets of their own. @from is one path or several merged ones.
 */
void mpo_rtp_table_seed(struct mpo_ssrc_stats *stats, struct mpo_rtp_source *sources, __u32 limit,
			const struct mpo_rtp_state *from);

#endif
