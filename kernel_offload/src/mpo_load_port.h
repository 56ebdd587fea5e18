/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The packet sockets of one side of the generator: one that sends, one with a ring that receives. */
#ifndef MPO_LOAD_PORT_H
#define MPO_LOAD_PORT_H

#include <stdbool.h>
#include <stddef.h>

#include <sys/socket.h>

#include "mpo_load.h"

#define MPO_LOAD_BURST_MAX 64u

struct mpo_load_port {
	int send_fd;		/* -1: not open */
	int receive_fd;
	__u8 mac[6];
	__u8 relay_mac[6];
	__u8 *ring;
	unsigned int block;	/* the one that is filled next */
};

/* One packet of a ring: @length bytes are there, @full_length there were. @at_ns is CLOCK_REALTIME. */
typedef void (*mpo_load_taker)(void *context, const __u8 *frame, size_t length, size_t full_length, __u64 at_ns);

/* Frames are cut to @snap bytes on receipt. Nothing stays open after a failure (-errno). */
int mpo_load_port_open(struct mpo_load_port *port, unsigned int ifindex, const __u8 relay_mac[6], unsigned int snap);

void mpo_load_port_close(struct mpo_load_port *port);

/* Send all; *dropped are those for which there was no room behind the cable, *failed those refused otherwise. */
void mpo_load_port_send(struct mpo_load_port *port, struct mmsghdr *messages, unsigned int count, __u64 *dropped,
			__u64 *failed);

/* Give what has arrived to @take. Returns whether there was anything. */
bool mpo_load_port_drain(struct mpo_load_port *port, mpo_load_taker take, void *context);

/* How many packets found the ring full since this was asked last. */
__u64 mpo_load_port_drops(struct mpo_load_port *port);

#endif
