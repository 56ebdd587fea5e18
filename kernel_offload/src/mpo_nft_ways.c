/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>

#include "mpo_nft_private.h"

int mpo_nft_ways_get(struct mpo_nft *nft, const struct mpo_nft_way *way, bool *made)
{
	char comment[MPO_NFT_COMMENT_LENGTH];
	__u32 number, free = 0;
	int err;

	*made = false;
	for (number = 1; number < nft->ways_end; number++) {
		if (!nft->ways[number].used)
			free = free ? free : number;
		else if (memcmp(&nft->ways[number].way, way, sizeof(*way)) == 0)
			return (int)number;
	}
	number = free ? free : nft->ways_end;
	if (number > MPO_NFT_WAYS_MAX)
		return -ENOSPC;
	mpo_nft_way_comment(way, comment);
	err = mpo_nft_way_put(&nft->talk, &nft->shape, number, way, comment);
	if (err < 0)
		return err;
	if (number == nft->ways_end)
		nft->ways_end++;
	nft->ways[number] = (struct mpo_nft_used_way){ .way = *way, .used = true };
	*made = true;
	return (int)number;
}

int mpo_nft_ways_sweep(struct mpo_nft *nft)
{
	__u32 number, swept = 0;
	int err;

	mpo_nft_begin(&nft->talk);
	for (number = 1; number < nft->ways_end && swept < 64; number++) {
		if (!nft->ways[number].used || nft->ways[number].flows)
			continue;
		err = mpo_nft_way_delete(&nft->talk, &nft->shape, number, nft->ways[number].way.family);
		if (err < 0)
			return err;
		swept++;
	}
	if (!swept)
		return 0;
	err = mpo_nft_commit(&nft->talk, NULL, NULL);
	if (err < 0)
		return err;
	for (number = 1; number < nft->ways_end && swept; number++)
		if (nft->ways[number].used && !nft->ways[number].flows) {
			nft->ways[number].used = false;
			swept--;
		}
	while (nft->ways_end > 1 && !nft->ways[nft->ways_end - 1].used)
		nft->ways_end--;
	return 0;
}

void mpo_nft_ways_clear(struct mpo_nft *nft)
{
	memset(nft->ways, 0, nft->ways_end * sizeof(nft->ways[0]));
	nft->ways_end = 1;
}
