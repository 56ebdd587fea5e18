/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <linux/netfilter.h>

#include "mpo_nft.h"
#include "mpo_nft_table.h"

/* nft's numbers of types (include/datatype.h there), six bits each when concatenated. */
#define TYPE_INTEGER 4u
#define TYPE_IP4 7u
#define TYPE_IP6 8u
#define TYPE_PORT 13u
#define TYPE_MARK 19u
#define TYPE_VERDICT 0xffffff00u	/* NFT_DATA_VERDICT */

#define SET_USERDATA_KEY_ORDER 0	/* NFTNL_UDATA_SET_KEYBYTEORDER; without it nft prints marks byte-swapped */
#define SET_USERDATA_DATA_ORDER 1
#define ORDER_HOST 1
#define ORDER_NETWORK 2
#define COMMENT 0	/* NFTNL_UDATA_*_COMMENT of tables, and of elements */
#define COMMENT_MAX 128

#define UDP_CHECKSUM 6u	/* offset */

#define TABLE_PERSIST 0x4u	/* NFT_TABLE_F_PERSIST, kernel 6.9 */

#define LOADED MPO_NFT_REG(0)

static const char *const map_names[MPO_NFT_FAMILIES][MPO_NFT_MAPS] = {
	{ "flows4", "open4", "local4", "local_open4", "sport4", "daddr4", "dport4", "ways4" },
	{ "flows6", "open6", "local6", "local_open6", "sport6", "daddr6", "dport6", "ways6" },
};

const char *mpo_nft_map_name(int family, int map)
{
	return map_names[family][map];
}

static bool map_has_source(int map)
{
	return map == MPO_NFT_FLOWS || map == MPO_NFT_LOCAL;
}

static __u32 address_length(int family)
{
	return family == MPO_NFT_IP4 ? 4 : 16;
}

/* nft pads a port to four bytes within a key; the fast form has both ports in four, at the end. */
__u32 mpo_nft_key_length(const struct mpo_nft_shape *shape, int family, int map)
{
	__u32 address = address_length(family);

	if (!map_has_source(map))
		return address + 4;
	return shape->form == MPO_NFT_FAST ? 2 * address + 4 : 2 * (address + 4);
}

static size_t userdata_put(__u8 *userdata, size_t at, __u8 type, const void *value, size_t length)
{
	userdata[at] = type;
	userdata[at + 1] = (__u8)length;
	memcpy(userdata + at + 2, value, length);
	return at + 2 + length;
}

int mpo_nft_table_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape)
{
	const struct mpo_nft_lib *lib = talk->lib;
	struct nftnl_table *table = lib->nftnl_table_alloc();
	__u8 userdata[2 + sizeof(shape->comment)];
	struct nlmsghdr *message;
	size_t length;

	if (!table)
		return -ENOMEM;
	lib->nftnl_table_set_str(table, NFTNL_TABLE_NAME, shape->name);
	if (shape->flags & MPO_NFT_OWNER)
		lib->nftnl_table_set_u32(table, NFTNL_TABLE_FLAGS, NFT_TABLE_F_OWNER | TABLE_PERSIST);
	length = userdata_put(userdata, 0, COMMENT, shape->comment, strlen(shape->comment) + 1);
	lib->nftnl_table_set_data(table, NFTNL_TABLE_USERDATA, userdata, (__u32)length);
	message = mpo_nft_message(talk, NFT_MSG_NEWTABLE, NLM_F_CREATE, 0);
	lib->nftnl_table_nlmsg_build_payload(message, table);
	mpo_nft_message_end(talk, message);
	lib->nftnl_table_free(table);
	return 0;
}

void mpo_nft_table_delete(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape)
{
	struct nlmsghdr *message = mpo_nft_message(talk, NFT_MSG_DELTABLE, 0, 0);

	mpo_nft_put_text(message, NFTA_TABLE_NAME, shape->name);
	mpo_nft_message_end(talk, message);
}

struct map_type {
	__u32 key_type, key_length, key_order;
	__u32 data_type, data_length, data_order;
	__u32 size;
	bool counts;
};

