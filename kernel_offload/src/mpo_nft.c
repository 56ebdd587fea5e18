/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/filter.h>
#include <sys/socket.h>

#include "mpo_nft_private.h"
#include "mpo_nft_route.h"

#define VERSION 1	/* of what the table looks like: another one is not taken over */
#define HOOKS_MAX 256
/* What nft can read as part of a name. */
#define INSTANCE_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
#define HOOK_PREFIX "in_"
#define INSTANCE_MAX 64
#define DUMP_ATTEMPTS 4	/* while somebody else changes nftables */

/* A socket that hears of all changes but our own: the originator's port stands in each message. */
static int monitor_open(__u32 portid)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(portid), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffffu),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	int group = NFNLGRP_NFTABLES;
	int err;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* ---- the table ---- */

struct table_state {
	const struct mpo_nft_shape *shape;
	__u64 handle;
	bool found, ours;
};

static void table_ask(const void *about, struct nlmsghdr *request)
{
	mpo_nft_put_text(request, NFTA_TABLE_NAME, ((const struct table_state *)about)->shape->name);
}

static void table_answer(void *context, __u32 tag, int error, const struct nlmsghdr *message)
{
	struct table_state *state = context;
	struct mpo_nft_attributes all;
	const struct nlattr *userdata;
	const __u8 *comment;
	size_t length = strlen(state->shape->comment) + 1;

	(void)tag;
	(void)error;
	if (!message)
		return;
	all = mpo_nft_message_attributes(message, sizeof(struct nfgenmsg));
	state->found = true;
	state->handle = mpo_nft_u64(mpo_nft_find(all, NFTA_TABLE_HANDLE));
	userdata = mpo_nft_find(all, NFTA_TABLE_USERDATA);
	if (userdata && mpo_nft_payload_length(userdata) == 2 + length) {
		comment = mpo_nft_payload(userdata);
		state->ours = memcmp(comment + 2, state->shape->comment, length) == 0;
	}
}

/* -errno other than -ENOENT, which leaves .found false. */
static int table_look(struct mpo_nft *nft, struct table_state *state)
{
	int err;

	*state = (struct table_state){ .shape = &nft->shape };
	err = mpo_nft_ask(&nft->talk, NFT_MSG_GETTABLE, 0, table_ask, state, table_answer, state);
	return err == -ENOENT ? 0 : err;
}

static void books_clear(struct mpo_nft *nft)
{
	mpo_nft_flows_clear(&nft->flows);
	mpo_nft_ways_clear(nft);
	memset(nft->in_map, 0, sizeof(nft->in_map));
}

int mpo_nft_rebuild(struct mpo_nft *nft)
{
	struct table_state state;
	int err;

	err = table_look(nft, &state);
	if (err < 0)
		return err;
	mpo_nft_begin(&nft->talk);
	if (state.found)
		mpo_nft_table_delete(&nft->talk, &nft->shape);
	err = mpo_nft_table_put(&nft->talk, &nft->shape);
	if (err == 0)
		err = mpo_nft_maps_put(&nft->talk, &nft->shape);
	if (err == 0)
		err = mpo_nft_rules_put(&nft->talk, &nft->shape);
	if (err == 0)
		err = mpo_nft_commit(&nft->talk, NULL, NULL);
	if (err < 0)
		return err;
	books_clear(nft);
	err = table_look(nft, &state);
	nft->table_handle = state.handle;
	return err;
}

/* Own what a dead process left, with this version's rules. */
static int table_take_over(struct mpo_nft *nft)
{
	int err;

	mpo_nft_begin(&nft->talk);
	err = nft->shape.flags & MPO_NFT_OWNER ? mpo_nft_table_put(&nft->talk, &nft->shape) : 0;
	if (err == 0)
		err = mpo_nft_rules_put(&nft->talk, &nft->shape);
	if (err == 0)
		err = mpo_nft_commit(&nft->talk, NULL, NULL);
	return err < 0 ? err : mpo_nft_read_flows(nft);
}

