/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "mpo_bpf_private.h"

static const char *const map_names[] = { "flows", "flow_stats", "tap" };
#define MAPS 3
#define MAP_FLOWS 0
#define MAP_STATS 1
#define MAP_TAP 2

int mpo_bpf_pin_path(const struct mpo_bpf *bpf, const char *name, char path[PATH_MAX])
{
	int length = snprintf(path, PATH_MAX, "%s/v%d-%s", bpf->folder, MPO_BPF_ABI, name);

	return length < 0 || length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* To pin elsewhere is -EPERM, which would be taken for a lack of rights. */
static int check_folder(const struct mpo_bpf *bpf)
{
	struct statfs about;

	if (statfs(bpf->folder, &about))
		return -errno;
	return about.f_type == BPF_FS_MAGIC ? 0 : -EXDEV;
}

/* Pins and marks of other ABI numbers: nobody could read their flows. What they hold is let go with them. */
static int remove_other_versions(const struct mpo_bpf *bpf)
{
	struct dirent *entry;
	char *end;
	DIR *folder;
	int err = 0;

	folder = opendir(bpf->folder);
	if (!folder)
		return -errno;
	while ((entry = readdir(folder)) != NULL) {
		if (entry->d_name[0] != 'v')
			continue;
		if (strtol(entry->d_name + 1, &end, 10) == MPO_BPF_ABI || *end != '-')
			continue;
		if (unlinkat(dirfd(folder), entry->d_name, 0) && errno != ENOENT &&
		    unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR))
			err = -errno;
	}
	closedir(folder);
	return err;
}

static bool is_same_kind(const struct bpf_map *map, const struct bpf_map_info *info)
{
	return info->type == (__u32)bpf_map__type(map) && info->key_size == bpf_map__key_size(map) &&
	       info->value_size == bpf_map__value_size(map) && info->map_flags == bpf_map__map_flags(map);
}

/* The pinned map, or -1: there is none, or it is of another kind. */
static int find_pinned(const struct mpo_bpf *bpf, const struct bpf_map *map, const char *name,
		       struct bpf_map_info *info)
{
	__u32 length = sizeof(*info);
	char path[PATH_MAX];
	int fd;

	if (mpo_bpf_pin_path(bpf, name, path))
		return -1;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -1;
	memset(info, 0, sizeof(*info));
	if (bpf_obj_get_info_by_fd(fd, info, &length) == 0 && is_same_kind(map, info))
		return fd;
	close(fd);
	return -1;
}

static bool is_empty(int flows_fd)
{
	struct mpo_endpoint key;

	return bpf_map_get_next_key(flows_fd, NULL, &key) < 0 && errno == ENOENT;
}

/*
 * Which pinned maps are used again, in @fds (else -1). Flows and statistics belong together: slots of the one are
 * indices of the other.
 */
static void choose_pinned(const struct mpo_bpf *bpf, struct bpf_map *const maps[MAPS], const __u32 wanted[MAPS],
			  int fds[MAPS], __u32 *slots)
{
	struct bpf_map_info infos[MAPS];
	__u32 found = *slots;
	int i;

	for (i = 0; i < MAPS; i++)
		fds[i] = find_pinned(bpf, maps[i], map_names[i], &infos[i]);
	if (fds[MAP_TAP] >= 0 && infos[MAP_TAP].max_entries != wanted[MAP_TAP]) {
		close(fds[MAP_TAP]);
		fds[MAP_TAP] = -1;
	}
	if (fds[MAP_FLOWS] >= 0 && fds[MAP_STATS] >= 0) {
		found = infos[MAP_FLOWS].max_entries;
		if (infos[MAP_STATS].max_entries < found)
			found = infos[MAP_STATS].max_entries;
		if (found >= *slots || !is_empty(fds[MAP_FLOWS])) {
			*slots = found;
			return;
		}
	}
	for (i = MAP_FLOWS; i <= MAP_STATS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static int prepare_maps(struct mpo_bpf *bpf, __u32 tap_bytes, bool reused[MAPS])
{
	const __u32 wanted[MAPS] = { bpf->slots, bpf->slots, tap_bytes };
	struct bpf_map *maps[MAPS];
	int fds[MAPS] = { -1, -1, -1 };
	int i, err = 0;

	for (i = 0; i < MAPS; i++) {
		maps[i] = bpf_object__find_map_by_name(bpf->object, map_names[i]);
		if (!maps[i])
			return -ENOENT;
	}
	if (bpf->folder[0] != '\0')
		choose_pinned(bpf, maps, wanted, fds, &bpf->slots);
	for (i = 0; i < MAPS; i++) {
		reused[i] = fds[i] >= 0;
		if (err == 0 && reused[i])
			err = bpf_map__reuse_fd(maps[i], fds[i]);	/* a duplicate */
		else if (err == 0)
			err = bpf_map__set_max_entries(maps[i], wanted[i]);
		if (reused[i])
			close(fds[i]);
	}
	return err;
}

static int pin_maps(const struct mpo_bpf *bpf, const bool reused[MAPS])
{
	const int fds[MAPS] = { bpf->flows_fd, bpf->stats_fd, bpf->tap_fd };
	char path[PATH_MAX];
	int i, err = 0;

	for (i = 0; i < MAPS && err == 0; i++) {
		if (reused[i])
			continue;
		err = mpo_bpf_pin_path(bpf, map_names[i], path);
		if (err)
			break;
		if (unlink(path) && errno != ENOENT) {
			err = -errno;
			break;
		}
		err = bpf_obj_pin(fds[i], path) ? -errno : 0;
	}
	if (err == 0)
		return 0;
	for (; i >= 0; i--)
		if (!reused[i] && mpo_bpf_pin_path(bpf, map_names[i], path) == 0)
			unlink(path);
	return err;
}

static int load(struct mpo_bpf *bpf, __u32 tap_bytes, bool xdp, char *log, __u32 log_length, bool reused[MAPS])
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .kernel_log_buf = log_length > 1 ? log : NULL,
		    .kernel_log_size = log_length > 1 ? log_length : 0);
	struct bpf_program *program;
	int err;

	bpf->object = bpf_object__open_mem(mpo_bpf_object, mpo_bpf_object_size, &options);
	if (!bpf->object)
		return -errno;
	bpf_object__for_each_program(program, bpf->object)
		bpf_program__set_autoload(program, (bpf_program__type(program) == BPF_PROG_TYPE_XDP) == xdp);
	err = prepare_maps(bpf, tap_bytes, reused);
	if (err == 0)
		err = bpf_object__load(bpf->object);
	if (err)
		return err;
	bpf->flows_fd = bpf_object__find_map_fd_by_name(bpf->object, map_names[MAP_FLOWS]);
	bpf->stats_fd = bpf_object__find_map_fd_by_name(bpf->object, map_names[MAP_STATS]);
	bpf->tap_fd = bpf_object__find_map_fd_by_name(bpf->object, map_names[MAP_TAP]);
	return 0;
}