static struct map_type map_type_of(const struct mpo_nft_shape *shape, int family, int map)
{
	__u32 address = family == MPO_NFT_IP4 ? TYPE_IP4 : TYPE_IP6;
	struct map_type type = {
		.key_type = TYPE_MARK, .key_length = 4, .key_order = ORDER_HOST,
		.data_type = TYPE_PORT, .data_length = 2, .data_order = ORDER_NETWORK,
		.size = shape->slots, .counts = map == MPO_NFT_SPORT,
	};

	if (map < MPO_NFT_ENTRIES) {
		type.key_type = address << 6 | TYPE_PORT;
		if (map_has_source(map))
			type.key_type = type.key_type << 12 | type.key_type;
		type.key_length = mpo_nft_key_length(shape, family, map);
		type.key_order = ORDER_NETWORK;
		type.data_type = TYPE_MARK;
		type.data_length = 4;
		type.data_order = ORDER_HOST;
		if (shape->form == MPO_NFT_FAST) {
			/* Not a concatenation as nft knows it, which would abort at printing one of another length. */
			type.key_type = TYPE_INTEGER;
			type.data_type = TYPE_INTEGER;
			type.data_length = family == MPO_NFT_IP4 ? sizeof(struct mpo_nft_fast4) :
								   sizeof(struct mpo_nft_fast6);
			type.data_order = ORDER_NETWORK;
			type.counts = true;
		}
	} else if (map == MPO_NFT_DADDR) {
		type.data_type = address;
		type.data_length = address_length(family);
	} else if (map == MPO_NFT_WAYS) {
		type.data_type = TYPE_VERDICT;
		type.data_length = 0;
		type.size = MPO_NFT_WAYS_MAX;
	}
	return type;
}

static int map_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, int family, int map)
{
	struct map_type type = map_type_of(shape, family, map);
	const struct mpo_nft_lib *lib = talk->lib;
	struct nftnl_set *set = lib->nftnl_set_alloc();
	struct nftnl_expr *counter;
	struct nlmsghdr *message;
	__u8 userdata[16];
	size_t length;

	if (!set)
		return -ENOMEM;
	lib->nftnl_set_set_str(set, NFTNL_SET_TABLE, shape->name);
	lib->nftnl_set_set_str(set, NFTNL_SET_NAME, mpo_nft_map_name(family, map));
	lib->nftnl_set_set_u32(set, NFTNL_SET_ID, (__u32)(1 + family * MPO_NFT_MAPS + map));
	lib->nftnl_set_set_u32(set, NFTNL_SET_FAMILY, MPO_NFT_FAMILY);
	lib->nftnl_set_set_u32(set, NFTNL_SET_FLAGS, NFT_SET_MAP);
	lib->nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, type.key_type);
	lib->nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, type.key_length);
	lib->nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, type.data_type);
	if (type.data_length)
		lib->nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, type.data_length);
	/* With a size the kernel takes its quickest kind of hash table, which does not grow. */
	lib->nftnl_set_set_u32(set, NFTNL_SET_DESC_SIZE, type.size);
	length = userdata_put(userdata, 0, SET_USERDATA_KEY_ORDER, &type.key_order, sizeof(type.key_order));
	length = userdata_put(userdata, length, SET_USERDATA_DATA_ORDER, &type.data_order, sizeof(type.data_order));
	lib->nftnl_set_set_data(set, NFTNL_SET_USERDATA, userdata, (__u32)length);
	if (type.counts) {
		counter = lib->nftnl_expr_alloc("counter");
		if (!counter) {
			lib->nftnl_set_free(set);
			return -ENOMEM;
		}
		lib->nftnl_set_add_expr(set, counter);
	}
	message = mpo_nft_message(talk, NFT_MSG_NEWSET, NLM_F_CREATE, 0);
	lib->nftnl_set_nlmsg_build_payload(message, set);
	mpo_nft_message_end(talk, message);
	lib->nftnl_set_free(set);
	return 0;
}

int mpo_nft_maps_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape)
{
	int maps = shape->form == MPO_NFT_FAST ? MPO_NFT_ENTRIES : MPO_NFT_MAPS;
	int family, map;
	int err;

	for (family = 0; family < MPO_NFT_FAMILIES; family++)
		for (map = 0; map < maps; map++) {
			err = map_put(talk, shape, family, map);
			if (err < 0)
				return err;
		}
	return 0;
}

