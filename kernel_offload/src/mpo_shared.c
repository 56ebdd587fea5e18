/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <sched.h>

#include "mpo_shared.h"

/* A writer that was interrupted in the middle needs the processor, not a reader that spins on it. */
#define SPINS_BEFORE_YIELD 64

typedef __u64 __attribute__((may_alias)) shared_word;

void mpo_shared_zero(void *record, size_t length)
{
	shared_word *words = record;
	size_t i;

	for (i = 0; i < length / sizeof(*words); i++)
		mpo_put(&words[i], 0);
}

void mpo_shared_put(void *record, const void *from, size_t length)
{
	const shared_word *source = from;
	shared_word *words = record;
	size_t i;

	for (i = 0; i < length / sizeof(*words); i++)
		mpo_put(&words[i], source[i]);
}

void mpo_shared_snap(void *to, const void *from, size_t length)
{
	const shared_word *source = from;
	shared_word *words = to;
	size_t i;

	for (i = 0; i < length / sizeof(*words); i++)
		words[i] = __atomic_load_n(&source[i], __ATOMIC_ACQUIRE);
}

void mpo_shared_copy_parts(const struct mpo_shared_part *parts, unsigned int count, const __u32 *version)
{
	unsigned int spins, i;
	__u32 before;

	for (spins = 0;; spins++) {
		before = __atomic_load_n(version, __ATOMIC_ACQUIRE);
		if ((before & 1) == 0) {
			for (i = 0; i < count; i++)
				mpo_shared_snap(parts[i].to, parts[i].from, parts[i].length);
			if (__atomic_load_n(version, __ATOMIC_RELAXED) == before)
				return;
		}
		if (spins >= SPINS_BEFORE_YIELD)
			sched_yield();
	}
}

void mpo_shared_copy(void *to, const void *from, size_t length, const __u32 *version)
{
	const struct mpo_shared_part part = { .to = to, .from = from, .length = length };

	mpo_shared_copy_parts(&part, 1, version);
}