static int table_open(struct mpo_nft *nft)
{
	struct table_state state;
	int err;

	err = table_look(nft, &state);
	if (err < 0)
		return err;
	nft->table_handle = state.handle;
	if (state.ours) {
		err = table_take_over(nft);
		if (err == 0 || err == -EPERM)
			return err;
	}
	return mpo_nft_rebuild(nft);
}

static void open_explain(int err, const char *table, char *reason)
{
	switch (-err) {
	case EPERM:
		snprintf(reason, MPO_NFT_REASON_LENGTH,
			 "no CAP_NET_ADMIN, or another process owns the table %s", table);
		break;
	case EPROTONOSUPPORT:
	case EOPNOTSUPP:
	case ENOENT:
		snprintf(reason, MPO_NFT_REASON_LENGTH,
			 "this kernel lacks a part of nftables: netdev tables, fwd or counting maps (%s)", strerror(-err));
		break;
	default:
		snprintf(reason, MPO_NFT_REASON_LENGTH, "table %s: %s", table, strerror(-err));
	}
}

static void nft_free(struct mpo_nft *nft)
{
	mpo_nft_flows_destroy(&nft->flows);
	if (nft->monitor_fd >= 0)
		close(nft->monitor_fd);
	if (nft->route_fd >= 0)
		close(nft->route_fd);
	if (nft->talk.batch)
		mpo_nft_talk_close(&nft->talk);
	if (nft->lib.handle)
		mpo_nft_lib_close(&nft->lib);
	free(nft);
}

int mpo_nft_open(const char *instance, __u32 slots, __u32 form, __u32 flags, struct mpo_flow_stats *stats,
		 struct mpo_nft **out, char *reason)
{
	struct mpo_nft *nft;
	int err;

	reason[0] = '\0';
	if (!slots || slots > MPO_NFT_SLOTS_MAX || form > MPO_NFT_FAST || flags > MPO_NFT_OWNER || !instance[0] ||
	    strlen(instance) > INSTANCE_MAX ||
	    instance[strspn(instance, INSTANCE_LETTERS)]) {
		snprintf(reason, MPO_NFT_REASON_LENGTH, "number of slots, form or name of the instance out of range");
		return -EINVAL;
	}
	nft = calloc(1, sizeof(*nft));
	if (!nft)
		return -ENOMEM;
	nft->monitor_fd = nft->route_fd = -1;
	nft->stats = stats;
	nft->ways_end = 1;
	nft->shape.form = form;
	nft->shape.flags = flags;
	nft->shape.slots = slots;
	snprintf(nft->shape.name, sizeof(nft->shape.name), "mediaproxy_%s", instance);
	snprintf(nft->shape.comment, sizeof(nft->shape.comment), "mediaproxy %d %s slots %u%s", VERSION,
		 form == MPO_NFT_FAST ? "fast" : "readable", slots, flags & MPO_NFT_OWNER ? " owned" : "");
	err = mpo_nft_lib_open(&nft->lib, reason);
	if (err < 0)
		goto err_free;	/* which has said why */
	err = mpo_nft_flows_create(&nft->flows, slots);
	if (err == 0)
		err = mpo_nft_talk_open(&nft->talk, &nft->lib);
	if (err == 0)
		err = nft->monitor_fd = monitor_open(nft->talk.portid);
	if (err >= 0)
		err = nft->route_fd = mpo_nft_route_open();
	if (err >= 0)
		err = table_open(nft);
	if (err < 0) {
		open_explain(err, nft->shape.name, reason);
		goto err_free;
	}
	*out = nft;
	return 0;
err_free:
	nft_free(nft);
	return err;
}

void mpo_nft_leave(struct mpo_nft *nft)
{
	nft_free(nft);
}

int mpo_nft_remove(struct mpo_nft *nft)
{
	int err;

	mpo_nft_begin(&nft->talk);
	mpo_nft_table_delete(&nft->talk, &nft->shape);
	err = mpo_nft_commit(&nft->talk, NULL, NULL);
	nft_free(nft);
	return err == -ENOENT ? 0 : err;
}

/* ---- hooks ---- */