static void chain_flush(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain)
{
	struct nlmsghdr *message = mpo_nft_message(talk, NFT_MSG_DELRULE, 0, 0);

	mpo_nft_put_text(message, NFTA_RULE_TABLE, shape->name);
	mpo_nft_put_text(message, NFTA_RULE_CHAIN, chain);
	mpo_nft_message_end(talk, message);
}

static int chain_message_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *name,
			     const char *device, __u32 tag)
{
	const struct mpo_nft_lib *lib = talk->lib;
	struct nftnl_chain *chain = lib->nftnl_chain_alloc();
	struct nlmsghdr *message;

	if (!chain)
		return -ENOMEM;
	lib->nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, shape->name);
	lib->nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
	if (device) {
		lib->nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, "filter");
		lib->nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, NF_NETDEV_INGRESS);
		lib->nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, 0);
		lib->nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY, NF_ACCEPT);
		lib->nftnl_chain_set_str(chain, NFTNL_CHAIN_DEV, device);
	}
	message = mpo_nft_message(talk, NFT_MSG_NEWCHAIN, NLM_F_CREATE, tag);
	lib->nftnl_chain_nlmsg_build_payload(message, chain);
	mpo_nft_message_end(talk, message);
	lib->nftnl_chain_free(chain);
	return 0;
}

int mpo_nft_chain_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *name,
		      const char *device)
{
	int err = chain_message_put(talk, shape, name, device, 0);

	if (err == 0)
		chain_flush(talk, shape, name);
	return err;
}

int mpo_nft_nothing_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, __u32 tag)
{
	return chain_message_put(talk, shape, "media4", NULL, tag);
}

void mpo_nft_chain_delete(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain)
{
	struct nlmsghdr *message;

	chain_flush(talk, shape, chain);
	message = mpo_nft_message(talk, NFT_MSG_DELCHAIN, 0, 0);
	mpo_nft_put_text(message, NFTA_CHAIN_TABLE, shape->name);
	mpo_nft_put_text(message, NFTA_CHAIN_NAME, chain);
	mpo_nft_message_end(talk, message);
}

/* Where things are in the headers. */
struct layout {
	__u16 ethertype;
	__u32 protocol, ttl, saddr, daddr;	/* offsets */
	__u32 checksum;				/* offset; IPv6 has none */
	__u32 nfproto;
};
static const struct layout layouts[MPO_NFT_FAMILIES] = {
	{ 0x0800, 9, 8, 12, 16, 10, NFPROTO_IPV4 },
	{ 0x86dd, 6, 7, 8, 24, 0, NFPROTO_IPV6 },
};

static void test_byte(struct mpo_nft_rule *rule, __u32 base, __u32 offset, __u8 mask, __u32 how, __u8 value)
{
	const __u8 nothing = 0;

	mpo_nft_load(rule, base, offset, 1, LOADED);
	if (mask != 0xff)
		mpo_nft_mask(rule, LOADED, 1, &mask, &nothing);
	mpo_nft_compare(rule, LOADED, how, &value, 1);
}

static void test_ethertype(struct mpo_nft_rule *rule, int family)
{
	__be16 ethertype = htons(layouts[family].ethertype);

	mpo_nft_load_meta(rule, NFT_META_PROTOCOL, LOADED);
	mpo_nft_compare(rule, LOADED, NFT_CMP_EQ, &ethertype, sizeof(ethertype));
}

/*
 * Which packets a rule is for. Writing a port corrects the UDP checksum, even one that is 0, which says that there is
 * none (RFC 768; IPv6 must have one): what came of that would be a wrong one.
 */
enum kind {
	SUMMED,
	UNSUMMED,
	EXPIRED,	/* the time to live is used up */
};

static void test_checksum(struct mpo_nft_rule *rule, int family, enum kind kind)
{
	const __u8 nothing[2] = { 0, 0 };

	if (family == MPO_NFT_IP6 || kind == EXPIRED)
		return;
	mpo_nft_load(rule, NFT_PAYLOAD_TRANSPORT_HEADER, UDP_CHECKSUM, 2, LOADED);
	mpo_nft_compare(rule, LOADED, kind == UNSUMMED ? NFT_CMP_EQ : NFT_CMP_NEQ, nothing, sizeof(nothing));
}

