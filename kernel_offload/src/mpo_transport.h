/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One transport: its sockets, the rule it obeys, and what its worker remembers of it.
 *
 * The control side (under the relay's mutex) makes it, replaces its rule and takes it out of the table of slots. Its
 * worker reads and counts. Any worker may send by it. Once out of the table it is released after a grace period.
 */
#ifndef MPO_TRANSPORT_H
#define MPO_TRANSPORT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "mpo_address.h"
#include "mpo_events.h"
#include "mpo_grace.h"
#include "mpo_rtp_mailbox.h"
#include "mpo_rtp_stats.h"
#include "mpo_slots.h"

struct mpo_worker;

/* How many sockets the relay holds, and how many it may hold and still open second ones. */
struct mpo_descriptors {
	_Atomic __u32 held;
	__u32 budget;
};

/* A configuration as the packet path wants it. Never changed once published. */
struct mpo_rule {
	struct mpo_retired retired;
	__u8 policy;
	bool opaque;
	bool drop;
	bool has_remote;	/* .remote can be sent to from this socket */
	bool connectable;	/* packets come from where they go to, and from nowhere else */
	bool one_route;		/* RTCP has the sinks of RTP */
	__u8 rtp_sink_count;
	__u8 rtcp_sink_count;
	union mpo_address remote;
	union mpo_address expected;
	__u64 rtp_sinks[MPO_SINKS_MAX];
	__u64 rtcp_sinks[MPO_SINKS_MAX];
	struct mpo_clock_rates clock_rates;	/* its serial is the rule's */
};

struct mpo_transport {
	struct mpo_retired retired;

	/* Constant. */
	__u64 handle;
	struct mpo_worker *worker;
	struct mpo_transport_stats *stats;
	struct mpo_slots *slots;
	struct mpo_descriptors *descriptors;
	union mpo_address local;
	int epoll_fd;			/* the worker's */
	int fd;

	/* Replaced by the control side. */
	_Atomic(struct mpo_rule *) rule;

	/* Filled by the control side, read by the worker. */
	struct mpo_rtp_mailbox resume;

	/* The control side's. */
	int tos;			/* as set last */

	/* The worker's from here on. */
	int strangers_fd;		/* same address and port as fd; -1 while fd is not connected */
	bool connected;
	union mpo_address peer;		/* if connected */
	__u64 connected_at;
	__u64 received_at;
	bool burst;			/* several datagrams were queued the last time */
	__u32 connect_failed;		/* serial of the rule under which connecting did not work */

	__u32 rule_serial;		/* of the rule seen last */
	bool reported_any;		/* since that rule */
	__u8 reported_class;
	union mpo_address reported;	/* the source reported last */
	struct mpo_report_limit report_limit;

	struct mpo_rtp_stream rtp;	/* others read it, under the version of .stats */
};

/*
 * Bind the socket of a new transport, CLOSED, into *out. It is the caller's until published, then ended by
 * mpo_transport_release() after a grace period. @handle's slot goes back to @slots then; on failure it is still taken.
 * 0 or -errno.
 */
int mpo_transport_open(const union mpo_address *local, __u64 handle, struct mpo_worker *worker, int epoll_fd,
		       struct mpo_transport_stats *stats, struct mpo_slots *slots, struct mpo_descriptors *descriptors,
		       struct mpo_transport **out);

/* As control side: let the worker receive for @transport, which is in the table already. 0 or -errno. */
int mpo_transport_watch(const struct mpo_transport *transport);

/* Close the sockets, free the transport and its rule, give the slot back. */
void mpo_transport_release(struct mpo_retired *retired);

/* 0 or -EINVAL: a value is out of range. */
int mpo_config_check(const struct mpo_transport_config *config);

/* The rule for @transport that a checked @config asks for; the caller's. NULL: no memory. @serial is not 0. */
struct mpo_rule *mpo_rule_make(const struct mpo_transport *transport, const struct mpo_transport_config *config,
			       __u32 serial);
void mpo_rule_release(struct mpo_retired *retired);

/*
 * As control side: put @rule, which becomes the transport's, into force. Returns the one to be retired.
 */
struct mpo_rule *mpo_transport_obey(struct mpo_transport *transport, struct mpo_rule *rule,
				    const struct mpo_transport_config *config);

/*
 * As worker: open a second socket on the same address and port, for @transport's strangers once fd is connected, and
 * register it with epoll under @data. 0 or -errno: nothing has changed then.
 *
 * Both sockets need SO_REUSEPORT for the second bind only. fd was bound without it, so that a port in use by anybody,
 * also by another relay of the same user, was found busy; and it is taken back from both as soon as fd is connected
 * (mpo_transport_seal()), so that nobody joins. While neither is connected the kernel spreads sources over both; a
 * connected socket takes all of its peer's packets and no others.
 */
int mpo_transport_open_strangers(struct mpo_transport *transport, __u64 data);
void mpo_transport_close_strangers(struct mpo_transport *transport);
void mpo_transport_seal(struct mpo_transport *transport);
/* As worker: 0 or -errno. */
int mpo_transport_connect(struct mpo_transport *transport, const union mpo_address *peer);

#endif
