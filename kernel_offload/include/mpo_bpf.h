/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The eBPF side of the helper: maps, programs, hooks. Not thread-safe: one thread calls, the one that stands in the
 * network namespace whose devices are meant.
 *
 * Everything returns 0 (or a count) or -errno.
 */
#ifndef MPO_BPF_H
#define MPO_BPF_H

#include "mpo_abi.h"

/*
 * Part of the name of each pin: pins of another number are of a version of mediaproxy whose structures were others.
 * It grows whenever struct mpo_flow, struct mpo_flow_stats or struct mpo_tap_record change.
 */
#define MPO_BPF_ABI 1

/* Which hook of a device. */
#define MPO_HOOK_TCX 1		/* kernel 6.6 */
#define MPO_HOOK_CLSACT 2
#define MPO_HOOK_XDP_NATIVE 3
#define MPO_HOOK_XDP_GENERIC 4

/* Which program a test runs, and of which hook the programs are loaded. */
#define MPO_PROGRAM_TC_ETHERNET 1
#define MPO_PROGRAM_TC_IP 2
#define MPO_PROGRAM_XDP 3

/* Loaded programs and their maps. */
struct mpo_bpf;

/*
 * Load the programs of tc or (@xdp) of XDP.
 *
 * With @pin_folder, a folder of a bpffs, maps that are pinned there are used again, with all flows in them; those of
 * another ABI number are removed, and so are those that are too small, unless they hold flows: mpo_bpf_slots() tells.
 * Without it (NULL) all that is not attached by MPO_HOOK_CLSACT ends with this process.
 *
 * @slots: how many flows, and how many struct mpo_flow_stats. @tap_bytes: of the ring of copied packets, a power of 2
 * and a multiple of 4096. @identity: distinguishes the clsact filters of this instance from those of others.
 * @log takes what the verifier says if it refuses; it is always terminated.
 *
 * *out is the caller's, who ends it with mpo_bpf_close(); untouched on failure, which leaves no new pins behind.
 * -EPERM, -ENOSYS, -EINVAL (no such kernel feature, or the verifier refuses), -ENOMEM, -EACCES; -ENOENT, -EXDEV: the
 * folder is not there, or not on a bpffs.
 */
int mpo_bpf_open(const char *pin_folder, __u32 slots, __u32 tap_bytes, __u32 xdp, __u32 identity, char *log,
		 __u32 log_length, struct mpo_bpf **out);

/* Let go. What is pinned stays, and what is attached by a pinned link or a clsact filter goes on. NULL is fine. */
void mpo_bpf_close(struct mpo_bpf *bpf);

/* Remove the pins of the maps. Hooks are not touched: they keep the maps as long as they are there. */
int mpo_bpf_unpin(struct mpo_bpf *bpf);

/* How many flows there is room for: what was asked for, unless maps with flows were found. */
__u32 mpo_bpf_slots(const struct mpo_bpf *bpf);

/* Descriptors of the statistics (struct mpo_flow_stats by slot, to be mapped) and of the ring; @bpf's own. */
int mpo_bpf_stats_fd(const struct mpo_bpf *bpf);
int mpo_bpf_tap_fd(const struct mpo_bpf *bpf);

/*
 * Carry out @count changes in their order and write the result into each: 0; -ENOSPC: full; -EINVAL: a value out of
 * range, or sender and target of different families. What could not be set is not there afterwards. A removal touches
 * nothing unless slot and generation are those of the flow that is there.
 */
int mpo_bpf_apply(struct mpo_bpf *bpf, struct mpo_flow_change *changes, __u32 count);

/* Write all flows into @changes (room for @capacity) as MPO_FLOW_SET. Returns how many; -ENOBUFS: there are more. */
int mpo_bpf_dump(struct mpo_bpf *bpf, struct mpo_flow_change *changes, __u32 capacity);

/*
 * Put a program on a device. A program that this instance has there already is replaced with no packet lost between.
 * @ethernet: packets on it begin with an Ethernet header (0: with the IP header; not for XDP).
 *
 * Returns 0, or 1 if the clsact qdisc had to be made.
 * -ENODEV; -EOPNOTSUPP, -EINVAL: the device or the kernel does not take it; -EBUSY, -EEXIST: somebody else's is there;
 * -EPERM.
 */
int mpo_bpf_attach(struct mpo_bpf *bpf, __u32 ifindex, __u32 hook, __u32 ethernet);

/* Take it away, also what a process before this one has left there. 0 too if there is none. */
int mpo_bpf_detach(struct mpo_bpf *bpf, __u32 ifindex, __u32 hook);

/* Whether what mpo_bpf_attach() put there is still there: 1 or 0; -errno: the kernel does not tell. */
int mpo_bpf_attached(struct mpo_bpf *bpf, __u32 ifindex, __u32 hook);

/* Remove the clsact qdisc of a device with all filters on it. -ENOENT, -ENODEV. */
int mpo_bpf_remove_qdisc(__u32 ifindex);

/*
 * Run a program (MPO_PROGRAM_*) @repeat times on a frame as if it had arrived at @ifindex (0: lo) of this network
 * namespace, without sending anything. @output has room for @output_length bytes and takes the frame of the last run.
 * Returns that one's length. *verdict is what the program returned, *duration_ns the mean of all runs.
 */
int mpo_bpf_test_run(struct mpo_bpf *bpf, __u32 program, const __u8 *frame, __u32 length, __u32 ifindex,
		     __u32 repeat, __u8 *output, __u32 output_length, __u32 *verdict, __u32 *duration_ns);

/* The reader of a ring of copied packets; may live in another process, which needs no privileges. */
struct mpo_tap;

/* @fd: see mpo_bpf_tap_fd(); the caller's, not needed afterwards. There must be one reader at a time. -EINVAL, -ENOMEM. */
int mpo_tap_open(int fd, struct mpo_tap **out);
void mpo_tap_close(struct mpo_tap *tap);

/*
 * Move records out of the ring: each a struct mpo_tap_record and .length bytes of packet, padded to a multiple of 8.
 * Nobody is woken when packets come: call every few milliseconds. Returns how many bytes were written to @buffer, which
 * should have room for 4096 at least; 0: none is left (or the next one does not fit).
 */
int mpo_tap_take(struct mpo_tap *tap, __u8 *buffer, __u32 length);

#endif