/* IPv4 or IPv6 with UDP, no options, no fragment; in the expressions of the nft language. */
static void test_header_readable(struct mpo_nft_rule *rule, int family, enum kind kind)
{
	const __u8 fragment_mask[2] = { 0x3f, 0xff }, nothing[2] = { 0, 0 };
	bool expired = kind == EXPIRED;

	test_ethertype(rule, family);
	test_byte(rule, NFT_PAYLOAD_NETWORK_HEADER, layouts[family].protocol, 0xff, NFT_CMP_EQ, IPPROTO_UDP);
	test_checksum(rule, family, kind);
	test_byte(rule, NFT_PAYLOAD_NETWORK_HEADER, layouts[family].ttl, 0xff, expired ? NFT_CMP_LTE : NFT_CMP_GT, 1);
	if (family == MPO_NFT_IP4) {
		test_byte(rule, NFT_PAYLOAD_NETWORK_HEADER, 0, 0x0f, NFT_CMP_EQ, 5);
		mpo_nft_load(rule, NFT_PAYLOAD_NETWORK_HEADER, 6, 2, LOADED);
		mpo_nft_mask(rule, LOADED, 2, fragment_mask, nothing);
		mpo_nft_compare(rule, LOADED, NFT_CMP_EQ, nothing, 2);
	}
}

/* The same with fewer expressions, all of them of the kind that the kernel evaluates without a call. */
static void test_header_fast(struct mpo_nft_rule *rule, int family, enum kind kind)
{
	/* From byte 6 on: flags and fragment offset, time to live, protocol. */
	const __u8 mask[4] = { 0x3f, 0xff, 0, 0xff }, nothing[4] = { 0 }, wanted[4] = { 0, 0, 0, IPPROTO_UDP };

	if (family == MPO_NFT_IP4) {
		test_byte(rule, NFT_PAYLOAD_NETWORK_HEADER, 0, 0xff, NFT_CMP_EQ, 0x45);
		mpo_nft_load(rule, NFT_PAYLOAD_NETWORK_HEADER, 6, 4, LOADED);
		mpo_nft_mask(rule, LOADED, 4, mask, nothing);
		mpo_nft_compare(rule, LOADED, NFT_CMP_EQ, wanted, 4);
	} else {
		test_byte(rule, NFT_PAYLOAD_NETWORK_HEADER, layouts[family].protocol, 0xff, NFT_CMP_EQ, IPPROTO_UDP);
	}
	test_checksum(rule, family, kind);
	test_byte(rule, NFT_PAYLOAD_NETWORK_HEADER, layouts[family].ttl, 0xfe,
		  kind == EXPIRED ? NFT_CMP_EQ : NFT_CMP_NEQ, 0);
}

/*
 * Go on only with RTP in a whole UDP datagram without options: version 2, second byte not 192 to 223 (RTCP, RFC 5761,
 * section 4), at least an RTP header long, and of that kind.
 */
static void test_rtp(struct mpo_nft_rule *rule, const struct mpo_nft_shape *shape, int family, __u32 longest,
		     enum kind kind)
{
	__be16 shortest = htons(8 + 12), no_checksum = 0, limit;

	if (shape->form == MPO_NFT_FAST)
		test_header_fast(rule, family, kind);
	else
		test_header_readable(rule, family, kind);
	test_byte(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 8, 0xc0, NFT_CMP_EQ, 0x80);
	test_byte(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 9, 0xe0, NFT_CMP_NEQ, 0xc0);
	mpo_nft_load(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 4, 2, LOADED);
	mpo_nft_compare(rule, LOADED, NFT_CMP_GTE, &shortest, 2);
	if (family == MPO_NFT_IP4) {
		/* RFC 768: 0 says that there is none. What the kernel made of it by its changes would be a wrong one. */
		mpo_nft_load(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 6, 2, LOADED);
		mpo_nft_compare(rule, LOADED, NFT_CMP_NEQ, &no_checksum, sizeof(no_checksum));
	}
	if (longest) {
		/* IPv4 has the whole length in its header, IPv6 that of what follows; comparisons are big-endian. */
		limit = htons((__u16)(longest > 0xffff ? 0xffff : longest - (family == MPO_NFT_IP6 ? 40 : 0)));
		mpo_nft_load(rule, NFT_PAYLOAD_NETWORK_HEADER, family == MPO_NFT_IP4 ? 2 : 4, 2, LOADED);
		mpo_nft_compare(rule, LOADED, NFT_CMP_LTE, &limit, sizeof(limit));
	}
}

