/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The functions of the C helper, as Python calls them (through kernel_offload/mpo.cdef).
 *
 * All return 0 (or a count) or -errno. No function blocks on the network or waits for a packet. All but create and
 * destroy may be called from any thread at any time.
 */
#ifndef MPO_H
#define MPO_H

#include <stddef.h>

#include "mpo_abi.h"

/* A relay: sockets, worker threads, statistics. Opaque; see mpo_relay_create(). */
struct mpo_relay;

/*
 * Make a relay of @workers threads (1..64) and room for @capacity transports. The threads are named mpo-relay-N and
 * have all signals blocked. Memory for the statistics is reserved for @capacity but taken only as slots are used.
 *
 * *out is the caller's, who ends it with mpo_relay_destroy(); untouched on failure.
 * -EINVAL, -ENOMEM, -EMFILE, -EAGAIN (no more threads).
 */
int mpo_relay_create(__u32 workers, __u32 capacity, struct mpo_relay **out);

/* End the threads, close all sockets, free all. No other call may be under way or follow; NULL is fine. */
void mpo_relay_destroy(struct mpo_relay *relay);

/*
 * Bind UDP sockets to local->port (RTP, handles[0]) and local->port + 1 (RTCP, handles[1]) of one local address.
 * Transports of one @group (modulo the number of workers) are served by one thread.
 *
 * -EADDRINUSE: one of the two is in use. -ENOSPC: no slot is free (a closed one rests for a second).
 * -EMFILE, -ENFILE, -EADDRNOTAVAIL, -EACCES, -EINVAL, -ENOMEM, -ENOBUFS. Nothing stays open after a failure.
 */
int mpo_relay_open_pair(struct mpo_relay *relay, const struct mpo_endpoint *local, __u32 group, __u64 handles[2]);

/*
 * Close @count transports; stale handles are skipped. The descriptors are closed before this returns unless a worker
 * is at that moment handling packets: then it closes them when it has done so. Returns how many were open.
 */
int mpo_relay_close(struct mpo_relay *relay, const __u64 *handles, __u32 count);

/* Close all transports. Returns how many were open. */
int mpo_relay_close_all(struct mpo_relay *relay);

/*
 * Replace the configuration of @count transports; stale handles are skipped. For the packet path each replacement is
 * one pointer; packets that a worker has in hand are treated by what was in force when it received them.
 * Returns how many were configured. -EINVAL (a value out of range), -ENOMEM: none was.
 */
int mpo_relay_configure(struct mpo_relay *relay, const struct mpo_transport_config *configs, __u32 count);

/* An eventfd, readable while there are events to take. The relay's: not to be read, written or closed. */
int mpo_relay_event_fd(const struct mpo_relay *relay);

/* Move up to @capacity events out of the rings. Returns how many; when it is @capacity there may be more. */
int mpo_relay_take_events(struct mpo_relay *relay, struct mpo_event *events, __u32 capacity);

/*
 * The statistics of all transports, an array of *count entries by slot. The relay's; valid until mpo_relay_destroy().
 * For single fields at a known handle; use mpo_relay_read_stats() for a consistent copy.
 */
const struct mpo_transport_stats *mpo_relay_stats(const struct mpo_relay *relay, __u32 *count);

/* Copy the statistics of one transport, open or closed, from memory. -ESTALE: the slot belongs to another one now. */
int mpo_relay_read_stats(const struct mpo_relay *relay, __u64 handle, struct mpo_transport_stats *out);

/*
 * What the sockets of an open transport have counted of its RTP, with what is needed to go on counting elsewhere.
 * -ESTALE: closed.
 */
int mpo_relay_read_rtp(struct mpo_relay *relay, __u64 handle, struct mpo_rtp_state *out);

/*
 * Tell the sockets of an open transport where its RTP has come to on other paths: applied before the next packet is
 * counted, whenever that comes. Of several calls before that packet each counts. -ESTALE: closed. -ENOMEM.
 */
int mpo_relay_resume_rtp(struct mpo_relay *relay, __u64 handle, const struct mpo_rtp_state *state);

/* Sum of what all workers have done. The counters are each exact, but not of one instant. */
void mpo_relay_read_totals(struct mpo_relay *relay, struct mpo_relay_totals *out);

/* The thread ids (gettid) of the workers. Returns how many workers there are; at most @capacity are written. */
int mpo_relay_thread_ids(const struct mpo_relay *relay, __u32 *ids, __u32 capacity);

/*
 * One stream on several paths (src/mpo_rtp_handover.h). A state of zeroes is one of a path that has heard nothing.
 *
 * seed: *into goes on where @from has come to; it takes over no packets. @from may be one path or the sum of several; of
 * the sum, *into knows what was received of all. merge: *into is then of both paths; each packet
 * was counted by exactly one of them. count: one RTP packet of @length bytes, 12 at least, that arrived at @now
 * (nanoseconds, CLOCK_MONOTONIC, not 0), by the clocks of RFC 3551.
 */
void mpo_rtp_state_seed(struct mpo_rtp_state *into, const struct mpo_rtp_state *from);
void mpo_rtp_state_merge(struct mpo_rtp_state *into, const struct mpo_rtp_state *from);
void mpo_rtp_state_count(struct mpo_rtp_state *state, const __u8 *packet, __u32 length, __u64 now);

#endif
