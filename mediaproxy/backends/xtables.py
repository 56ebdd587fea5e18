"""The legacy tables of iptables and ip6tables, by python-iptables: rules as values, changes as one commit per table.

Nothing outside this module knows python-iptables. It is imported when the tables are opened, not before: it loads the
libraries of Debian's ``iptables`` package and looks for kernel modules.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import importlib
import os
import socket
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from mediaproxy.errors import OffloadError

MAX_CHAIN_NAME: Final = 28
"""XT_EXTENSION_MAXNAMELEN less the final zero."""

_LOCK_FILE: Final = "/run/xtables.lock"
_LOCK_PATIENCE: Final = 0.5
_LOCK_STEP: Final = 0.01
_GET_INFO: Final = 64  # IPT_SO_GET_INFO and IP6T_SO_GET_INFO
_INFO: Final = Struct("=32s 11I II")
"""``struct ipt_getinfo``: name; hooks; number of entries; size."""
_NAT: Final = {"DNAT": "to_destination", "SNAT": "to_source"}
_NAT6_REVISION: Final = 1
_NAT6_TARGET: Final = Struct("=H29sB I16s16sHH")
"""``struct xt_entry_target`` (size, name, revision) and ``struct nf_nat_range``."""
_MATCH: Final = Struct("=H29sB")
"""``struct xt_entry_match``: size, name, revision; its data follows."""
_JUMP: Final = Struct("=H29sB i4x")
"""``struct xt_standard_target``: libiptc turns the chain's name into the verdict."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


class TablesBusyError(OffloadError):
    """Another program is changing the tables; nothing was done, and a second later it may be."""


@dataclass(frozen=True, slots=True)
class Match:
    """One match of a rule, as iptables spells it: ``Match("udp", dport="30000:30031")`` by ``match()``."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule about UDP packets.

    Attributes:
        target: a chain, a verdict (``ACCEPT``) or a target.
        parameters: of the target.
        source: one address, or empty.
        destination: one address, or empty.
    """

    target: str
    parameters: tuple[tuple[str, str], ...] = ()
    matches: tuple[Match, ...] = ()
    source: str = ""
    destination: str = ""


def match(name: str, **parameters: str) -> Match:
    """A match with its parameters in the order given (underscores for hyphens)."""
    return Match(name, tuple(parameters.items()))