/* Load the key of a map, from register 0 on. */
static void load_key(struct mpo_nft_rule *rule, const struct mpo_nft_shape *shape, int family, int map)
{
	const struct layout *layout = &layouts[family];
	__u32 length = address_length(family), step = length / 4, reg = 0;

	if (shape->form == MPO_NFT_FAST && map_has_source(map)) {
		mpo_nft_load(rule, NFT_PAYLOAD_NETWORK_HEADER, layout->saddr, length, MPO_NFT_REG(0));
		mpo_nft_load(rule, NFT_PAYLOAD_NETWORK_HEADER, layout->daddr, length, MPO_NFT_REG(step));
		mpo_nft_load(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 4, MPO_NFT_REG(2 * step));
		return;
	}
	if (map_has_source(map)) {
		mpo_nft_load(rule, NFT_PAYLOAD_NETWORK_HEADER, layout->saddr, length, MPO_NFT_REG(0));
		mpo_nft_load(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, MPO_NFT_REG(step));
		reg = step + 1;
	}
	mpo_nft_load(rule, NFT_PAYLOAD_NETWORK_HEADER, layout->daddr, length, MPO_NFT_REG(reg));
	mpo_nft_load(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, MPO_NFT_REG(reg + step));
}

/* udp sport set, or with @unsummed that and udp checksum set 0: no rule of the nft language leaves a checksum alone. */
static void store_port(struct mpo_nft_rule *rule, __u32 offset, bool unsummed)
{
	const __u8 nothing[2] = { 0, 0 };

	mpo_nft_store(rule, NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2, LOADED, UDP_CHECKSUM, false);
	if (!unsummed)
		return;
	mpo_nft_constant(rule, LOADED, nothing, sizeof(nothing));
	mpo_nft_store(rule, NFT_PAYLOAD_TRANSPORT_HEADER, UDP_CHECKSUM, 2, LOADED, 0, false);
}

static void store_address(struct mpo_nft_rule *rule, int family, __u32 offset, __u32 reg)
{
	mpo_nft_store(rule, NFT_PAYLOAD_NETWORK_HEADER, offset, address_length(family), reg, layouts[family].checksum,
		      true);
}

/*
 * meta mark set KEY map @flows4 udp sport set meta mark map @sport4 ... meta mark & 0xfff00000 vmap @ways4
 *
 * Writing an address corrects a UDP checksum only if there is one.
 */
static void rewrite_readable(struct mpo_nft_rule *rule, int family, int map, bool unsummed)
{
	const __u32 way = ~MPO_NFT_SLOT_MASK, nothing = 0;

	mpo_nft_lookup(rule, mpo_nft_map_name(family, map), MPO_NFT_REG(0), LOADED);
	mpo_nft_store_meta(rule, NFT_META_MARK, LOADED);
	mpo_nft_load_meta(rule, NFT_META_MARK, LOADED);
	mpo_nft_lookup(rule, mpo_nft_map_name(family, MPO_NFT_SPORT), LOADED, LOADED);
	store_port(rule, 0, unsummed);
	mpo_nft_load_meta(rule, NFT_META_MARK, LOADED);
	mpo_nft_lookup(rule, mpo_nft_map_name(family, MPO_NFT_DADDR), LOADED, LOADED);
	store_address(rule, family, layouts[family].daddr, LOADED);
	mpo_nft_load_meta(rule, NFT_META_MARK, LOADED);
	mpo_nft_lookup(rule, mpo_nft_map_name(family, MPO_NFT_DPORT), LOADED, LOADED);
	store_port(rule, 2, unsummed);
	mpo_nft_load_meta(rule, NFT_META_MARK, LOADED);
	mpo_nft_mask(rule, LOADED, 4, &way, &nothing);
	mpo_nft_lookup(rule, mpo_nft_map_name(family, MPO_NFT_WAYS), LOADED, NFT_REG_VERDICT);
}

