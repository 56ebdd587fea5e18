"""All options in one table: command line, TOML keys, environment variables, check and manual come from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.config.address_kinds import InterfaceKind, InterfaceSpec, IpNetwork, Listen, ListenSpec, Network
from mediaproxy.config.kinds import (
    MAX_PORT,
    Choice,
    FilePath,
    Integer,
    KernelTable,
    Kind,
    Level,
    OptionalInteger,
    Seconds,
    Switch,
    Text,
)
from mediaproxy.logs import LogFormat, LogLevel
from mediaproxy.ng.words import EndpointLearning
from mediaproxy.privileged.settings import FirewallMode, KernelPath

ENVIRONMENT_PREFIX: Final = "MEDIAPROXY_"
DEFAULT_RUN_FOLDER: Final = Path("/run/mediaproxy")


class SourceLock(Enum):
    """What happens to packets from other sources after a stream's source was learnt."""

    STRICT = "strict"
    """They are dropped and counted."""
    RTPENGINE = "rtpengine"
    """They are forwarded, as rtpengine does; the destination stays."""


@dataclass(frozen=True)
class Option:
    """One option that we implement.

    Attributes:
        name: the long spelling, also the TOML key; ``field`` is the attribute of ``Settings``.
        default: for a repeated option a tuple.
        repeated: may be given several times; in one string the values are separated by ``;`` or ``,``.
        rtpengine: rtpengine has it too, with the same meaning.
        in_files: may stand in a configuration file.
    """

    name: str
    kind: Kind[Any]
    default: object
    help: str
    short: str = ""
    repeated: bool = False
    rtpengine: bool = False
    in_files: bool = True
    field: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", self.name.replace("-", "_"))

    @property
    def environment_variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.field.upper()

    @property
    def is_switch(self) -> bool:
        return isinstance(self.kind, Switch)


_PORT: Final = Integer(1, MAX_PORT, 30000)
_COUNT: Final = Integer(0, 2**31 - 1, 5000)

