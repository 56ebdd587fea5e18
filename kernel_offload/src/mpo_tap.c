/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The reader of a BPF ring buffer. libbpf has one, too, but that one hands out each record by a call-back and counts it
 * as read whatever the call-back says; here the caller's memory sets the pace.
 *
 * Layout: linux/bpf.h, BPF_RINGBUF_*: a page with the reader's position, a page with the writers', and the data, mapped
 * twice in a row so that no record is cut. Each record: length and flags (4 bytes), 4 bytes of the kernel's, data;
 * padded to 8.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "mpo_bpf.h"

struct mpo_tap {
	unsigned long *taken;		/* how far we have read */
	const unsigned long *written;
	const __u8 *data;
	void *map;
	size_t page;
	size_t map_length;
	unsigned long mask;
};

int mpo_tap_open(int fd, struct mpo_tap **out)
{
	struct bpf_map_info info;
	__u32 length = sizeof(info);
	struct mpo_tap *tap;
	void *map;
	int err;

	memset(&info, 0, sizeof(info));
	if (bpf_obj_get_info_by_fd(fd, &info, &length))
		return -errno;
	if (info.type != BPF_MAP_TYPE_RINGBUF)
		return -EINVAL;
	tap = calloc(1, sizeof(*tap));
	if (!tap)
		return -ENOMEM;
	tap->page = (size_t)sysconf(_SC_PAGESIZE);
	tap->mask = info.max_entries - 1ul;
	map = mmap(NULL, tap->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		goto err_free;
	tap->taken = map;
	tap->map_length = tap->page + 2ul * info.max_entries;
	map = mmap(NULL, tap->map_length, PROT_READ, MAP_SHARED, fd, (off_t)tap->page);
	if (map == MAP_FAILED)
		goto err_unmap;
	tap->map = map;
	tap->written = map;
	tap->data = (const __u8 *)map + tap->page;
	*out = tap;
	return 0;
err_unmap:
	err = -errno;
	munmap(tap->taken, tap->page);
	free(tap);
	return err;
err_free:
	err = -errno;
	free(tap);
	return err;
}

void mpo_tap_close(struct mpo_tap *tap)
{
	if (!tap)
		return;
	munmap(tap->map, tap->map_length);
	munmap(tap->taken, tap->page);
	free(tap);
}

static __u32 padded(__u32 length)
{
	return (length + 7u) & ~7u;
}

int mpo_tap_take(struct mpo_tap *tap, __u8 *buffer, __u32 length)
{
	unsigned long at = __atomic_load_n(tap->taken, __ATOMIC_RELAXED);
	unsigned long end = __atomic_load_n(tap->written, __ATOMIC_ACQUIRE);
	const struct mpo_tap_record *record;
	const __u32 *header;
	__u32 state, size, used = 0;

	while (at < end) {
		header = (const __u32 *)(const void *)(tap->data + (at & tap->mask));
		state = __atomic_load_n(header, __ATOMIC_ACQUIRE);
		if (state & BPF_RINGBUF_BUSY_BIT)
			break;	/* being written at this moment */
		size = state & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		if (!(state & BPF_RINGBUF_DISCARD_BIT)) {
			record = (const void *)((const __u8 *)header + BPF_RINGBUF_HDR_SZ);
			if (size < sizeof(*record) || record->length > size - sizeof(*record))
				break;	/* not ours: no descriptor of a tap */
			if (padded((__u32)sizeof(*record) + record->length) > length - used)
				break;
			memset(buffer + used, 0, padded((__u32)sizeof(*record) + record->length));
			memcpy(buffer + used, record, sizeof(*record) + record->length);
			used += padded((__u32)sizeof(*record) + record->length);
		}
		at += padded(size + BPF_RINGBUF_HDR_SZ);
		__atomic_store_n(tap->taken, at, __ATOMIC_RELEASE);
	}
	return (int)used;
}