int mpo_bpf_open(const char *pin_folder, __u32 slots, __u32 tap_bytes, __u32 xdp, __u32 identity, char *log,
		 __u32 log_length, struct mpo_bpf **out)
{
	bool reused[MAPS] = { false, false, false };
	struct mpo_bpf *bpf;
	int err = 0;

	if (log_length > 0)
		log[0] = '\0';
	if (slots == 0 || (pin_folder && strlen(pin_folder) >= sizeof(bpf->folder)))
		return -EINVAL;
	bpf = calloc(1, sizeof(*bpf));
	if (!bpf)
		return -ENOMEM;
	bpf->slots = slots;
	bpf->identity = identity;
	libbpf_set_print(NULL);	/* a library does not write to stderr: what matters is in the result and in @log */
	if (pin_folder) {
		memcpy(bpf->folder, pin_folder, strlen(pin_folder) + 1);
		err = check_folder(bpf);
		if (err == 0)
			err = remove_other_versions(bpf);
	}
	if (err == 0)
		err = load(bpf, tap_bytes, xdp != 0, log, log_length, reused);
	if (err == 0 && pin_folder)
		err = pin_maps(bpf, reused);
	if (err) {
		mpo_bpf_close(bpf);
		return err;
	}
	*out = bpf;
	return 0;
}

void mpo_bpf_close(struct mpo_bpf *bpf)
{
	__u32 i;

	if (!bpf)
		return;
	for (i = 0; i < bpf->hook_count; i++)
		close(bpf->hooks[i].fd);
	free(bpf->hooks);
	bpf_object__close(bpf->object);
	free(bpf);
}

int mpo_bpf_unpin(struct mpo_bpf *bpf)
{
	char path[PATH_MAX];
	int i, err = 0;

	if (bpf->folder[0] == '\0')
		return 0;
	for (i = 0; i < MAPS; i++)
		if (mpo_bpf_pin_path(bpf, map_names[i], path) == 0 && unlink(path) && errno != ENOENT)
			err = -errno;
	return err;
}

__u32 mpo_bpf_slots(const struct mpo_bpf *bpf)
{
	return bpf->slots;
}

int mpo_bpf_stats_fd(const struct mpo_bpf *bpf)
{
	return bpf->stats_fd;
}

int mpo_bpf_tap_fd(const struct mpo_bpf *bpf)
{
	return bpf->tap_fd;
}

int mpo_bpf_program_fd(const struct mpo_bpf *bpf, __u32 program)
{
	static const char *const names[] = {
		[MPO_PROGRAM_TC_ETHERNET] = "mpo_tc_ethernet",
		[MPO_PROGRAM_TC_IP] = "mpo_tc_ip",
		[MPO_PROGRAM_XDP] = "mpo_xdp",
	};
	const struct bpf_program *found = NULL;
	int fd;

	if (program > 0 && program < sizeof(names) / sizeof(names[0]))
		found = bpf_object__find_program_by_name(bpf->object, names[program]);
	fd = found ? bpf_program__fd(found) : -1;
	return fd < 0 ? -ENOENT : fd;
}

int mpo_bpf_test_run(struct mpo_bpf *bpf, __u32 program, const __u8 *frame, __u32 length, __u32 ifindex,
		     __u32 repeat, __u8 *output, __u32 output_length, __u32 *verdict, __u32 *duration_ns)
{
	struct __sk_buff skb = { .ifindex = ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = length, .data_out = output,
		    .data_size_out = output_length, .repeat = (int)repeat);
	int fd = mpo_bpf_program_fd(bpf, program);

	if (fd < 0)
		return fd;
	if (program != MPO_PROGRAM_XDP) {
		options.ctx_in = &skb;
		options.ctx_size_in = sizeof(skb);
	}
	if (bpf_prog_test_run_opts(fd, &options))
		return -errno;
	*verdict = options.retval;
	*duration_ns = options.duration;
	return (int)options.data_size_out;
}
