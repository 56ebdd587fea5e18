/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The map of flows: changes in runs of one kind, each run in as few system calls as it takes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mpo_address.h"
#include "mpo_bpf_private.h"

#define BATCH_MAX 1024u
#define BATCH_MIN 8u	/* below that single calls are as quick */

struct batch {
	struct mpo_endpoint keys[BATCH_MAX];
	struct mpo_flow flows[BATCH_MAX];
	struct mpo_flow_change *changes[BATCH_MAX];
	__u32 count;
};

static struct mpo_endpoint key_of(const struct mpo_flow_change *change)
{
	struct mpo_endpoint key = change->local;

	key.zero = 0;
	return key;
}

/* A full hash says "too big". */
static int map_error(int number)
{
	return number == E2BIG ? -ENOSPC : -number;
}

static bool is_ip4(const struct mpo_endpoint *endpoint)
{
	return memcmp(endpoint->address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix)) == 0;
}

/* The programs take the family of what leaves from the target, and the sender's last four bytes if that is IPv4. */
static bool is_valid(const struct mpo_bpf *bpf, const struct mpo_flow *flow)
{
	return flow->slot < bpf->slots && flow->generation != 0 && (flow->flags & ~MPO_FLOW_FLAGS) == 0 &&
	       flow->clock_rate_count <= MPO_FLOW_CLOCK_RATES_MAX && flow->sender.port != 0 &&
	       flow->target.port != 0 && is_ip4(&flow->sender) == is_ip4(&flow->target);
}

static void set_failed(struct mpo_bpf *bpf, struct mpo_flow_change *change, const struct mpo_endpoint *key, int err)
{
	change->result = err;
	bpf_map_delete_elem(bpf->flows_fd, key);
}

static void set_one(struct mpo_bpf *bpf, struct mpo_flow_change *change, const struct mpo_endpoint *key,
		    const struct mpo_flow *flow)
{
	change->result = 0;
	if (bpf_map_update_elem(bpf->flows_fd, key, flow, BPF_ANY))
		set_failed(bpf, change, key, map_error(errno));
}

static void delete_one(struct mpo_bpf *bpf, struct mpo_flow_change *change, const struct mpo_endpoint *key)
{
	change->result = bpf_map_delete_elem(bpf->flows_fd, key) && errno != ENOENT ? -errno : 0;
}

static void set_all(struct mpo_bpf *bpf, struct batch *batch)
{
	__u32 i = 0, done;

	while (i < batch->count) {
		done = batch->count - i;
		if (done < BATCH_MIN) {
			set_one(bpf, batch->changes[i], &batch->keys[i], &batch->flows[i]);
			i++;
			continue;
		}
		if (bpf_map_update_batch(bpf->flows_fd, &batch->keys[i], &batch->flows[i], &done, NULL) == 0) {
			i = batch->count;
		} else if (done < batch->count - i) {
			i += done;	/* this one failed: by itself it says why */
			set_one(bpf, batch->changes[i], &batch->keys[i], &batch->flows[i]);
			i++;
		} else {	/* the call as such: no memory for a moment */
			set_one(bpf, batch->changes[i], &batch->keys[i], &batch->flows[i]);
			i++;
		}
	}
	batch->count = 0;
}

static void delete_all(struct mpo_bpf *bpf, struct batch *batch)
{
	__u32 i = 0, done;

	while (i < batch->count) {
		done = batch->count - i;
		if (done >= BATCH_MIN &&
		    bpf_map_delete_batch(bpf->flows_fd, &batch->keys[i], &done, NULL) == 0) {
			i = batch->count;
			continue;
		}
		if (batch->count - i >= BATCH_MIN && done < batch->count - i)
			i += done;
		delete_one(bpf, batch->changes[i], &batch->keys[i]);
		i++;
	}
	batch->count = 0;
}