def _load() -> Any:
    """Import python-iptables.

    Raises:
        OffloadError: it is not installed, or one of its libraries is not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it still asks distutils for a path
            return importlib.import_module("iptc")
    except Exception as error:  # it raises bare Exceptions when it finds no library
        raise OffloadError(
            f"python-iptables can't be loaded ({error or type(error).__name__}): it needs the Python package "
            "python-iptables (pip install mediaproxy[iptables]) and Debian's package iptables"
        ) from error


@contextlib.contextmanager
def xtables_lock(patience: float = _LOCK_PATIENCE) -> Iterator[None]:
    """Hold the lock that ``iptables`` holds while it reads and writes a table.

    Args:
        patience: seconds for which others are waited for.
    Raises:
        TablesBusyError: somebody else has held it for so long.
        OffloadError: it can't be opened.
    """
    path = os.environ.get("XTABLES_LOCKFILE", _LOCK_FILE)
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OffloadError(f"{path}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TablesBusyError(f"{path}: held by another program") from None
                time.sleep(_LOCK_STEP)
        yield
    finally:
        os.close(lock)


class Table:
    """One table of one family (``AF_INET``, ``AF_INET6``) of the network namespace of the calling thread.

    Between ``begin`` and ``commit`` nobody else may change it: hold ``xtables_lock``. All methods that read or change
    chains belong between the two.

    Raises:
        OffloadError: of all methods: the kernel or the library refused; what was not committed is lost.
    """

    def __init__(self, family: int, name: str) -> None:
        self._iptc = _load()
        # Where the library would look for chains of a target's name: it opens every table of the host, and keeps it.
        base = self._iptc.Rule6 if family == socket.AF_INET6 else self._iptc.Rule
        self._rule_class = type("Rule", (base,), {"tables": ()})
        self.family = family
        self.name = name
        self._table: Any = None

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except OffloadError:
            raise
        # It raises IPTCError, XTablesError, AttributeError and ValueError for what a library or the kernel refuses.
        except Exception as error:
            raise OffloadError(f"{self._words()}: {what}: {error}") from error

    def _words(self) -> str:
        return f"{'ip6tables' if self.family == socket.AF_INET6 else 'iptables'} table {self.name}"

    def begin(self) -> None:
        """Read the table as it is now."""
        with self._named("read"):
            kind = self._iptc.Table6 if self.family == socket.AF_INET6 else self._iptc.Table
            self._table = kind(self.name, autocommit=False)
            self._table.refresh()

    def commit(self) -> None:
        """Replace the kernel's table by what was changed, at once for the packets."""
        with self._named("write"):
            self._table.commit()

    def close(self) -> None:
        """Give the table's memory back."""
        if self._table is not None:
            with self._named("close"):
                # It keeps one object per table, and crashes when it meets a closed one.
                type(self._table)._cache.pop(self.name, None)
                self._table.close()
            self._table = None

    def chains(self) -> list[str]:
        """The names of all chains, the built-in ones included."""
        with self._named("read"):
            return [chain.name for chain in self._table.chains]

    def create(self, chain: str) -> None:
        with self._named(f"create {chain}"):
            self._table.create_chain(chain)

    def delete(self, chain: str) -> None:
        """Delete a chain with its rules; nothing may refer to it."""
        with self._named(f"delete {chain}"):
            self._table.flush_entries(chain)
            self._table.delete_chain(chain)

    def flush(self, chain: str) -> None:
        with self._named(f"flush {chain}"):
            self._table.flush_entries(chain)

    def append(self, chain: str, rule: Rule) -> None:
        with self._named(f"add to {chain}"):
            self._iptc.Chain(self._table, chain).append_rule(self._make(rule))

    def insert(self, chain: str, rule: Rule) -> None:
        """Put a rule first."""
        with self._named(f"add to {chain}"):
            self._iptc.Chain(self._table, chain).insert_rule(self._make(rule), position=0)

    def take_out(self, chain: str, rule: Rule) -> None:
        """Delete the first rule that is equal."""
        with self._named(f"delete from {chain}"):
            self._iptc.Chain(self._table, chain).delete_rule(self._make(rule))

    def take_out_commented(self, chain: str, comment: str) -> int:
        """Delete the rules that carry this comment. Returns how many there were."""
        with self._named(f"delete from {chain}"):
            doomed = [number for number, entry in enumerate(self._entries(chain)) if comment in _comments(entry)]
            for number in reversed(doomed):
                # It has no method for this, only the function.
                delete = self._table._iptc.iptc_delete_num_entry
                if not delete(chain.encode("ascii"), number, self._table._handle):
                    raise OffloadError(f"{self._words()}: rule {number + 1} of {chain} can't be deleted")
            return len(doomed)

    def comments(self, chain: str) -> list[str]:
        """All comments of a chain's rules, in order."""
        with self._named(f"read {chain}"):
            return [text for entry in self._entries(chain) for text in _comments(entry)]

    def comments_or_none(self, chain: str) -> list[str]:
        """Per rule of a chain, its first comment, or an empty text."""
        with self._named(f"read {chain}"):
            return [(_comments(entry) or [""])[0] for entry in self._entries(chain)]

    def count(self, chain: str) -> int:
        """How many rules a chain has."""
        with self._named(f"read {chain}"):
            return sum(1 for _ in self._entries(chain))

    def jumps(self, chain: str, target: str) -> bool:
        """Whether a chain has a rule that jumps to another; what others' rules consist of need not be known here."""
        with self._named(f"read {chain}"):
            return any(self._table.get_target(entry) == target.encode("ascii") for entry in self._entries(chain))

    def _entries(self, chain: str) -> Iterator[Any]:
        entry = self._table.first_rule(chain)
        while entry:
            yield entry
            entry = self._table.next_rule(entry)

    def policy(self, chain: str) -> str:
        """``ACCEPT`` or ``DROP``, of a built-in chain."""
        with self._named(f"read {chain}"):
            return str(self._table.get_policy(chain)[0].name)

    def _make(self, rule: Rule) -> Any:
        made = self._rule_class()
        made.protocol = "udp"
        if rule.source:
            made.src = rule.source
        if rule.destination:
            made.dst = rule.destination
        for wanted in rule.matches:
            part = made.create_match(wanted.name)
            for key, value in wanted.parameters:
                setattr(part, key, value)
        if self.family == socket.AF_INET6 and rule.target in _NAT:
            made.target = _BareTarget(_nat6(rule))
            return made
        if self._table.is_chain(rule.target):
            made.target = _BareTarget(_JUMP.pack(_JUMP.size, rule.target.encode("ascii"), 0, 0))
            return made
        target = made.create_target(rule.target)
        for key, value in rule.parameters:
            setattr(target, key, value)
        return made


