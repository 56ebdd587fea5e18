// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Forward the packets of flows: at the ingress hook of tc (TCX or clsact) or of XDP. Everything else, and whatever is
 * odd about a packet of a flow, goes on its way untouched: the socket that is bound to the port gets it.
 *
 * UAPI structures only, so that one object serves all kernels.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#define MPO_RTP_ADD(field, by) __sync_fetch_and_add(field, by)
#define MPO_RTP_GET(field) (*(field))
#define MPO_RTP_PUT(field, value) (*(field) = (value))

#include "mpo_judge.h"
#include "mpo_rewrite.h"
#include "mpo_tap.h"

#include "mpo_tc.h"
#include "mpo_xdp.h"

char mpo_license[] SEC("license") = "GPL";
