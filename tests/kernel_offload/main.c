/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "check.h"

unsigned int checks_failed;

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {
		{ "classify", test_classify }, { "rtp_stats", test_rtp_stats }, { "rtp_handover", test_rtp_handover },
		{ "flow_stats", test_flow_stats }, { "events", test_events }, { "grace", test_grace },
		{ "slots", test_slots },       { "shared", test_shared },       { "nft_flows", test_nft_flows },
		{ "nft_read", test_nft_read }, { "nft_talk", test_nft_talk },	{ "relay", test_relay },		{ "load", test_load },
	};
	unsigned int before, i;

	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		before = checks_failed;
		tests[i].run();
		printf("%-12s %s\n", tests[i].name, checks_failed == before ? "ok" : "FAILED");
	}
	return checks_failed != 0;
}