/* Whether the flow that is meant is the one that is there. */
static bool is_installed(const struct mpo_bpf *bpf, const struct mpo_endpoint *key, const struct mpo_flow *meant)
{
	struct mpo_flow flow;

	return bpf_map_lookup_elem(bpf->flows_fd, key, &flow) == 0 && flow.slot == meant->slot &&
	       flow.generation == meant->generation;
}

static void carry_out(struct mpo_bpf *bpf, struct batch *batch, __u16 operation)
{
	if (operation == MPO_FLOW_SET)
		set_all(bpf, batch);
	else
		delete_all(bpf, batch);
}

int mpo_bpf_apply(struct mpo_bpf *bpf, struct mpo_flow_change *changes, __u32 count)
{
	__u16 operation = MPO_FLOW_SET;
	struct mpo_flow_change *change;
	struct mpo_endpoint key;
	struct mpo_flow flow;
	struct batch *batch;
	__u32 i;

	batch = malloc(sizeof(*batch));
	if (!batch)
		return -ENOMEM;
	batch->count = 0;
	for (i = 0; i < count; i++) {
		change = &changes[i];
		key = key_of(change);
		memcpy(&flow, &change->flow, sizeof(flow));
		change->result = 0;
		if (batch->count == BATCH_MAX || change->operation != operation)
			carry_out(bpf, batch, operation);
		operation = change->operation;
		if (operation == MPO_FLOW_SET && !is_valid(bpf, &flow)) {
			carry_out(bpf, batch, operation);	/* the same key may be in it */
			set_failed(bpf, change, &key, -EINVAL);
			continue;
		}
		if (operation != MPO_FLOW_SET && operation != MPO_FLOW_REMOVE) {
			change->result = -EINVAL;
			operation = MPO_FLOW_SET;
			continue;
		}
		if (operation == MPO_FLOW_REMOVE && !is_installed(bpf, &key, &flow))
			continue;
		batch->keys[batch->count] = key;
		batch->flows[batch->count] = flow;
		batch->changes[batch->count] = change;
		batch->count++;
	}
	carry_out(bpf, batch, operation);
	free(batch);
	return 0;
}

static void write_change(struct mpo_flow_change *change, const struct mpo_endpoint *key, const struct mpo_flow *flow)
{
	memset(change, 0, sizeof(*change));
	change->local = *key;
	change->operation = MPO_FLOW_SET;
	change->flow = *flow;
}

/* One walk with room for @length elements at a time; -ENOSPC: a bucket of the hash holds more. */
static int walk(const struct mpo_bpf *bpf, struct mpo_flow_change *changes, __u32 capacity, __u32 length,
		struct mpo_endpoint *keys, struct mpo_flow *flows)
{
	__u32 cursor = 0, next = 0, found = 0, count, i;
	bool first = true, last;

	for (;;) {
		count = length;
		last = bpf_map_lookup_batch(bpf->flows_fd, first ? NULL : &cursor, &next, keys, flows, &count,
					    NULL) < 0;
		if (last && errno != ENOENT)
			return -errno;
		if (count > capacity - found)
			return -ENOBUFS;
		for (i = 0; i < count; i++)
			write_change(&changes[found + i], &keys[i], &flows[i]);
		found += count;
		if (last)
			return (int)found;
		cursor = next;
		first = false;
	}
}

int mpo_bpf_dump(struct mpo_bpf *bpf, struct mpo_flow_change *changes, __u32 capacity)
{
	struct mpo_endpoint *keys;
	struct mpo_flow *flows;
	__u32 length = BATCH_MAX;
	int result;

	do {
		keys = calloc(length, sizeof(*keys));
		flows = calloc(length, sizeof(*flows));
		result = keys && flows ? walk(bpf, changes, capacity, length, keys, flows) : -ENOMEM;
		free(flows);
		free(keys);
		length *= 2;
	} while (result == -ENOSPC && length <= 2 * bpf->slots);
	return result;
}
