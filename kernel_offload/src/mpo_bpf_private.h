/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the parts of the eBPF side know of each other. */
#ifndef MPO_BPF_PRIVATE_H
#define MPO_BPF_PRIVATE_H

#include <limits.h>
#include <stdbool.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "mpo_bpf.h"

/* A link, pinned or kept alive by its descriptor. */
struct mpo_hook {
	__u32 ifindex;
	__u32 kind;
	int fd;
};

struct mpo_bpf {
	struct bpf_object *object;
	int flows_fd;	/* these three belong to .object */
	int stats_fd;
	int tap_fd;
	__u32 slots;
	__u32 identity;
	struct mpo_hook *hooks;
	__u32 hook_count;
	char folder[PATH_MAX];	/* empty: nothing is pinned */
};

/* The object file, written by kernel_offload/bpf_object.py. */
extern const unsigned char mpo_bpf_object[];
extern const unsigned long mpo_bpf_object_size;

/* Descriptor of a loaded program (MPO_PROGRAM_*), or -ENOENT. */
int mpo_bpf_program_fd(const struct mpo_bpf *bpf, __u32 program);

/* The path of a pin into @path; -ENAMETOOLONG. */
int mpo_bpf_pin_path(const struct mpo_bpf *bpf, const char *name, char path[PATH_MAX]);

#endif
