/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include "mpo_address.h"
#include "mpo_nft_route.h"
#include "mpo_nft_talk.h"

#define ANSWER_SIZE 32768

struct request {
	struct nlmsghdr head;
	union {
		struct rtmsg route;
		struct ifinfomsg link;
	};
	char attributes[64];
};

int mpo_nft_route_open(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int err;

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* Netlink answers within send(): what is not in the socket then will not come. */
static ssize_t answer_receive(int fd, char *buffer)
{
	ssize_t length;

	do {
		length = recv(fd, buffer, ANSWER_SIZE, MSG_DONTWAIT);
	} while (length < 0 && errno == EINTR);
	return length < 0 ? -errno : length;
}

int mpo_nft_route_gateway(int fd, const __u8 address[16], __u32 ifindex, __u8 gateway[16])
{
	bool mapped = memcmp(address, mpo_mapped_prefix, sizeof(mpo_mapped_prefix)) == 0;
	size_t skip = mapped ? sizeof(mpo_mapped_prefix) : 0, size = 16 - skip;
	struct request request = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = RTM_GETROUTE,
			  .nlmsg_flags = NLM_F_REQUEST },
		.route = { .rtm_family = mapped ? AF_INET : AF_INET6, .rtm_dst_len = (__u8)(8 * size) },
	};
	_Alignas(8) char buffer[ANSWER_SIZE];
	const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;
	struct mpo_nft_attributes rest;
	const struct nlattr *found;
	ssize_t length;

	memset(gateway, 0, 16);
	mpo_nft_put(&request.head, RTA_DST, address + skip, size);
	mpo_nft_put(&request.head, RTA_OIF, &ifindex, sizeof(ifindex));
	if (send(fd, &request, request.head.nlmsg_len, 0) < 0)
		return -errno;
	length = answer_receive(fd, buffer);
	if (length < 0)
		return (int)length;
	if (!NLMSG_OK(message, (size_t)length))
		return -EPROTO;
	if (message->nlmsg_type == NLMSG_ERROR)
		return ((const struct nlmsgerr *)NLMSG_DATA(message))->error;
	rest = mpo_nft_message_attributes(message, sizeof(struct rtmsg));
	if (mpo_nft_find(rest, RTA_VIA))
		return -EOPNOTSUPP;
	found = mpo_nft_find(rest, RTA_GATEWAY);
	if (found && mpo_nft_payload_length(found) == size) {
		memcpy(gateway, address, skip);
		memcpy(gateway + skip, mpo_nft_payload(found), size);
	}
	return 0;
}

static void link_read(const struct nlmsghdr *message, const __u32 *ifindexes, __u32 count, bool *tagged)
{
	struct mpo_nft_attributes rest = mpo_nft_message_attributes(message, sizeof(struct ifinfomsg));
	const struct nlattr *lower = mpo_nft_find(rest, IFLA_LINK);
	const struct nlattr *about = mpo_nft_find(rest, IFLA_LINKINFO);
	__u32 index, i;

	if (!lower || !about || mpo_nft_payload_length(lower) != sizeof(index) ||
	    !mpo_nft_is(mpo_nft_find(mpo_nft_nested(about), IFLA_INFO_KIND), "vlan"))
		return;
	memcpy(&index, mpo_nft_payload(lower), sizeof(index));
	for (i = 0; i < count; i++)
		if (ifindexes[i] == index)
			tagged[i] = true;
}

int mpo_nft_route_find_tagged(int fd, const __u32 *ifindexes, __u32 count, bool *tagged)
{
	struct request request = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_GETLINK,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.link = { .ifi_family = AF_UNSPEC },
	};
	_Alignas(8) char buffer[ANSWER_SIZE];
	const struct nlmsghdr *message;
	ssize_t length;
	size_t rest;

	memset(tagged, 0, count * sizeof(*tagged));
	if (send(fd, &request, request.head.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		length = answer_receive(fd, buffer);
		if (length < 0)
			return (int)length;
		rest = (size_t)length;
		for (message = (const struct nlmsghdr *)buffer; NLMSG_OK(message, rest);
		     message = NLMSG_NEXT(message, rest)) {
			if (message->nlmsg_type == NLMSG_DONE)
				return 0;
			if (message->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(message))->error;
			link_read(message, ifindexes, count, tagged);
		}
	}
}
