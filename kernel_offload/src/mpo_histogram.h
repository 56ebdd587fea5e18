/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A histogram of durations: 64 steps an octave, so no figure is off by more than 2 %, from 1 ns to centuries. */
#ifndef MPO_HISTOGRAM_H
#define MPO_HISTOGRAM_H

#include "mpo_abi.h"

#define MPO_HISTOGRAM_BITS 6u
#define MPO_HISTOGRAM_BUCKETS (64u << MPO_HISTOGRAM_BITS)

struct mpo_histogram {
	__u64 total;
	__u64 buckets[MPO_HISTOGRAM_BUCKETS];
};

static inline unsigned int mpo_histogram_bucket(__u64 ns)
{
	unsigned int octave;

	if (ns < (1u << MPO_HISTOGRAM_BITS))
		return (unsigned int)ns;
	octave = 63u - (unsigned int)__builtin_clzll(ns);
	return ((octave - MPO_HISTOGRAM_BITS + 1) << MPO_HISTOGRAM_BITS) +
	       (unsigned int)(ns >> (octave - MPO_HISTOGRAM_BITS) & ((1u << MPO_HISTOGRAM_BITS) - 1));
}

/* The first value that is above this bucket. */
static inline __u64 mpo_histogram_top(unsigned int bucket)
{
	unsigned int octave = bucket >> MPO_HISTOGRAM_BITS;
	unsigned int step = bucket & ((1u << MPO_HISTOGRAM_BITS) - 1);

	if (octave == 0)
		return bucket + 1;
	return (__u64)((1u << MPO_HISTOGRAM_BITS) + step + 1) << (octave - 1);
}

static inline void mpo_histogram_add(struct mpo_histogram *histogram, __u64 ns)
{
	histogram->buckets[mpo_histogram_bucket(ns)]++;
	histogram->total++;
}

/* The value that @part (0..1) of all don't exceed; 0 where there are none. */
static inline __u64 mpo_histogram_percentile(const struct mpo_histogram *histogram, double part)
{
	__u64 wanted = (__u64)((double)histogram->total * part), seen = 0;

	for (unsigned int bucket = 0; bucket < MPO_HISTOGRAM_BUCKETS; bucket++) {
		seen += histogram->buckets[bucket];
		if (seen > wanted)
			return mpo_histogram_top(bucket);
	}
	return 0;
}

#endif