OPTIONS: Final[tuple[Option, ...]] = (
    Option(
        "config-file",
        FilePath(),
        None,
        "Configuration file, TOML or rtpengine's INI; `none` reads no file. Default: /etc/mediaproxy/mediaproxy.toml, "
        "and if that is absent /etc/rtpengine/rtpengine.conf.",
        rtpengine=True,
        in_files=False,
    ),
    Option(
        "config-section",
        Text(r"[^\[\]\n]{1,100}", "the name of a section"),
        "rtpengine",
        "Section to read in an rtpengine INI file.",
        rtpengine=True,
        in_files=False,
    ),
    Option(
        "interface",
        InterfaceKind(),
        (),
        "Logical interface for media: a name (`default` if left out), the local address or a network device (all its "
        "addresses) or `any`, the address to show in SDP, and its own port range. The first one is the default. "
        "Without any: the address of the default route, else 127.0.0.1.",
        short="i",
        repeated=True,
        rtpengine=True,
    ),
    Option(
        "listen-ng",
        Listen(),
        (ListenSpec("127.0.0.1", 2223),),
        "Where to take ng requests over UDP; a port alone means all addresses of this host.",
        short="n",
        repeated=True,
        rtpengine=True,
    ),
    Option(
        "allow",
        Network(),
        (),
        "Who may send ng requests: addresses and networks; this host always may. Without any: directly connected "
        "networks and private ranges, as far as a listener can be reached from there.",
        repeated=True,
    ),
    Option(
        "port-min",
        _PORT,
        30000,
        "Lowest port for media, for interfaces without a range of their own.",
        short="m",
        rtpengine=True,
    ),
    Option(
        "port-max",
        _PORT,
        40000,
        "Highest port for media, for interfaces without a range of their own.",
        short="M",
        rtpengine=True,
    ),
    Option(
        "port-quarantine",
        Seconds(),
        10.0,
        "How long a freed port pair rests before it is used again, as long as others are free.",
    ),
    Option(
        "timeout",
        Seconds(),
        60.0,
        "A call ends when none of its streams received a packet for so long.",
        short="o",
        rtpengine=True,
    ),
    Option(
        "silent-timeout",
        Seconds(),
        3600.0,
        "The same for calls in which nobody is expected to send (hold).",
        short="s",
        rtpengine=True,
    ),
    Option(
        "final-timeout",
        Seconds(),
        0.0,
        "A call ends when it is so old, whatever it does; 0 means never.",
        short="a",
        rtpengine=True,
    ),
    Option("offer-timeout", Seconds(), 3600.0, "A call that is never answered ends after so long.", rtpengine=True),
    Option(
        "delete-delay",
        Seconds(),
        30.0,
        "How long a deleted call lives on, so that a late packet or request still finds it.",
        short="d",
        rtpengine=True,
    ),
    Option(
        "max-sessions",
        OptionalInteger(_COUNT),
        None,
        "New calls are refused while so many exist; 0 refuses all, -1 is no limit.",
        rtpengine=True,
    ),
    Option(
        "tos",
        OptionalInteger(Integer(0, 255, 184)),
        None,
        "TOS / traffic class byte of what we send (184 is Expedited Forwarding); -1 leaves it alone.",
        short="T",
        rtpengine=True,
    ),
    Option(
        "endpoint-learning",
        Choice(EndpointLearning),
        EndpointLearning.HEURISTIC,
        "How a party's real address is found from its packets.",
        rtpengine=True,
    ),
    Option(
        "source-lock",
        Choice(SourceLock),
        SourceLock.STRICT,
        "Packets from other sources after learning: `strict` drops and counts them, `rtpengine` forwards them.",
    ),
    Option(
        "sip-source",
        Switch(),
        False,
        "Send media to the address that SIP came from instead of the SDP's, unless a request says `trust-address`.",
        rtpengine=True,
    ),
    Option(
        "media-deny",
        Network(),
        (),
        "Networks that SDP must not point at, unless a longer prefix of `media-allow` holds the address; multicast and "
        "broadcast are always refused.",
        repeated=True,
    ),
    Option(
        "media-allow",
        Network(),
        (),
        "If given, SDP may point at these networks only.",
        repeated=True,
    ),
    Option(
        "num-threads",
        Integer(0, 1024, 2),
        0,
        "Threads that relay packets; 0 means one per CPU.",
        rtpengine=True,
    ),
    Option(
        "instance",
        Text(r"[A-Za-z0-9_-]{1,32}", "1 to 32 letters, digits, '_' or '-', such as edge1"),
        "default",
        "Name of this instance in logs and of all that it puts into the kernel; two on one host need two names.",
    ),
    Option(
        "kernel-path",
        Choice(KernelPath),
        KernelPath.AUTO,
        "How the kernel forwards media by itself: `auto` takes the first of `tc`, `nft` and `iptables` that is seen to "
        "forward a packet; `xdp` is for bare metal and only ever asked for; `userspace` leaves all media to the "
        "relay's threads. Where the one that is named does not work, media is relayed in user space, with a warning.",
    ),
    Option(
        "table",
        KernelTable(),
        None,
        "The number of rtpengine's kernel table: a negative one means `kernel-path = userspace`, unless that is given "
        "too; others mean nothing here.",
        short="t",
        rtpengine=True,
    ),
    Option(
        "no-fallback",
        Switch(),
        False,
        "Do not start if a kernel path is wanted and there is none.",
        short="F",
        rtpengine=True,
    ),
    Option(
        "nft-form",
        Choice(NftForm),
        NftForm.READABLE,
        "Rules of the kernel path `nft`: `readable` ones can be printed and loaded again by nft, `fast` ones take one "
        "look-up per packet, but a ruleset saved with them does not load.",
    ),
    Option(
        "nft-owner",
        Switch(),
        False,
        "Protect the nft table against `nft flush ruleset` by others (Linux 6.9); a saved ruleset that holds it does "
        "not load.",
    ),
    Option(
        "firewall",
        Choice(FirewallMode),
        FirewallMode.OFF,
        "Who opens the media ports in this host's firewall: `off` leaves that to you, `manage` opens them and keeps "
        "connection tracking away from them.",
    ),
    Option(
        "run-dir",
        FilePath(),
        DEFAULT_RUN_FOLDER,
        "Folder with one folder for each instance: its lock, and its BPF objects.",
    ),
    Option(
        "user",
        Text(r"[A-Za-z0-9_.-]{0,64}", "the name or number of a user"),
        "",
        "User to run as once all is set up; without it the user stays, but all capabilities are given up even so.",
    ),
    Option(
        "group",
        Text(r"[A-Za-z0-9_.-]{0,64}", "the name or number of a group"),
        "",
        "Group to run as; without it the user's own.",
    ),
    Option("pidfile", FilePath(), None, "Write the process id to this file.", short="p", rtpengine=True),
    Option(
        "foreground",
        Switch(),
        False,
        "Stay in the foreground. Without it we detach if a pidfile is given and no service manager waits for us "
        "(NOTIFY_SOCKET).",
        short="f",
        rtpengine=True,
    ),
    Option(
        "log-level",
        Level(),
        LogLevel.INFO,
        "Log this and everything more severe. SIGUSR2 logs more, SIGUSR1 less.",
        short="L",
        rtpengine=True,
    ),
    Option(
        "log-stderr",
        Switch(),
        False,
        "Log to stderr also when detached (in the foreground that is where logs go anyway).",
        short="E",
        rtpengine=True,
    ),
    Option("log-file", FilePath(), None, "Log to this file; SIGHUP opens it anew."),
    Option(
        "log-format",
        Choice(LogFormat, synonyms=(("default", LogFormat.HUMAN),)),
        LogFormat.HUMAN,
        "Form of log lines: for people, rtpengine's parsable prefix, or JSON, one object a line.",
        rtpengine=True,
    ),
    Option("no-log-timestamps", Switch(), False, "Log lines without a time.", rtpengine=True),
)

OPTION_BY_NAME: Final = {option.name: option for option in OPTIONS}
OPTION_BY_SHORT: Final = {option.short: option for option in OPTIONS if option.short}


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective values of ``OPTIONS``, one attribute each; see there for their meaning."""

    config_file: Path | None
    config_section: str
    interface: tuple[InterfaceSpec, ...]
    listen_ng: tuple[ListenSpec, ...]
    allow: tuple[IpNetwork, ...]
    port_min: int
    port_max: int
    port_quarantine: float
    timeout: float
    silent_timeout: float
    final_timeout: float
    offer_timeout: float
    delete_delay: float
    max_sessions: int | None
    tos: int | None
    endpoint_learning: EndpointLearning
    source_lock: SourceLock
    sip_source: bool
    media_deny: tuple[IpNetwork, ...]
    media_allow: tuple[IpNetwork, ...]
    num_threads: int
    instance: str
    kernel_path: KernelPath
    table: int | None
    no_fallback: bool
    nft_form: NftForm
    nft_owner: bool
    firewall: FirewallMode
    run_dir: Path | None
    user: str
    group: str
    pidfile: Path | None
    foreground: bool
    log_level: LogLevel
    log_stderr: bool
    log_file: Path | None
    log_format: LogFormat
    no_log_timestamps: bool
