/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The RTP generator and sink of `mediaproxy bench`, as Python calls it (through kernel_offload/mpo.cdef).
 *
 * It sends by AF_PACKET, one socket a side whatever the number of flows (a UDP socket a flow would cost a system call a
 * packet), and receives through one TPACKET_V3 ring a side. Every packet carries its flow, the number of the run and the
 * time of sending: loss is counted exactly, and a packet that comes out at the wrong place is noticed. IPv4 on Ethernet.
 *
 * All return 0 or -errno. One load belongs to one thread at a time.
 */
#ifndef MPO_LOAD_H
#define MPO_LOAD_H

#include "mpo_abi.h"

#define MPO_LOAD_SIDES 2
#define MPO_LOAD_FLOWS_MAX 1000000

/* RTP that leaves by .side from .source towards .relay, and is expected on the other side, addressed to .sink. */
struct mpo_load_flow {
	struct mpo_endpoint source;
	struct mpo_endpoint relay;
	struct mpo_endpoint sink;
	__u32 side;
};

/* What one run gave. What was offered and never came out is .sent less .received. */
struct mpo_load_result {
	__u64 sent;
	__u64 received;
	__u64 worst_flow_lost;	/* of one flow */
	__u64 misdelivered;	/* came out at another agent than the one it was for */
	__u64 reordered;
	__u64 stale;		/* of an earlier run */
	__u64 foreign;		/* not ours at all */
	__u64 dropped_at_entry;	/* the receiving device took no more; part of what is lost */
	__u64 send_errors;
	__u64 sink_drops;	/* the sink's ring was full: then nothing is said about the relay */
	__u64 forgiven_ns;	/* by how much the generator was late and gave up what it owed */
	__u64 duration_ns;	/* of sending */
	__u64 cpu_ns;		/* of this thread, while sending */
	__u64 p50_ns;		/* from sending to arrival; 0 where nothing arrived */
	__u64 p99_ns;
	__u64 p999_ns;
};

struct mpo_load;

/* *out is the caller's, who ends it with mpo_load_destroy(). -ENOMEM. */
int mpo_load_create(struct mpo_load **out);

/* Close what is open, free all; NULL is fine. */
void mpo_load_destroy(struct mpo_load *load);

/*
 * Open the sockets of one side (0 or 1) on the device @ifindex of the calling thread's network namespace; what is sent
 * there is addressed to @relay_mac. Needs CAP_NET_RAW.
 *
 * -EINVAL (no such side, or it is open), -ENODEV, -EPERM, -ENOMEM and whatever the packet socket refuses with.
 */
int mpo_load_open_side(struct mpo_load *load, __u32 side, __u32 ifindex, const __u8 relay_mac[6]);

/*
 * Replace the flows; both sides must be open.
 *
 * -EINVAL: too many, or a side is not open or without flows. -EAFNOSUPPORT: not IPv4. -ENOMEM. On failure there are none.
 */
int mpo_load_set_flows(struct mpo_load *load, const struct mpo_load_flow *flows, __u32 count);

/*
 * Send @pps packets a second in bursts of @burst (1..64), sides in turn, flows in turn, for @duration_ns, and wait until
 * what is on its way has arrived (at most one second). Blocks; to be called on a core of its own.
 *
 * -EINVAL: a value is zero or too large, or there are no flows.
 */
int mpo_load_run(struct mpo_load *load, __u64 pps, __u64 duration_ns, __u32 burst, struct mpo_load_result *result);

/*
 * Send all that arrives on one device of this network namespace out by another, without looking at it: what the harness
 * itself costs. Returns a descriptor (close-on-exec), the caller's: it ends when that is closed.
 *
 * -EINVAL: the kernel has no TCX (before 6.6). -EPERM, -ENODEV.
 */
int mpo_load_redirect(__u32 from_ifindex, __u32 to_ifindex);

_Static_assert(sizeof(struct mpo_load_flow) == 64, "struct mpo_load_flow");
_Static_assert(sizeof(struct mpo_load_result) == 128, "struct mpo_load_result");

#endif
