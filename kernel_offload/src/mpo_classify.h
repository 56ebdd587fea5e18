/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Telling apart what shares one port, by the first bytes. */
#ifndef MPO_CLASSIFY_H
#define MPO_CLASSIFY_H

#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>

#include "mpo_abi.h"

#define MPO_RTP_HEADER 12u
#define MPO_RTCP_HEADER 8u	/* the smallest packet: an empty receiver report */
#define MPO_STUN_HEADER 20u
#define MPO_DTLS_HEADER 13u
#define MPO_ZRTP_HEADER 12u

static inline __u32 mpo_load32(const __u8 *bytes)
{
	__u32 value;

	memcpy(&value, bytes, sizeof(value));
	return ntohl(value);
}

static inline __u16 mpo_load16(const __u8 *bytes)
{
	return (__u16)(bytes[0] << 8 | bytes[1]);
}

/*
 * RFC 7983, section 7, by the first byte: 0..3 STUN, 16..19 ZRTP, 20..63 DTLS, 64..79 TURN channel, 128..191 RTP and
 * RTCP; these two by RFC 5761, section 4: "RTCP packet types in the range 192-223". STUN must carry the cookie of
 * RFC 8489, section 5, and ZRTP that of RFC 6189, section 5; without it the datagram is MPO_CLASS_OTHER. What starts
 * like one of them but is shorter than its header can only be a keep-alive (RFC 6263, section 4).
 */
static inline __u8 mpo_classify(const __u8 *bytes, __u32 length)
{
	__u8 class = MPO_CLASS_OTHER;
	__u32 header = 0;

	if (length < MPO_RTCP_HEADER)
		return MPO_CLASS_KEEPALIVE;
	if (bytes[0] >= 128 && bytes[0] <= 191) {
		if (bytes[1] >= 192 && bytes[1] <= 223)
			return MPO_CLASS_RTCP;
		class = MPO_CLASS_RTP;
		header = MPO_RTP_HEADER;
	} else if (bytes[0] <= 3) {
		if (mpo_load32(bytes + 4) != 0x2112a442)
			return MPO_CLASS_OTHER;
		class = MPO_CLASS_STUN;
		header = MPO_STUN_HEADER;
	} else if (bytes[0] >= 20 && bytes[0] <= 63) {
		class = MPO_CLASS_DTLS;
		header = MPO_DTLS_HEADER;
	} else if (bytes[0] >= 16 && bytes[0] <= 19) {
		if (mpo_load32(bytes + 4) != 0x5a525450)	/* "ZRTP" */
			return MPO_CLASS_OTHER;
		class = MPO_CLASS_ZRTP;
		header = MPO_ZRTP_HEADER;
	}
	return length < header ? MPO_CLASS_KEEPALIVE : class;
}

/*
 * The same where no RTCP is expected: on a port without rtcp-mux a second byte of 192..223 is one of the RTP payload
 * types 64..95 with the marker bit.
 */
static inline __u8 mpo_classify_unmuxed(const __u8 *bytes, __u32 length)
{
	__u8 class = mpo_classify(bytes, length);

	if (class != MPO_CLASS_RTCP)
		return class;
	return length < MPO_RTP_HEADER ? MPO_CLASS_KEEPALIVE : MPO_CLASS_RTP;
}

#endif
