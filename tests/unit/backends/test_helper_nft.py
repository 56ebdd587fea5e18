"""The typed face of the nft functions: layouts and numbers agree with what the compiler made of ``mpo_nft.h``."""

from __future__ import annotations

from _mediaproxy_offload import ffi, lib

from mediaproxy.backends.helper import nft


def test_constants_are_those_of_the_header() -> None:
    for name in ("READABLE", "FAST", "OWNER", "SLOTS_MAX", "REASON_LENGTH", "FOREIGN", "GONE"):
        assert getattr(nft, name) == getattr(lib, f"MPO_NFT_{name}"), name


def test_link_packs_each_field_where_c_reads_it() -> None:
    packed = bytearray(nft.LINK.pack(7, 1500, True, False, 1, b"eth0"))
    assert len(packed) == ffi.sizeof("struct mpo_nft_link")
    link = ffi.from_buffer("struct mpo_nft_link *", packed)
    assert (link.ifindex, link.mtu, link.loopback, link.ethernet, link.hooked) == (7, 1500, 1, 0, 1)
    assert ffi.string(link.name) == b"eth0"
