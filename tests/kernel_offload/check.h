/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The smallest thing that counts failed checks and goes on. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

extern unsigned int checks_failed;

#define CHECK(condition)                                                                     \
	do {                                                                                 \
		if (!(condition)) {                                                          \
			fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
			checks_failed++;                                                     \
		}                                                                            \
	} while (0)

#define CHECK_EQUAL(actual, expected)                                                                     \
	do {                                                                                              \
		long long actual_value = (long long)(actual);                                             \
		long long expected_value = (long long)(expected);                                         \
		if (actual_value != expected_value) {                                                     \
			fprintf(stderr, "%s:%d: failed: %s is %lld, not %lld\n", __FILE__, __LINE__, #actual, \
				actual_value, expected_value);                                            \
			checks_failed++;                                                                  \
		}                                                                                         \
	} while (0)

void test_classify(void);
void test_rtp_stats(void);
void test_rtp_handover(void);
void test_flow_stats(void);
void test_events(void);
void test_grace(void);
void test_slots(void);
void test_shared(void);
void test_relay(void);
void test_nft_flows(void);
void test_nft_read(void);
void test_nft_talk(void);
void test_load(void);

#endif