#define FAST_REG(family, field) \
	MPO_NFT_REG((__u32)((family) == MPO_NFT_IP4 ? offsetof(struct mpo_nft_fast4, field) : \
						      offsetof(struct mpo_nft_fast6, field)) / 4)

static void rewrite_fast(struct mpo_nft_rule *rule, int family, int map, bool unsummed)
{
	const struct layout *layout = &layouts[family];

	mpo_nft_lookup(rule, mpo_nft_map_name(family, map), MPO_NFT_REG(0), MPO_NFT_REG(0));
	mpo_nft_store(rule, NFT_PAYLOAD_NETWORK_HEADER, 0, family == MPO_NFT_IP4 ? 2 : 4, FAST_REG(family, head),
		      layout->checksum, false);
	mpo_nft_store(rule, NFT_PAYLOAD_NETWORK_HEADER, layout->saddr, 2 * address_length(family),
		      FAST_REG(family, saddr), layout->checksum, true);
	mpo_nft_store(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 4, FAST_REG(family, sport), unsummed ? 0 : UDP_CHECKSUM,
		      false);
	if (map == MPO_NFT_LOCAL || map == MPO_NFT_LOCAL_OPEN)
		mpo_nft_verdict(rule, NF_ACCEPT, NULL);
	else
		mpo_nft_forward(rule, FAST_REG(family, ifindex), FAST_REG(family, hop), layout->nfproto);
}

static int forward_rule(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain, int family,
			int map, __u32 longest, enum kind kind)
{
	struct mpo_nft_rule rule;

	mpo_nft_rule_begin(&rule, talk, shape->name, chain);
	test_rtp(&rule, shape, family, longest, kind);
	load_key(&rule, shape, family, map);
	if (shape->form == MPO_NFT_FAST)
		rewrite_fast(&rule, family, map, kind == UNSUMMED);
	else
		rewrite_readable(&rule, family, map, kind == UNSUMMED);
	return mpo_nft_rule_end(&rule);
}

/*
 * What would be forwarded but has been for too long: two relays that send to each other. In the fast form the flow's
 * element counts it nevertheless.
 */
static int expired_rule(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain, int family,
			int map)
{
	struct mpo_nft_rule rule;

	mpo_nft_rule_begin(&rule, talk, shape->name, chain);
	test_rtp(&rule, shape, family, 0, EXPIRED);
	load_key(&rule, shape, family, map);
	mpo_nft_lookup(&rule, mpo_nft_map_name(family, map), MPO_NFT_REG(0), MPO_NFT_REG(0));
	if (shape->form == MPO_NFT_READABLE)
		mpo_nft_store_meta(&rule, NFT_META_MARK, MPO_NFT_REG(0));
	mpo_nft_count(&rule);
	mpo_nft_verdict(&rule, NF_DROP, NULL);
	return mpo_nft_rule_end(&rule);
}

static int forward_rules(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain, int family,
			 bool loopback, enum kind kind)
{
	int err = 0, map;

	for (map = MPO_NFT_FLOWS; err == 0 && map < MPO_NFT_ENTRIES; map++)
		if (loopback == (map == MPO_NFT_LOCAL || map == MPO_NFT_LOCAL_OPEN))
			err = forward_rule(talk, shape, chain, family, map, loopback ? 0 : shape->longest, kind);
	return err;
}

