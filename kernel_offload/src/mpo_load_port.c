/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "mpo_load_port.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

/* 48 MiB a side: a quarter of a second at a million packets a second. */
#define BLOCK_SIZE (1u << 20)
#define BLOCKS 48u
#define SLOT_SIZE 2048u
#define RETIRE_MS 5u		/* a block that is not full is handed over after so long */
#define SEND_BUFFER (8 << 20)

static int read_mac(int fd, unsigned int ifindex, __u8 mac[6])
{
	struct ifreq request = { 0 };

	if (!if_indextoname(ifindex, request.ifr_name))
		return -ENODEV;
	if (ioctl(fd, SIOCGIFHWADDR, &request) < 0)
		return -errno;
	memcpy(mac, request.ifr_hwaddr.sa_data, 6);
	return 0;
}

static int open_sender(struct mpo_load_port *port, const struct sockaddr_ll *address)
{
	int one = 1, buffer = SEND_BUFFER, err;

	port->send_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (port->send_fd < 0)
		return -errno;
	err = read_mac(port->send_fd, (unsigned int)address->sll_ifindex, port->mac);
	if (err < 0)
		return err;
	/* Without the queueing discipline a full receiver is told at once (ENOBUFS), so nothing waits here unseen. */
	if (setsockopt(port->send_fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0)
		return -errno;
	if (setsockopt(port->send_fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer)) < 0 &&
	    setsockopt(port->send_fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) < 0)
		return -errno;
	return bind(port->send_fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

static int open_receiver(struct mpo_load_port *port, const struct sockaddr_ll *address, unsigned int snap)
{
	struct sock_filter take_head[] = { BPF_STMT(BPF_RET | BPF_K, snap) };
	struct sock_fprog filter = { .len = 1, .filter = take_head };
	struct tpacket_req3 ring = {
		.tp_block_size = BLOCK_SIZE, .tp_block_nr = BLOCKS, .tp_frame_size = SLOT_SIZE,
		.tp_frame_nr = BLOCKS * (BLOCK_SIZE / SLOT_SIZE), .tp_retire_blk_tov = RETIRE_MS,
	};
	struct sockaddr_ll all = *address;
	int one = 1, version = TPACKET_V3;

	/* Protocol 0: nothing arrives before the ring is there. */
	port->receive_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (port->receive_fd < 0)
		return -errno;
	if (setsockopt(port->receive_fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
	    setsockopt(port->receive_fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0 ||
	    setsockopt(port->receive_fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ||
	    setsockopt(port->receive_fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)) < 0)
		return -errno;
	port->ring = mmap(NULL, (size_t)BLOCK_SIZE * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_LOCKED,
			  port->receive_fd, 0);
	if (port->ring == MAP_FAILED) {
		port->ring = NULL;
		return -errno;
	}
	all.sll_protocol = htons(ETH_P_ALL);
	return bind(port->receive_fd, (const struct sockaddr *)&all, sizeof(all)) < 0 ? -errno : 0;
}

int mpo_load_port_open(struct mpo_load_port *port, unsigned int ifindex, const __u8 relay_mac[6], unsigned int snap)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = (int)ifindex };
	int err;

	*port = (struct mpo_load_port){ .send_fd = -1, .receive_fd = -1 };
	memcpy(port->relay_mac, relay_mac, sizeof(port->relay_mac));
	err = open_sender(port, &address);
	if (err == 0)
		err = open_receiver(port, &address, snap);
	if (err < 0)
		mpo_load_port_close(port);
	return err;
}

void mpo_load_port_close(struct mpo_load_port *port)
{
	if (port->ring)
		munmap(port->ring, (size_t)BLOCK_SIZE * BLOCKS);
	if (port->receive_fd >= 0)
		close(port->receive_fd);
	if (port->send_fd >= 0)
		close(port->send_fd);
	*port = (struct mpo_load_port){ .send_fd = -1, .receive_fd = -1 };
}

void mpo_load_port_send(struct mpo_load_port *port, struct mmsghdr *messages, unsigned int count, __u64 *dropped,
			__u64 *failed)
{
	unsigned int done = 0;

	while (done < count) {
		int sent = sendmmsg(port->send_fd, messages + done, count - done, 0);

		if (sent > 0) {
			done += (unsigned int)sent;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == ENOBUFS)
			++*dropped;
		else
			++*failed;
		done++;
	}
}

bool mpo_load_port_drain(struct mpo_load_port *port, mpo_load_taker take, void *context)
{
	bool any = false;

	for (;;) {
		struct tpacket_block_desc *block = (void *)(port->ring + (size_t)port->block * BLOCK_SIZE);
		__u8 *packet;

		if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			return any;
		packet = (__u8 *)block + block->hdr.bh1.offset_to_first_pkt;
		for (__u32 i = 0; i < block->hdr.bh1.num_pkts; i++) {
			const struct tpacket3_hdr *header = (const void *)packet;

			take(context, packet + header->tp_mac, header->tp_snaplen, header->tp_len,
			     (__u64)header->tp_sec * 1000000000u + header->tp_nsec);
			packet += header->tp_next_offset;
		}
		__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		port->block = (port->block + 1) % BLOCKS;
		any = true;
	}
}

__u64 mpo_load_port_drops(struct mpo_load_port *port)
{
	struct tpacket_stats_v3 stats;
	socklen_t length = sizeof(stats);

	if (getsockopt(port->receive_fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) < 0)
		return 0;
	return stats.tp_drops;
}
