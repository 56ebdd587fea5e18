/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Flows in nftables: a netdev table of this instance's own, whose elements are the flows. No BPF.
 *
 * One thread at a time, with CAP_NET_ADMIN in the network namespace that it stands in. All functions return 0 (or a
 * count) or -errno, and none waits for a packet. libnftnl is loaded by mpo_nft_open(), not linked.
 */
#ifndef MPO_NFT_H
#define MPO_NFT_H

#include "mpo_abi.h"

struct mpo_nft;

/* How the rules are written. */
#define MPO_NFT_READABLE 0	/* in expressions of the nft language: `nft list ruleset` can be loaded again */
#define MPO_NFT_FAST 1		/* one look-up per packet, which nft cannot print */

/* mpo_nft_open(): set the table flags owner and persist (kernel 6.9): nobody else can change or flush the table. */
#define MPO_NFT_OWNER 1

/* What an instance's slots may number: the mark that leads from look-up to look-up has 20 bits for the slot. */
#define MPO_NFT_SLOTS_MAX (1u << 20)

#define MPO_NFT_REASON_LENGTH 160

/* What mpo_nft_check() has seen; bits. */
#define MPO_NFT_FOREIGN 1	/* somebody else changed or removed something in the table */
#define MPO_NFT_GONE 2		/* the table is not there */

/* A device whose arriving packets are looked at. */
struct mpo_nft_link {
	__u32 ifindex;
	__u32 mtu;
	__u8 loopback;
	__u8 ethernet;
	__u8 hooked;	/* out */
	__u8 zero;
	char name[16];	/* NUL-terminated */
};

/*
 * Open the table "mediaproxy_@instance", or take over the one that a dead process left, with its flows, if it was made
 * for the same form and number of slots by the same version of this code; else it is replaced by an empty one.
 *
 * @stats is an array of @slots entries, the caller's, which must outlive what is returned here.
 * *out is the caller's, who ends it with mpo_nft_leave() or mpo_nft_remove(); untouched on failure, when @reason
 * (MPO_NFT_REASON_LENGTH bytes) says what an operator should know.
 * -ENOSYS: libnftnl or nftables is missing. -EPERM: no CAP_NET_ADMIN, or the table belongs to a living process.
 * -EINVAL, -ENOMEM, others of the kernel.
 */
int mpo_nft_open(const char *instance, __u32 slots, __u32 form, __u32 flags, struct mpo_flow_stats *stats,
		 struct mpo_nft **out, char *reason);

/* Close everything without touching what is in the kernel, and free @nft. */
void mpo_nft_leave(struct mpo_nft *nft);

/* Remove the table, then as mpo_nft_leave(). The table being gone is no error. */
int mpo_nft_remove(struct mpo_nft *nft);

/*
 * Make @links the devices that are looked at: hook what is new, unhook what is not named. Those that cannot be (they
 * vanished meanwhile, or are of a kind that cannot be) have .hooked 0 afterwards. Also puts back the hooks after
 * mpo_nft_rebuild().
 */
int mpo_nft_attach(struct mpo_nft *nft, struct mpo_nft_link *links, __u32 count);

/*
 * Carry out @count changes in their order, one transaction for up to some hundreds of them, and write 0 or -errno into
 * each .result. -EOPNOTSUPP: opaque, tapped or dropped flows, a gateway of the other family. -EAFNOSUPPORT: a change
 * of family. -ENOSPC: full. What a removed flow has counted is in @stats when this returns.
 * Returns 0, or -errno where the kernel did not answer at all.
 */
int mpo_nft_apply(struct mpo_nft *nft, struct mpo_flow_change *changes, __u32 count);

/* Write up to @capacity installed flows. Returns how many there are, which may be more. */
int mpo_nft_dump(const struct mpo_nft *nft, struct mpo_flow_change *out, __u32 capacity);

/* Bring what the kernel has counted into @stats. */
int mpo_nft_poll(struct mpo_nft *nft);

/* Readable when somebody else has changed nftables: then mpo_nft_check() is due. The table's: not to be closed. */
int mpo_nft_watch_fd(const struct mpo_nft *nft);

/* See whether the table is what we left: 0, or MPO_NFT_* bits. */
int mpo_nft_check(struct mpo_nft *nft);

/* Make the table anew, without flows and hooks, in one transaction with the removal of what is left of it. */
int mpo_nft_rebuild(struct mpo_nft *nft);

#endif
