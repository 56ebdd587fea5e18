/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writing to and reading from statistics memory without locks.
 *
 * A record has one writer at a time. Between mpo_record_begin() and mpo_record_end() its version is odd. All stores
 * are releases, so that none is seen before the odd version; all loads of a reader are acquires, so that the version
 * is read again only after them. Both are plain moves on x86.
 */
#ifndef MPO_SHARED_H
#define MPO_SHARED_H

#include <stddef.h>

#include "mpo_abi.h"

#define mpo_put(field, value) __atomic_store_n((field), (value), __ATOMIC_RELEASE)

/* What the one writer itself reads. */
#define mpo_own(field) __atomic_load_n((field), __ATOMIC_RELAXED)

static inline void mpo_add(__u64 *field, __u64 by)
{
	mpo_put(field, mpo_own(field) + by);
}

static inline void mpo_record_begin(__u32 *version)
{
	mpo_put(version, mpo_own(version) + 1);
}

static inline void mpo_record_end(__u32 *version)
{
	mpo_put(version, mpo_own(version) + 1);
}

/* Set a record of a multiple of eight bytes to zero, as its writer. */
void mpo_shared_zero(void *record, size_t length);

/* Overwrite a record of a multiple of eight bytes, as its writer. */
void mpo_shared_put(void *record, const void *from, size_t length);

/* Copy a record of a multiple of eight bytes word by word, whoever is writing it. */
void mpo_shared_snap(void *to, const void *from, size_t length);

/*
 * Copy a record of a multiple of eight bytes that others may be writing; *version is within it. Waits, yielding the
 * processor, while a writer is at work: a writer needs a microsecond.
 */
void mpo_shared_copy(void *to, const void *from, size_t length, const __u32 *version);

/* The same for several records that one version guards. */
struct mpo_shared_part {
	void *to;
	const void *from;
	size_t length;
};
void mpo_shared_copy_parts(const struct mpo_shared_part *parts, unsigned int count, const __u32 *version);

#endif
