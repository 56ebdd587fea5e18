/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Structures that C, eBPF and Python share.
 *
 * Rules: fixed-width types only, no pointers, no enums; padding is named and zero; an IPv4 address is ::ffff:a.b.c.d.
 * Every number here has a twin in mediaproxy/datapath/relay.py and in kernel_offload/mpo.cdef; cffi refuses to build
 * when the structures differ, and tests/unit/backends/test_helper.py compares the constants.
 */
#ifndef MPO_ABI_H
#define MPO_ABI_H

#include <linux/types.h>

/* How many sinks one class of packets of one transport may have. */
#define MPO_SINKS_MAX 8
/* How many payload types with their clock rates one transport may name. */
#define MPO_CLOCK_RATES_MAX 16
/* How many SSRCs one stream has statistics of: the most recently heard ones. */
#define MPO_SSRCS_MAX 4

/* What a datagram is (RFC 7983; RFC 5761, section 4). */
#define MPO_CLASS_RTP 0
#define MPO_CLASS_RTCP 1
#define MPO_CLASS_STUN 2
#define MPO_CLASS_DTLS 3
#define MPO_CLASS_ZRTP 4
#define MPO_CLASS_KEEPALIVE 5
#define MPO_CLASS_OTHER 6
#define MPO_CLASSES 7

/* Whose packets a transport accepts. */
#define MPO_POLICY_CLOSED 0
#define MPO_POLICY_OPEN 1
#define MPO_POLICY_LOCKED 2
#define MPO_POLICY_TRUSTING 3
#define MPO_POLICIES 4

/* What is reported of a source. */
#define MPO_EVENT_SEEN 1
#define MPO_EVENT_REFUSED 2

/* Why a packet was not forwarded. */
#define MPO_DROP_CLOSED 0
#define MPO_DROP_WRONG_SOURCE 1
#define MPO_DROP_NO_SINK 2
#define MPO_DROP_NO_DESTINATION 3
#define MPO_DROP_BLOCKED 4
#define MPO_DROP_SEND_FAILED 5
#define MPO_DROP_TRUNCATED 6
#define MPO_DROP_REASONS 7

/* An address and a port, both as the peer sees them; port 0 means that there is none. */
struct mpo_endpoint {
	__u8 address[16];	/* network order */
	__u16 port;		/* host order */
	__u16 zero;
};

/* The RTP clock of a payload type; 0 Hz keeps the payload type out of the jitter (telephone-event, comfort noise). */
struct mpo_clock_rate {
	__u32 hz;
	__u8 payload_type;	/* 0..127 */
	__u8 zero[3];
};

/* struct mpo_transport_config.flags */
#define MPO_CONFIG_OPAQUE 1	/* no demultiplexing: all goes to rtp_sinks */
#define MPO_CONFIG_DROP 2	/* discard what arrives, counted */
#define MPO_CONFIG_TOS 4	/* set the socket's TOS / traffic class to .tos */
#define MPO_CONFIG_FLAGS 7

/* All that the relay knows of one transport; replaced as a whole. */
struct mpo_transport_config {
	__u64 handle;
	struct mpo_endpoint remote;	/* where what leaves by this transport goes */
	struct mpo_endpoint expected;	/* the accepted source under MPO_POLICY_LOCKED; not reported under _OPEN */
	__u8 policy;
	__u8 flags;
	__u8 tos;
	__u8 rtp_sink_count;
	__u8 rtcp_sink_count;
	__u8 clock_rate_count;
	__u8 zero[2];
	__u64 rtp_sinks[MPO_SINKS_MAX];		/* handles */
	__u64 rtcp_sinks[MPO_SINKS_MAX];	/* handles; while there is none nothing is taken for RTCP */
	struct mpo_clock_rate clock_rates[MPO_CLOCK_RATES_MAX];
};

