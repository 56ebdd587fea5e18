/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The maps, shared by all programs and, by their pins, by all processes that come after one another. Their sizes are
 * set before they are loaded (mpo_bpf_open()).
 */
#ifndef MPO_MAPS_H
#define MPO_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "mpo_abi.h"

#define MPO_INLINE static inline __attribute__((always_inline))

/* Preallocated: it refuses when it is full. An LRU would forget a live call in silence. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct mpo_endpoint);
	__type(value, struct mpo_flow);
} flows SEC(".maps");

/* By struct mpo_flow.slot; the daemon maps it and reads without a system call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mpo_flow_stats);
} flow_stats SEC(".maps");

/* struct mpo_tap_record, each with a piece of packet behind it. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} tap SEC(".maps");

#endif
