/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Programs on devices: TCX and XDP by links, clsact by filters. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_link.h>
#include <sys/syscall.h>

#include "mpo_bpf_private.h"

/* Newer than the headers of Debian 12: enum bpf_attach_type of linux/bpf.h. */
#define ATTACH_TCX_INGRESS 46

/* A filter is named by priority and handle. Ours begin at a priority that leaves others in front of and behind us. */
#define PRIORITY_BASE 0x6d00u

static int pin_path(const struct mpo_bpf *bpf, __u32 ifindex, __u32 kind, char path[PATH_MAX])
{
	char name[32];

	snprintf(name, sizeof(name), "%s-%u", kind == MPO_HOOK_TCX ? "tcx" : "xdp", ifindex);
	return mpo_bpf_pin_path(bpf, name, path);
}

static struct mpo_hook *find_hook(struct mpo_bpf *bpf, __u32 ifindex, __u32 kind)
{
	__u32 i;

	for (i = 0; i < bpf->hook_count; i++)
		if (bpf->hooks[i].ifindex == ifindex && bpf->hooks[i].kind == kind)
			return &bpf->hooks[i];
	return NULL;
}

static int keep_hook(struct mpo_bpf *bpf, __u32 ifindex, __u32 kind, int fd)
{
	struct mpo_hook *hooks = realloc(bpf->hooks, (bpf->hook_count + 1) * sizeof(*hooks));

	if (!hooks)
		return -ENOMEM;
	bpf->hooks = hooks;
	hooks[bpf->hook_count++] = (struct mpo_hook){ .ifindex = ifindex, .kind = kind, .fd = fd };
	return 0;
}

static void drop_hook(struct mpo_bpf *bpf, struct mpo_hook *hook)
{
	close(hook->fd);
	*hook = bpf->hooks[--bpf->hook_count];
}

/* Whether the device of a link is still there: the kernel sets its index to 0 when it goes. */
static bool link_is_alive(int fd, __u32 ifindex)
{
	struct bpf_link_info info;
	__u32 length = sizeof(info);

	memset(&info, 0, sizeof(info));
	/* struct bpf_link_info.tcx begins with the index, too. */
	return bpf_obj_get_info_by_fd(fd, &info, &length) == 0 && info.xdp.ifindex == ifindex;
}

/* A call of our own, because libbpf has none for TCX before 1.3; those of XDP are no different. */
static int create_link(int program_fd, __u32 ifindex, __u32 kind)
{
	union bpf_attr attributes;
	long fd;

	memset(&attributes, 0, sizeof(attributes));
	attributes.link_create.prog_fd = (__u32)program_fd;
	attributes.link_create.target_ifindex = ifindex;
	attributes.link_create.attach_type = kind == MPO_HOOK_TCX ? ATTACH_TCX_INGRESS : BPF_XDP;
	if (kind == MPO_HOOK_XDP_NATIVE)
		attributes.link_create.flags = XDP_FLAGS_DRV_MODE;
	else if (kind == MPO_HOOK_XDP_GENERIC)
		attributes.link_create.flags = XDP_FLAGS_SKB_MODE;
	fd = syscall(__NR_bpf, BPF_LINK_CREATE, &attributes, sizeof(attributes));
	return fd < 0 ? -errno : (int)fd;
}

static int pin_link(const struct mpo_bpf *bpf, int fd, __u32 ifindex, __u32 kind)
{
	char path[PATH_MAX];
	int err;

	if (bpf->folder[0] == '\0')
		return 0;
	err = pin_path(bpf, ifindex, kind, path);
	if (err)
		return err;
	unlink(path);	/* the link of a device that had this index */
	return bpf_obj_pin(fd, path) ? -errno : 0;
}