/* The base chains that the table has. */
struct hooks {
	const struct mpo_nft_shape *shape;
	__u32 count;
	struct {
		char chain[32];
		char device[16];
	} hooks[HOOKS_MAX];
};

static bool text_copy(const struct nlattr *attribute, char *to, size_t size)
{
	if (!attribute || mpo_nft_payload_length(attribute) > size)
		return false;
	memcpy(to, mpo_nft_payload(attribute), mpo_nft_payload_length(attribute));
	to[size - 1] = '\0';
	return true;
}

static void hooks_answer(void *context, __u32 tag, int error, const struct nlmsghdr *message)
{
	struct mpo_nft_attributes all, hook;
	struct hooks *hooks = context;
	const struct nlattr *found, *device;

	(void)tag;
	(void)error;
	if (!message || hooks->count == HOOKS_MAX)
		return;
	all = mpo_nft_message_attributes(message, sizeof(struct nfgenmsg));
	found = mpo_nft_find(all, NFTA_CHAIN_HOOK);
	if (!found || !mpo_nft_is(mpo_nft_find(all, NFTA_CHAIN_TABLE), hooks->shape->name))
		return;
	hook = mpo_nft_nested(found);
	device = mpo_nft_find(hook, NFTA_HOOK_DEV);
	if (!device)
		device = mpo_nft_find(mpo_nft_nested(mpo_nft_find(hook, NFTA_HOOK_DEVS)), NFTA_DEVICE_NAME);
	memset(&hooks->hooks[hooks->count], 0, sizeof(hooks->hooks[0]));
	if (!text_copy(mpo_nft_find(all, NFTA_CHAIN_NAME), hooks->hooks[hooks->count].chain,
		       sizeof(hooks->hooks[0].chain)))
		return;
	/* Without a device the chain hooks nothing any more: it will be found to be the wrong one, and removed. */
	(void)text_copy(device, hooks->hooks[hooks->count].device, sizeof(hooks->hooks[0].device));
	hooks->count++;
}

static void hook_name(char *name, size_t size, __u32 ifindex)
{
	snprintf(name, size, HOOK_PREFIX "%u", ifindex);
}

/* Devices whose traffic may leave by one with a shorter limit need the limit tested. */
static void longest_find(struct mpo_nft *nft, const struct mpo_nft_link *links, __u32 count)
{
	__u32 shortest = 0, longest = 0, i;

	for (i = 0; i < count; i++) {
		if (links[i].loopback)
			continue;
		if (!shortest || links[i].mtu < shortest)
			shortest = links[i].mtu;
		if (links[i].mtu > longest)
			longest = links[i].mtu;
	}
	for (i = 0; i < nft->flows.fresh; i++) {
		const struct mpo_nft_flow *flow = &nft->flows.flows[i];

		if (flow->used && !(flow->flow.flags & MPO_FLOW_LOCAL) && flow->flow.mtu && flow->flow.mtu < shortest)
			shortest = flow->flow.mtu;
	}
	nft->shortest_mtu = shortest;
	nft->shape.longest = shortest < longest ? shortest : 0;
}

static int hook_put(struct mpo_nft *nft, const char *chain, const struct mpo_nft_link *link, bool exists, bool tagged)
{
	int err = 0;

	mpo_nft_begin(&nft->talk);
	if (!exists)
		err = mpo_nft_chain_put(&nft->talk, &nft->shape, chain, link->name);
	if (err == 0)
		err = mpo_nft_hook_rules_put(&nft->talk, &nft->shape, chain, link->loopback, tagged && link->ethernet);
	return err < 0 ? err : mpo_nft_commit(&nft->talk, NULL, NULL);
}