class _BareTarget:
    """A target written out here, as python-iptables keeps one; libiptc wants no more than these bytes.

    For jumps, which the library would have to look for in all tables. For NAT of IPv6, because iptables 1.8.9 has all
    NAT targets in one library, which registers those of the family that loads it first and ends the process when it is
    asked again: so IPv4's are the library's, and IPv6's are these.
    """

    def __init__(self, data: bytes) -> None:
        self.size = self.usersize = len(data)
        self.target = (ctypes.c_ubyte * len(data)).from_buffer_copy(data)
        self.rule: Any = None

    def final_check(self) -> None:
        """Everything has been given already."""


def _nat6(rule: Rule) -> bytes:
    """DNAT or SNAT to one address and port."""
    address, _, port = dict(rule.parameters)[_NAT[rule.target]].rpartition(":")
    packed = socket.inet_pton(socket.AF_INET6, address.strip("[]"))
    ports = (socket.htons(int(port)),) * 2
    flags = 1 | 2  # NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED
    return _NAT6_TARGET.pack(
        _NAT6_TARGET.size, rule.target.encode("ascii"), _NAT6_REVISION, flags, packed, packed, *ports
    )


def _comments(entry: Any) -> list[str]:
    """The comments of a ``struct ipt_entry`` or ``ip6t_entry``.

    Read from its bytes: python-iptables would have to load the extensions of whatever others' rules consist of.
    """
    start = type(entry).elems.offset
    data = ctypes.string_at(ctypes.addressof(entry), entry.next_offset)
    found = []
    while start + _MATCH.size <= entry.target_offset:
        size, name, _ = _MATCH.unpack_from(data, start)
        if size < _MATCH.size:
            break
        if name.split(b"\0", 1)[0] == b"comment":
            found.append(data[start + _MATCH.size : start + size].split(b"\0", 1)[0].decode("utf-8", "replace"))
        start += size
    return found


class TableSizes:
    """Sees cheaply, by one system call per table, whether somebody has changed a table. Needs CAP_NET_ADMIN.

    Raises:
        OffloadError: on making, without CAP_NET_RAW.
    """

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                if family == socket.AF_INET or socket.has_ipv6:
                    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
                    self._sockets[family] = socket.socket(family, kind, socket.IPPROTO_RAW)
        except OSError as error:
            if not self._sockets or error.errno != errno.EAFNOSUPPORT:
                self.close()
                raise OffloadError(f"no raw socket, which iptables needs: {error.strerror}") from error

    def read(self, table: Table) -> tuple[int, int] | None:
        """The number of entries and bytes of a table; ``None`` if the kernel does not have it."""
        raw = self._sockets.get(table.family)
        if raw is None:
            return None
        level = socket.IPPROTO_IPV6 if table.family == socket.AF_INET6 else socket.IPPROTO_IP
        info = ctypes.create_string_buffer(_INFO.pack(table.name.encode("ascii"), *(0,) * 13), _INFO.size)
        length = ctypes.c_uint32(_INFO.size)
        if _libc.getsockopt(raw.fileno(), level, _GET_INFO, info, ctypes.byref(length)) != 0:
            number = ctypes.get_errno()
            if number == errno.EPERM:
                raise OffloadError("reading iptables needs CAP_NET_ADMIN")
            return None
        *_, entries, size = _INFO.unpack(info.raw)
        return entries, size

    def close(self) -> None:
        for raw in self._sockets.values():
            raw.close()