/* The link that is there, of this process or of one before it; -ENOENT. */
static int find_link(struct mpo_bpf *bpf, __u32 ifindex, __u32 kind)
{
	struct mpo_hook *hook = find_hook(bpf, ifindex, kind);
	char path[PATH_MAX];
	int fd, err;

	if (hook) {
		if (link_is_alive(hook->fd, ifindex))
			return hook->fd;
		drop_hook(bpf, hook);
	}
	if (bpf->folder[0] == '\0' || pin_path(bpf, ifindex, kind, path))
		return -ENOENT;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -ENOENT;
	if (!link_is_alive(fd, ifindex)) {
		close(fd);
		unlink(path);
		return -ENOENT;
	}
	err = keep_hook(bpf, ifindex, kind, fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int detach_link(struct mpo_bpf *bpf, __u32 ifindex, __u32 kind)
{
	int fd = find_link(bpf, ifindex, kind);
	char path[PATH_MAX];

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	bpf_link_detach(fd);
	drop_hook(bpf, find_hook(bpf, ifindex, kind));
	if (bpf->folder[0] != '\0' && pin_path(bpf, ifindex, kind, path) == 0)
		unlink(path);
	return 0;
}

static int attach_link(struct mpo_bpf *bpf, int program_fd, __u32 ifindex, __u32 kind)
{
	int fd, err;

	fd = find_link(bpf, ifindex, kind);
	if (fd >= 0) {
		if (bpf_link_update(fd, program_fd, NULL) == 0)
			return 0;
		err = detach_link(bpf, ifindex, kind);	/* XDP in the other mode, for one */
		if (err)
			return err;
	} else if (fd != -ENOENT) {
		return fd;
	}
	fd = create_link(program_fd, ifindex, kind);
	if (fd < 0)
		return fd;
	err = pin_link(bpf, fd, ifindex, kind);
	if (err == 0)
		err = keep_hook(bpf, ifindex, kind, fd);
	if (err)
		close(fd);
	return err;
}

static void filter_name(const struct mpo_bpf *bpf, struct bpf_tc_opts *filter)
{
	filter->handle = bpf->identity != 0 ? bpf->identity : 1;
	filter->priority = PRIORITY_BASE + (bpf->identity >> 24);
}

/* Where there is no clsact qdisc the kernel says EINVAL. */
static int filter_error(int err)
{
	return err == -EINVAL ? -ENOENT : err;
}

static __u32 program_id(int fd)
{
	struct bpf_prog_info info;
	__u32 length = sizeof(info);

	memset(&info, 0, sizeof(info));
	return bpf_obj_get_info_by_fd(fd, &info, &length) == 0 ? info.id : 0;
}

static int attach_filter(const struct mpo_bpf *bpf, int program_fd, __u32 ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, filter, .prog_fd = program_fd, .flags = BPF_TC_F_REPLACE);
	int err, made;

	made = bpf_tc_hook_create(&hook);
	if (made != 0 && made != -EEXIST)
		return made;
	filter_name(bpf, &filter);
	err = bpf_tc_attach(&hook, &filter);
	if (err == 0)
		return made == 0;
	if (made == 0)
		mpo_bpf_remove_qdisc(ifindex);
	return err;
}

static int detach_filter(const struct mpo_bpf *bpf, __u32 ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, filter);
	int err;

	filter_name(bpf, &filter);
	err = filter_error(bpf_tc_detach(&hook, &filter));
	return err == -ENOENT || err == -ENODEV ? 0 : err;
}

static int filter_is_attached(const struct mpo_bpf *bpf, __u32 ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, filter);
	int err;

	filter_name(bpf, &filter);
	err = filter_error(bpf_tc_query(&hook, &filter));
	if (err == -ENOENT || err == -ENODEV)
		return 0;
	if (err)
		return err;
	return filter.prog_id == program_id(mpo_bpf_program_fd(bpf, MPO_PROGRAM_TC_ETHERNET)) ||
	       filter.prog_id == program_id(mpo_bpf_program_fd(bpf, MPO_PROGRAM_TC_IP));
}

int mpo_bpf_attach(struct mpo_bpf *bpf, __u32 ifindex, __u32 hook, __u32 ethernet)
{
	bool xdp = hook == MPO_HOOK_XDP_NATIVE || hook == MPO_HOOK_XDP_GENERIC;
	int program_fd;

	if ((!xdp && hook != MPO_HOOK_TCX && hook != MPO_HOOK_CLSACT) || (xdp && !ethernet))
		return -EINVAL;
	if (xdp)
		program_fd = mpo_bpf_program_fd(bpf, MPO_PROGRAM_XDP);
	else
		program_fd = mpo_bpf_program_fd(bpf, ethernet ? MPO_PROGRAM_TC_ETHERNET : MPO_PROGRAM_TC_IP);
	if (program_fd < 0)
		return program_fd;
	if (hook == MPO_HOOK_CLSACT)
		return attach_filter(bpf, program_fd, ifindex);
	return attach_link(bpf, program_fd, ifindex, hook);
}

int mpo_bpf_detach(struct mpo_bpf *bpf, __u32 ifindex, __u32 hook)
{
	if (hook == MPO_HOOK_CLSACT)
		return detach_filter(bpf, ifindex);
	return detach_link(bpf, ifindex, hook);
}

int mpo_bpf_attached(struct mpo_bpf *bpf, __u32 ifindex, __u32 hook)
{
	struct mpo_hook *found;

	if (hook == MPO_HOOK_CLSACT)
		return filter_is_attached(bpf, ifindex);
	found = find_hook(bpf, ifindex, hook);
	return found && link_is_alive(found->fd, ifindex);
}

int mpo_bpf_remove_qdisc(__u32 ifindex)
{
	/* Both directions at once is what libbpf takes for "the qdisc itself". */
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

	return filter_error(bpf_tc_hook_destroy(&hook));
}