int mpo_nft_attach(struct mpo_nft *nft, struct mpo_nft_link *links, __u32 count)
{
	bool tagged[HOOKS_MAX], exists[HOOKS_MAX] = { false };
	struct hooks hooks = { .shape = &nft->shape };
	__u32 ifindexes[HOOKS_MAX], i, k;
	char chain[32];
	int err, attempt;

	for (i = 0; i < count; i++)
		links[i].hooked = 0;
	if (count > HOOKS_MAX)
		count = HOOKS_MAX;
	for (i = 0; i < count; i++)
		ifindexes[i] = links[i].ifindex;
	err = mpo_nft_route_find_tagged(nft->route_fd, ifindexes, count, tagged);
	if (err < 0)
		return err;
	/*
	 * Chains are dumped by their number, so that some are missed when others' go meanwhile. One that was missed is
	 * hooked again, which changes nothing, or stays until the next time.
	 */
	for (attempt = 0, err = -EINTR; attempt < DUMP_ATTEMPTS && err == -EINTR; attempt++) {
		hooks.count = 0;
		err = mpo_nft_ask(&nft->talk, NFT_MSG_GETCHAIN, NLM_F_DUMP, NULL, NULL, hooks_answer, &hooks);
	}
	if (err < 0 && err != -EINTR)
		return err;
	for (k = 0; k < hooks.count; k++) {
		for (i = 0; i < count; i++) {
			hook_name(chain, sizeof(chain), links[i].ifindex);
			if (strcmp(chain, hooks.hooks[k].chain) == 0 &&
			    strncmp(links[i].name, hooks.hooks[k].device, sizeof(links[i].name)) == 0)
				break;
		}
		if (i < count) {
			exists[i] = true;
			continue;
		}
		mpo_nft_begin(&nft->talk);
		mpo_nft_chain_delete(&nft->talk, &nft->shape, hooks.hooks[k].chain);
		err = mpo_nft_commit(&nft->talk, NULL, NULL);
		if (err < 0 && err != -ENOENT)
			return err;
	}
	longest_find(nft, links, count);
	mpo_nft_begin(&nft->talk);
	err = mpo_nft_rules_put(&nft->talk, &nft->shape);
	if (err == 0)
		err = mpo_nft_commit(&nft->talk, NULL, NULL);
	if (err < 0)
		return err;
	for (i = 0; i < count; i++) {
		hook_name(chain, sizeof(chain), links[i].ifindex);
		links[i].hooked = hook_put(nft, chain, &links[i], exists[i], tagged[i]) == 0;
	}
	return 0;
}

/* ---- being told ---- */

int mpo_nft_watch_fd(const struct mpo_nft *nft)
{
	return nft->monitor_fd;
}

static bool message_is_foreign(const struct mpo_nft *nft, const struct nlmsghdr *message)
{
	struct mpo_nft_attributes all = mpo_nft_message_attributes(message, sizeof(struct nfgenmsg));

	/* The kernel itself (port 0) reports devices that came or went. */
	if (message->nlmsg_pid == 0 || message->nlmsg_pid == nft->talk.portid ||
	    message->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES || (message->nlmsg_type & 0xff) == NFT_MSG_NEWGEN)
		return false;
	/* Whatever it is about, its first attribute type is the table's name. */
	return mpo_nft_is(mpo_nft_find(all, NFTA_TABLE_NAME), nft->shape.name);
}

int mpo_nft_check(struct mpo_nft *nft)
{
	_Alignas(8) char buffer[65536];
	const struct nlmsghdr *message;
	struct table_state state;
	int seen = 0, err;
	ssize_t length;
	size_t rest;

	for (;;) {
		length = recv(nft->monitor_fd, buffer, sizeof(buffer), 0);
		/* ENOBUFS: more than we could take in. Then the table's handle has to tell. */
		if (length < 0 && (errno == EINTR || errno == ENOBUFS))
			continue;
		if (length < 0)
			break;
		rest = (size_t)length;
		for (message = (const struct nlmsghdr *)buffer; NLMSG_OK(message, rest);
		     message = NLMSG_NEXT(message, rest))
			if (message_is_foreign(nft, message))
				seen |= MPO_NFT_FOREIGN;
	}
	err = table_look(nft, &state);
	if (err < 0)
		return err;
	if (!state.found)
		seen |= MPO_NFT_GONE;
	else if (state.handle != nft->table_handle)
		seen |= MPO_NFT_FOREIGN;
	return seen;
}
