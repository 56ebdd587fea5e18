/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dlfcn.h>
#include <errno.h>

#include "mpo_nft.h"
#include "mpo_nft_lib.h"

#define LIBRARY "libnftnl.so.11"	/* which loads libmnl.so.0 */

static int symbol_find(const struct mpo_nft_lib *lib, const char *name, void *function, char *reason)
{
	/* POSIX has dlsym() yield an object pointer that may be copied into a function pointer. */
	void *found = dlsym(lib->handle, name);

	if (!found) {
		snprintf(reason, MPO_NFT_REASON_LENGTH, LIBRARY " is too old: it has no %s", name);
		return -ENOSYS;
	}
	*(void **)function = found;
	return 0;
}

int mpo_nft_lib_open(struct mpo_nft_lib *lib, char *reason)
{
	int err;

	lib->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!lib->handle) {
		snprintf(reason, MPO_NFT_REASON_LENGTH, LIBRARY " cannot be loaded (Debian: libnftnl11 libmnl0)");
		return -ENOSYS;
	}
#define X(name)								\
	err = symbol_find(lib, #name, &lib->name, reason);		\
	if (err < 0)							\
		goto err_close;
	MPO_NFTNL_FUNCTIONS(X)
#undef X
	return 0;
err_close:
	mpo_nft_lib_close(lib);
	return err;
}

void mpo_nft_lib_close(struct mpo_nft_lib *lib)
{
	dlclose(lib->handle);
	lib->handle = NULL;
}