/* A report: a source was seen (and its packet forwarded) or refused (and its packet dropped). */
struct mpo_event {
	__u64 handle;
	struct mpo_endpoint source;
	__u32 ssrc;		/* host order; 0 unless RTP or RTCP */
	__u8 kind;
	__u8 packet_class;
	__u8 zero[6];
};

/* RTP reception statistics of one SSRC (RFC 3550, section 6.4 and appendices A.1, A.3, A.8). */
struct mpo_ssrc_stats {
	__u64 packets;
	__u64 bytes;
	__u64 last_seen_ns;		/* CLOCK_MONOTONIC; 0: this entry is not in use */
	__u32 ssrc;			/* host order */
	__u32 last_timestamp;		/* of the highest sequence number */
	__u32 extended_sequence;	/* highest, with the cycles in the upper 16 bits */
	__u32 lost;
	__u32 duplicates;
	__u32 reordered;
	__u32 jitter_q4;		/* sixteenths of a timestamp unit, as RFC 3550, A.8 scales it */
	__u8 payload_type;		/* of the last packet */
	__u8 zero[11];
};

/*
 * One stream: the RTP of a transport (with all else that goes to rtp_sinks) or its RTCP. packets and bytes count what
 * was accepted (UDP payload), errors what was dropped for any reason.
 */
struct mpo_stream_stats {
	__u64 packets;
	__u64 bytes;
	__u64 errors;
	__u64 packets_out;	/* the _out counters are atomic adds of several threads, outside of .version */
	__u64 bytes_out;
	__u64 last_seen_ns;	/* CLOCK_MONOTONIC; 0: never */
	struct mpo_ssrc_stats ssrcs[MPO_SSRCS_MAX];
};

/*
 * The statistics of one transport in shared memory, at index MPO_HANDLE_SLOT(handle). One thread writes at a time and
 * makes .version odd while it does: mpo_relay_read_stats() yields a consistent copy. handle and last_seen_ns may be
 * read on their own at any time. The values stay until the slot is opened again.
 */
struct mpo_transport_stats {
	__u64 handle;
	__u64 last_seen_ns;	/* of the last accepted RTP, RTCP or opaque packet */
	__u32 version;
	__u32 zero;
	__u64 reports;		/* events put into the ring */
	__u64 suppressed;	/* reports held back by the rate limit or by a full ring */
	__u64 drops[MPO_DROP_REASONS];
	struct mpo_stream_stats rtp;
	struct mpo_stream_stats rtcp;
};

/* ---- flows: what the kernel forwards by itself ---- */

/* How many SSRCs the kernel has statistics of, per flow: the most recently heard ones. */
#define MPO_FLOW_SSRCS_MAX 2
/* How many payload types with their clock rates a flow may name. */
#define MPO_FLOW_CLOCK_RATES_MAX 8

/* struct mpo_flow.flags */
#define MPO_FLOW_STRICT 1	/* other sources than .source: dropped and counted, but for a sample that goes up */
#define MPO_FLOW_OPAQUE 2	/* no RTP (T.38 UDPTL, BFCP): whatever the source sends is forwarded */
#define MPO_FLOW_TAP 4		/* copy what is forwarded into the ring buffer */
#define MPO_FLOW_DROP 8		/* discard what the source sends, counted */
#define MPO_FLOW_LOCAL 16	/* .target is on this host: rewrite and pass; only what arrives on lo can go that way */
#define MPO_FLOW_FLAGS 31

/* Why the kernel dropped a packet of a flow: indices of struct mpo_flow_stats.drops. */
#define MPO_FLOW_DROP_WRONG_SOURCE 0
#define MPO_FLOW_DROP_BLOCKED 1
#define MPO_FLOW_DROP_TTL 2		/* TTL or hop limit used up: the packet goes round in a loop */
#define MPO_FLOW_DROP_FAILED 3		/* the rewrite failed half-way */
#define MPO_FLOW_DROPS 4