int mpo_nft_rules_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape)
{
	static const struct {
		const char *chain;
		int family;
		bool loopback;
	} chains[] = {
		{ "media4", MPO_NFT_IP4, false },
		{ "media6", MPO_NFT_IP6, false },
		{ "loop4", MPO_NFT_IP4, true },
		{ "loop6", MPO_NFT_IP6, true },
	};
	int err, map;
	size_t i;

	for (i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		err = mpo_nft_chain_put(talk, shape, chains[i].chain, NULL);
		if (err == 0)
			err = forward_rules(talk, shape, chains[i].chain, chains[i].family, chains[i].loopback, SUMMED);
		if (err == 0 && chains[i].family == MPO_NFT_IP4)
			err = forward_rules(talk, shape, chains[i].chain, chains[i].family, chains[i].loopback,
					    UNSUMMED);
		for (map = MPO_NFT_FLOWS; err == 0 && !chains[i].loopback && map <= MPO_NFT_OPEN; map++)
			err = expired_rule(talk, shape, chains[i].chain, chains[i].family, map);
		if (err < 0)
			return err;
	}
	return 0;
}

int mpo_nft_hook_rules_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, const char *chain,
			   bool loopback, bool tagged)
{
	static const char *const targets[2][MPO_NFT_FAMILIES] = { { "media4", "media6" }, { "loop4", "loop6" } };
	const __u16 ethernet = 1;	/* ARPHRD_ETHER */
	struct mpo_nft_rule rule;
	__be16 ethertype;
	int family, err;

	chain_flush(talk, shape, chain);
	if (tagged) {
		/* A tag that the card took off still counts as the Ethernet type here, but not for `meta protocol`. */
		mpo_nft_rule_begin(&rule, talk, shape->name, chain);
		mpo_nft_load_meta(&rule, NFT_META_IIFTYPE, LOADED);
		mpo_nft_compare(&rule, LOADED, NFT_CMP_EQ, &ethernet, sizeof(ethernet));
		for (family = 0; family < MPO_NFT_FAMILIES; family++) {
			ethertype = htons(layouts[family].ethertype);
			mpo_nft_load(&rule, NFT_PAYLOAD_LL_HEADER, 12, 2, LOADED);
			mpo_nft_compare(&rule, LOADED, NFT_CMP_NEQ, &ethertype, sizeof(ethertype));
		}
		mpo_nft_verdict(&rule, NF_ACCEPT, NULL);
		err = mpo_nft_rule_end(&rule);
		if (err < 0)
			return err;
	}
	for (family = 0; family < MPO_NFT_FAMILIES; family++) {
		mpo_nft_rule_begin(&rule, talk, shape->name, chain);
		test_ethertype(&rule, family);
		mpo_nft_verdict(&rule, NFT_GOTO, targets[loopback][family]);
		err = mpo_nft_rule_end(&rule);
		if (err < 0)
			return err;
	}
	return 0;
}

void mpo_nft_way_name(char *name, int family, __u32 number)
{
	snprintf(name, MPO_NFT_NAME_LENGTH, "way%u_%d", number, family == MPO_NFT_IP4 ? 4 : 6);
}

/*
 * ip dscp set, as nft writes it: in two bytes, because the checksum is one of two-byte words. The other bits, also
 * those of explicit congestion notification, pass as they came (RFC 3168).
 */
static void set_dscp(struct mpo_nft_rule *rule, int family, __u8 tos)
{
	__u8 mask[2] = { 0xff, 0x03 }, bits[2] = { 0, tos & 0xfc };

	if (family == MPO_NFT_IP6) {
		mask[0] = 0xf0;
		mask[1] = 0x3f;
		bits[0] = tos >> 4;
		bits[1] = (__u8)((tos & 0x0c) << 4);
	}
	mpo_nft_load(rule, NFT_PAYLOAD_NETWORK_HEADER, 0, 2, LOADED);
	mpo_nft_mask(rule, LOADED, 2, mask, bits);
	mpo_nft_store(rule, NFT_PAYLOAD_NETWORK_HEADER, 0, 2, LOADED, layouts[family].checksum, false);
}

