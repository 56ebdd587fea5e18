/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What nftables does not find out by itself: gateways, and which devices have VLAN devices on top. */
#ifndef MPO_NFT_ROUTE_H
#define MPO_NFT_ROUTE_H

#include <stdbool.h>

#include "mpo_abi.h"

/* An rtnetlink socket, or -errno. */
int mpo_nft_route_open(void);

/*
 * The gateway, as an address of struct mpo_endpoint, by which @address is reached through @ifindex; all zero if it is
 * a neighbour there. -EOPNOTSUPP: the gateway is of the other family. -errno of the kernel: no route.
 */
int mpo_nft_route_gateway(int fd, const __u8 address[16], __u32 ifindex, __u8 gateway[16]);

/* Of @count devices, mark in @tagged those that a VLAN device stands on. */
int mpo_nft_route_find_tagged(int fd, const __u32 *ifindexes, __u32 count, bool *tagged);

#endif