/* Why a packet went up to the socket although its port has a flow: indices of struct mpo_flow_stats.ups. */
#define MPO_FLOW_UP_NOT_RTP 0		/* STUN, DTLS, ZRTP, a keep-alive, or shorter than an RTP header */
#define MPO_FLOW_UP_RTCP 1
#define MPO_FLOW_UP_SOURCE 2		/* another source while anybody may still be learnt, or a sample of strangers */
#define MPO_FLOW_UP_OPTIONS 3		/* IP options or extension headers */
#define MPO_FLOW_UP_FRAGMENT 4		/* first fragments; later ones have no port, so nobody knows their flow */
#define MPO_FLOW_UP_MTU 5		/* too large for its way out */
#define MPO_FLOW_UP_LOCAL 6		/* MPO_FLOW_LOCAL, but it did not arrive on lo */
#define MPO_FLOW_UP_FAILED 7		/* a kernel helper refused before anything was changed, or XDP cannot */
#define MPO_FLOW_UPS 8

/*
 * Where packets that arrive at struct mpo_endpoint (the key: relay address and port) from .source go: to .target, from
 * .sender. Replaced as a whole. A strange sample (MPO_FLOW_STRICT) is at most 4 packets a second.
 */
struct mpo_flow {
	struct mpo_endpoint source;	/* port 0: anybody */
	struct mpo_endpoint sender;	/* ours */
	struct mpo_endpoint target;
	__u32 slot;			/* index of its struct mpo_flow_stats */
	__u32 generation;		/* of the slot; never 0 */
	__u32 ifindex;			/* way out, found by whoever installs the flow; 0 with MPO_FLOW_LOCAL */
	__u32 mtu;			/* of the way out: longer IP packets go up; 0: no limit */
	__u16 flags;
	__u8 tos;			/* TOS or traffic class of what leaves, all eight bits */
	__u8 clock_rate_count;
	struct mpo_clock_rate clock_rates[MPO_FLOW_CLOCK_RATES_MAX];
};

#define MPO_FLOW_SET 1
#define MPO_FLOW_REMOVE 2

/* One change of what is installed, or (MPO_FLOW_SET) one flow that is. */
struct mpo_flow_change {
	struct mpo_endpoint local;	/* the key */
	__u16 operation;
	__u16 zero;
	struct mpo_flow flow;		/* MPO_FLOW_REMOVE: only .slot and .generation, of the flow that is meant */
	__s32 result;			/* out: 0 or -errno */
};

/* What is needed to go on counting one SSRC, beside what struct mpo_ssrc_stats shows. */
struct mpo_rtp_source {
	__s64 highest;		/* extended sequence number; the first packet's has no cycles */
	__s64 base;		/* the lowest one that is expected; below zero if what preceded a wrap came late */
	__u64 expected_before;	/* packets, from the first one to the last restart of the sequence */
	__u64 received;		/* by this path, since the first one, without duplicates */
	__u64 elsewhere;	/* received by other paths, as far as this one was told */
	__u64 window[2];	/* bit n: highest - n has arrived; what is later than that is a jump (A.1) */
	__u32 bad_sequence;	/* what would follow the last packet that was far off; > 0xffff: see mpo_rtp.h */
	__u32 transit;		/* arrival less timestamp of the last packet that had a clock, in its units */
	__u32 jitter_q4;
	__u32 clock_rate;	/* of .transit; 0: .transit is not valid */
	/* The last look-up in the table of clock rates. */
	__u32 rates_serial;
	__u32 rate;
	__u32 epoch;		/* how often the sequence was restarted */
	__u8 rate_payload_type;
	__u8 zero[3];
};

/* All that is known of the RTP received on one transport by one path: what is handed from path to path, and merged. */
struct mpo_rtp_state {
	struct mpo_ssrc_stats ssrcs[MPO_SSRCS_MAX];
	struct mpo_rtp_source sources[MPO_SSRCS_MAX];	/* by the same index */
};

/*
 * What one flow has counted, at index .slot of an array that the kernel (or who speaks for it) writes and the daemon
 * reads. Written before the flow is installed by who owns the slot, by nobody but the kernel while it is.
 */
