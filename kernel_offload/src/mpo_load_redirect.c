/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <sys/syscall.h>

#include "mpo_load.h"

#define TCX_INGRESS 46		/* BPF_TCX_INGRESS, which older headers lack */

static int bpf(int command, union bpf_attr *attr, unsigned int size)
{
	long result = syscall(SYS_bpf, command, attr, size);

	return result < 0 ? -errno : (int)result;
}

int mpo_load_redirect(__u32 from_ifindex, __u32 to_ifindex)
{
	/* return bpf_redirect(to_ifindex, 0); */
	const struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = (__s32)to_ifindex },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load, link;
	int program_fd, link_fd;

	memset(&load, 0, sizeof(load));
	load.prog_type = BPF_PROG_TYPE_SCHED_CLS;
	load.insn_cnt = sizeof(program) / sizeof(program[0]);
	load.insns = (__u64)(unsigned long)program;
	load.license = (__u64)(unsigned long)"GPL";
	program_fd = bpf(BPF_PROG_LOAD, &load, sizeof(load));
	if (program_fd < 0)
		return program_fd;
	memset(&link, 0, sizeof(link));
	link.link_create.prog_fd = (__u32)program_fd;
	link.link_create.target_ifindex = from_ifindex;
	link.link_create.attach_type = TCX_INGRESS;
	link_fd = bpf(BPF_LINK_CREATE, &link, sizeof(link));
	close(program_fd);	/* the link holds it */
	return link_fd;
}