int mpo_nft_way_put(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, __u32 number,
		    const struct mpo_nft_way *way, const char *comment)
{
	static const __u8 nowhere[16];
	__u32 length = address_length(way->family), skip = 16 - length;
	const __u32 device = MPO_NFT_REG(4), unmarked = 0, mark = number << MPO_NFT_SLOT_BITS;
	char chain[MPO_NFT_NAME_LENGTH];
	struct mpo_nft_rule rule;
	int err;

	mpo_nft_way_name(chain, way->family, number);
	err = mpo_nft_chain_put(talk, shape, chain, NULL);
	if (err < 0)
		return err;
	mpo_nft_rule_begin(&rule, talk, shape->name, chain);
	test_ethertype(&rule, way->family);
	set_dscp(&rule, way->family, way->tos);
	mpo_nft_constant(&rule, LOADED, way->sender + skip, length);
	store_address(&rule, way->family, layouts[way->family].saddr, LOADED);
	mpo_nft_constant(&rule, LOADED, &unmarked, sizeof(unmarked));
	mpo_nft_store_meta(&rule, NFT_META_MARK, LOADED);
	if (way->ifindex) {
		if (memcmp(way->gateway, nowhere, sizeof(nowhere)) == 0)
			mpo_nft_load(&rule, NFT_PAYLOAD_NETWORK_HEADER, layouts[way->family].daddr, length, LOADED);
		else
			mpo_nft_constant(&rule, LOADED, way->gateway + skip, length);
		mpo_nft_constant(&rule, device, &way->ifindex, sizeof(way->ifindex));
		mpo_nft_forward(&rule, device, LOADED, layouts[way->family].nfproto);
	} else {
		mpo_nft_verdict(&rule, NF_ACCEPT, NULL);
	}
	err = mpo_nft_rule_end(&rule);
	if (err < 0)
		return err;
	return mpo_nft_element(talk, shape, NFT_MSG_NEWSETELEM, NLM_F_CREATE, 0,
			       mpo_nft_map_name(way->family, MPO_NFT_WAYS), &mark, sizeof(mark), NULL, 0, chain,
			       comment);
}

int mpo_nft_way_delete(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, __u32 number, int family)
{
	const __u32 mark = number << MPO_NFT_SLOT_BITS;
	char chain[MPO_NFT_NAME_LENGTH];
	int err;

	err = mpo_nft_element(talk, shape, NFT_MSG_DELSETELEM, 0, 0, mpo_nft_map_name(family, MPO_NFT_WAYS), &mark,
			      sizeof(mark), NULL, 0, NULL, NULL);
	if (err < 0)
		return err;
	mpo_nft_way_name(chain, family, number);
	mpo_nft_chain_delete(talk, shape, chain);
	return 0;
}

int mpo_nft_element(struct mpo_nft_talk *talk, const struct mpo_nft_shape *shape, __u16 type, __u16 flags, __u32 tag,
		    const char *map, const void *key, __u32 key_length, const void *value, __u32 value_length,
		    const char *chain, const char *comment)
{
	const struct mpo_nft_lib *lib = talk->lib;
	struct nftnl_set_elem *element = lib->nftnl_set_elem_alloc();
	struct nlattr *list;
	struct nlmsghdr *message;
	__u8 userdata[2 + COMMENT_MAX];
	size_t length;

	if (!element)
		return -ENOMEM;
	lib->nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, key, key_length);
	if (value)
		lib->nftnl_set_elem_set(element, NFTNL_SET_ELEM_DATA, value, value_length);
	if (chain) {
		lib->nftnl_set_elem_set_u32(element, NFTNL_SET_ELEM_VERDICT, (__u32)NFT_GOTO);
		lib->nftnl_set_elem_set_str(element, NFTNL_SET_ELEM_CHAIN, chain);
	}
	if (comment) {
		length = userdata_put(userdata, 0, COMMENT, comment, strlen(comment) + 1);
		lib->nftnl_set_elem_set(element, NFTNL_SET_ELEM_USERDATA, userdata, (__u32)length);
	}
	message = mpo_nft_message(talk, type, flags, tag);
	mpo_nft_put_text(message, NFTA_SET_ELEM_LIST_TABLE, shape->name);
	mpo_nft_put_text(message, NFTA_SET_ELEM_LIST_SET, map);
	list = (struct nlattr *)((char *)message + message->nlmsg_len);
	mpo_nft_put(message, NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, NULL, 0);
	lib->nftnl_set_elem_nlmsg_build(message, element, 1);
	list->nla_len = (__u16)((char *)message + message->nlmsg_len - (char *)list);
	mpo_nft_message_end(talk, message);
	lib->nftnl_set_elem_free(element);
	return 0;
}
