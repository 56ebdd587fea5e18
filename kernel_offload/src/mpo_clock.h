/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The one clock of the relay, the same as Python's time.monotonic(). */
#ifndef MPO_CLOCK_H
#define MPO_CLOCK_H

#include <time.h>

#include "mpo_abi.h"

/* Nanoseconds; never 0, which means "never" in the statistics. No system call (vDSO). */
static inline __u64 mpo_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000u + (__u64)now.tv_nsec + 1;
}

#endif
