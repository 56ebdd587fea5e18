/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "check.h"
#include "mpo_classify.h"

#define STUN_COOKIE 0x21, 0x12, 0xa4, 0x42
#define ZRTP_COOKIE 'Z', 'R', 'T', 'P'

static const struct {
	const char *what;
	__u8 bytes[8];
	__u32 length;
	__u8 class;
	__u8 unmuxed;
} table[] = {
	{ "nothing", { 0 }, 0, MPO_CLASS_KEEPALIVE, MPO_CLASS_KEEPALIVE },
	{ "CR LF CR LF", { '\r', '\n', '\r', '\n' }, 4, MPO_CLASS_KEEPALIVE, MPO_CLASS_KEEPALIVE },
	{ "seven bytes", { 0x80, 0xc8 }, 7, MPO_CLASS_KEEPALIVE, MPO_CLASS_KEEPALIVE },
	{ "RTP, PCMU", { 0x80, 0x00 }, 172, MPO_CLASS_RTP, MPO_CLASS_RTP },
	{ "RTP with marker", { 0x80, 0x80 }, 172, MPO_CLASS_RTP, MPO_CLASS_RTP },
	{ "RTP, padding, extension, CSRCs", { 0xbf, 0x60 }, 172, MPO_CLASS_RTP, MPO_CLASS_RTP },
	{ "RTP, payload type 127 with marker", { 0x80, 0xff }, 12, MPO_CLASS_RTP, MPO_CLASS_RTP },
	{ "RTP cut short", { 0x80, 0x00 }, 11, MPO_CLASS_KEEPALIVE, MPO_CLASS_KEEPALIVE },
	{ "second byte before RTCP", { 0x80, 191 }, 40, MPO_CLASS_RTP, MPO_CLASS_RTP },
	{ "first RTCP type", { 0x80, 192 }, 40, MPO_CLASS_RTCP, MPO_CLASS_RTP },
	{ "sender report", { 0x80, 200 }, 28, MPO_CLASS_RTCP, MPO_CLASS_RTP },
	{ "empty receiver report", { 0x80, 201 }, 8, MPO_CLASS_RTCP, MPO_CLASS_KEEPALIVE },
	{ "last RTCP type", { 0x80, 223 }, 40, MPO_CLASS_RTCP, MPO_CLASS_RTP },
	{ "second byte after RTCP", { 0x80, 224 }, 40, MPO_CLASS_RTP, MPO_CLASS_RTP },
	{ "STUN binding request", { 0x00, 0x01, 0, 0, STUN_COOKIE }, 20, MPO_CLASS_STUN, MPO_CLASS_STUN },
	{ "STUN cut short", { 0x00, 0x01, 0, 0, STUN_COOKIE }, 19, MPO_CLASS_KEEPALIVE, MPO_CLASS_KEEPALIVE },
	{ "first byte 3, no cookie", { 0x03, 0x01 }, 20, MPO_CLASS_OTHER, MPO_CLASS_OTHER },
	{ "first byte 4", { 4, 0, 0, 0, STUN_COOKIE }, 20, MPO_CLASS_OTHER, MPO_CLASS_OTHER },
	{ "ZRTP hello", { 0x10, 0, 0, 0, ZRTP_COOKIE }, 60, MPO_CLASS_ZRTP, MPO_CLASS_ZRTP },
	{ "first byte 19, no cookie", { 19 }, 60, MPO_CLASS_OTHER, MPO_CLASS_OTHER },
	{ "DTLS, first", { 20 }, 13, MPO_CLASS_DTLS, MPO_CLASS_DTLS },
	{ "DTLS client hello", { 22, 0xfe, 0xff }, 120, MPO_CLASS_DTLS, MPO_CLASS_DTLS },
	{ "DTLS, last", { 63 }, 13, MPO_CLASS_DTLS, MPO_CLASS_DTLS },
	{ "DTLS cut short", { 22, 0xfe, 0xff }, 12, MPO_CLASS_KEEPALIVE, MPO_CLASS_KEEPALIVE },
	{ "TURN channel", { 64 }, 40, MPO_CLASS_OTHER, MPO_CLASS_OTHER },
	{ "RTP version 1", { 0x7f }, 40, MPO_CLASS_OTHER, MPO_CLASS_OTHER },
	{ "RTP version 3", { 0xc0 }, 40, MPO_CLASS_OTHER, MPO_CLASS_OTHER },
};

void test_classify(void)
{
	unsigned int i, failed;
	__u8 packet[200];

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		memset(packet, 0, sizeof(packet));
		memcpy(packet, table[i].bytes, sizeof(table[i].bytes));
		failed = checks_failed;
		CHECK_EQUAL(mpo_classify(packet, table[i].length), table[i].class);
		CHECK_EQUAL(mpo_classify_unmuxed(packet, table[i].length), table[i].unmuxed);
		if (checks_failed != failed)
			fprintf(stderr, "\t(%s)\n", table[i].what);
	}
}