struct mpo_flow_stats {
	__u32 generation;	/* of the flow that counts here, or counted here last */
	__u32 zero;
	__u64 packets;		/* forwarded */
	__u64 bytes;		/* of those, UDP payload */
	__u64 last_seen_ns;	/* CLOCK_MONOTONIC, of the last packet from the accepted source; 0: none yet */
	__u64 stranger_ns;	/* CLOCK_MONOTONIC, when the last sample of strangers went up */
	__u64 drops[MPO_FLOW_DROPS];
	__u64 ups[MPO_FLOW_UPS];
	struct mpo_ssrc_stats ssrcs[MPO_FLOW_SSRCS_MAX];
	struct mpo_rtp_source sources[MPO_FLOW_SSRCS_MAX];
};

/* Sums over the statistics of flows. */
struct mpo_flow_totals {
	__u64 packets;
	__u64 bytes;
	__u64 drops;
};

/* What precedes each copied packet in the ring buffer; .length bytes of IP packet follow. */
struct mpo_tap_record {
	struct mpo_endpoint local;	/* the flow's key */
	__u32 slot;
	__u32 generation;
	__u32 ifindex;			/* where it arrived */
	__u64 when_ns;			/* CLOCK_MONOTONIC */
	__u32 length;			/* of the copy */
	__u32 packet_length;		/* of the packet, before it was cut */
};
#define MPO_TAP_LENGTH_MAX 2048

/* What the relay as a whole has done, transports closed since included. */
struct mpo_relay_totals {
	__u64 packets;		/* received and sent on to one sink at least */
	__u64 bytes;		/* of those, UDP payload */
	__u64 errors;		/* received and sent on to none */
	__u64 packets_out;	/* several per packet where there are several sinks */
	__u64 wakeups;		/* returns of epoll_wait */
	__u64 receive_calls;
	__u64 send_calls;
	__u64 reports;
	__u64 reports_suppressed;
	__u64 ring_overflows;
	__u64 transports;	/* open now */
	__u64 descriptors;	/* sockets held now, those waiting to be closed included */
};

#define MPO_HANDLE_SLOT(handle) ((__u32)((handle) & 0xffffffffu))
#define MPO_HANDLE_GENERATION(handle) ((__u32)((handle) >> 32))
#define MPO_HANDLE(slot, generation) ((__u64)(generation) << 32 | (__u64)(slot))

_Static_assert(sizeof(struct mpo_endpoint) == 20, "struct mpo_endpoint");
_Static_assert(sizeof(struct mpo_clock_rate) == 8, "struct mpo_clock_rate");
_Static_assert(sizeof(struct mpo_transport_config) == 312, "struct mpo_transport_config");
_Static_assert(sizeof(struct mpo_event) == 40, "struct mpo_event");
_Static_assert(sizeof(struct mpo_ssrc_stats) == 64, "struct mpo_ssrc_stats");
_Static_assert(sizeof(struct mpo_stream_stats) == 304, "struct mpo_stream_stats");
_Static_assert(sizeof(struct mpo_transport_stats) == 704, "struct mpo_transport_stats");
_Static_assert(sizeof(struct mpo_relay_totals) == 96, "struct mpo_relay_totals");
_Static_assert(sizeof(struct mpo_flow) == 144, "struct mpo_flow");
_Static_assert(sizeof(struct mpo_flow_change) == 172, "struct mpo_flow_change");
_Static_assert(sizeof(struct mpo_rtp_source) == 88, "struct mpo_rtp_source");
_Static_assert(sizeof(struct mpo_rtp_state) == 608, "struct mpo_rtp_state");
_Static_assert(sizeof(struct mpo_flow_stats) == 440, "struct mpo_flow_stats");
_Static_assert(sizeof(struct mpo_flow_totals) == 24, "struct mpo_flow_totals");
_Static_assert(sizeof(struct mpo_tap_record) == 48, "struct mpo_tap_record");

#endif
