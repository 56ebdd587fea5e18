"""The options of rtpengine (10.5 to 26.x) that we do not implement, each with what we make of it.

*Harmless*: we start and warn; calls are handled as well without it. *Refused*: we do not start, because something that
the operator counts on would be missing in silence. A switch that is set to false, and a value that asks for just what
we do anyway, is neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Status(Enum):
    """What we make of an option of rtpengine's that we do not implement."""

    HARMLESS = "accepted with a warning"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ForeignOption:
    """One such option.

    Attributes:
        reason: why, and what to do instead; ends the sentence "OPTION: ...".
        moot: a value that matches this pattern, like an empty one, needs no warning and no refusal.
    """

    name: str
    short: str
    takes_value: bool
    status: Status
    reason: str
    moot: str = ""

    def is_moot(self, value: str) -> bool:
        """Whether this value asks for nothing that we do not do anyway."""
        if not self.takes_value:
            return value.strip().lower() in {"false", "no", "off", "0"}
        return not value.strip() or (bool(self.moot) and re.fullmatch(self.moot, value.strip()) is not None)


def _group(status: Status, reason: str, spellings: str, moot: str = "") -> list[ForeignOption]:
    """Options that share a reason, spelled as rtpengine's ``--help`` does: ``-x,--name=`` takes a value."""
    options = []
    for spelling in spellings.split():
        parts = re.fullmatch(r"(?:-(\w),)?--([a-z0-9-]+)(=?)", spelling)
        if parts is None:
            raise ValueError(spelling)
        options.append(ForeignOption(parts[2], parts[1] or "", bool(parts[3]), status, reason, moot))
    return options


FOREIGN_OPTIONS: Final[tuple[ForeignOption, ...]] = (
    *_group(
        Status.HARMLESS,
        "it steers rtpengine's kernel module, which is not used",
        "--nftables-chain= --nftables-base-chain= --nftables-append --nftables-family=",
    ),
    *_group(
        Status.HARMLESS,
        "this listener is not implemented yet: nobody will answer there",
        "-c,--listen-cli= --listen-http= --listen-https= --https-cert= --https-key= --http-threads= --janus-secret=",
    ),
    *_group(
        Status.HARMLESS,
        "recording is not implemented yet: nothing is recorded",
        "--recording-dir= --recording-method= --recording-format= --record-egress",
    ),
    *_group(
        Status.HARMLESS,
        "this export is not implemented yet: nothing is sent",
        "-g,--graphite= -G,--graphite-interval= --graphite-prefix= --graphite-timeout= --homer= --homer-protocol= "
        "--homer-id= --homer-disable-rtcp-stats --homer-enable-ng --homer-ng-capture-proto= --mqtt-host= --mqtt-port= "
        "--mqtt-id= --mqtt-keepalive= --mqtt-user= --mqtt-pass= --mqtt-cafile= --mqtt-capath= --mqtt-certfile= "
        "--mqtt-keyfile= --mqtt-tls-alpn= --mqtt-publish-qos= --mqtt-publish-topic= --mqtt-publish-interval= "
        "--mqtt-publish-scope= --dtmf-log-dest= --dtmf-log-ng-tcp --dtmf-no-log-injects",
    ),
    *_group(
        Status.HARMLESS,
        "this load limit is not implemented yet: max-sessions is the one that holds",
        "--max-load= --max-cpu= --max-bandwidth=",
    ),
    *_group(
        Status.HARMLESS,
        "media playback is not implemented yet",
        "--media-num-threads= --mysql-host= --mysql-port= --mysql-user= --mysql-pass= --mysql-query= --player-cache "
        "--kernel-player= --kernel-player-media= --preload-media-files= --media-files-reload= --preload-db-media= "
        "--db-media-reload= --db-media-cache= --preload-db-cache= --cache-media-reload= --expiry-timer= "
        "--media-files-expire= --db-media-expire= --db-cache-expire= --moh-max-duration= --moh-max-repeats= "
        "--moh-attr-name=",
    ),
    *_group(
        Status.HARMLESS,
        "transcoding is not implemented: codecs pass as they are",
        "--codec-num-threads= --evs-lib-path= --audio-buffer-length= --audio-buffer-delay= --audio-player= "
        "--dtx-delay= --max-dtx= --dtx-buffer= --dtx-lag= --dtx-shift= --dtx-cn-params= --amr-dtx= --silence-detect= "
        "--cn-payload= --dtmf-no-suppress --dtmf-digit-delay= --jitter-buffer= --jb-clock-drift",
    ),
    *_group(
        Status.HARMLESS,
        "secure media passes end to end: we hold no keys",
        "--dtls-passive --dtls-cert-cipher= --dtls-signature= --dtls-rsa-key-size= --dtls-ciphers= --dtls-mtu= "
        "--debug-srtp --log-srtp-keys --software-id=",
    ),
    *_group(
        Status.HARMLESS,
        "call quality is not computed yet",
        "--mos= --measure-rtp --rtcp-interval=",
    ),
    *_group(
        Status.HARMLESS,
        "logs have one destination and one level here",
        "--log-facility= --log-facility-cdr= --log-facility-rtcp= --log-facility-dtmf= --log-name= --split-logs "
        "--max-log-line-length= --log-mark-prefix= --log-mark-suffix= --log-level-core= --log-level-spandsp= "
        "--log-level-ffmpeg= --log-level-transcoding= --log-level-codec= --log-level-rtcp= --log-level-ice= "
        "--log-level-crypto= --log-level-srtp= --log-level-internals= --log-level-http= --log-level-control= "
        "--log-level-dtx=",
    ),
    *_group(
        Status.HARMLESS,
        "it tunes rtpengine's own threads and sockets",
        "--thread-stack= --poller-per-thread --poller-size= --max-recv-iters= --io-uring --io-uring-buffers= "
        "--socket-cpu-affinity= --scheduling= --priority= --idle-scheduling= --idle-priority= --control-tos= "
        "--control-pmtu=",
    ),
    *_group(
        Status.HARMLESS,
        "a call takes ports on one address of its interface anyway",
        "-S,--save-interface-ports",
    ),
    *_group(
        Status.HARMLESS,
        "SDP that can be understood is accepted",
        "--reject-invalid-sdp",
    ),
    *_group(
        Status.HARMLESS,
        "it has no effect without --redis or --b2b-url, which are not implemented",
        "-k,--subscribe-keyspace= --redis-num-threads= --redis-expires= -q,--no-redis-required "
        "--redis-allowed-errors= --redis-disable-time= --redis-cmd-timeout= --redis-connect-timeout= "
        "-y,--redis-delete-async= --redis-delete-async-interval= --redis-resolve-on-reconnect --redis-format= "
        "--active-switchover -x,--xmlrpc-format=",
    ),
    *_group(
        Status.REFUSED,
        "the rtpproxy and OpenSER protocols are not spoken: use the SIP server's rtpengine module and --listen-ng",
        "-l,--listen-tcp= -u,--listen-udp=",
    ),
    *_group(
        Status.REFUSED,
        "ng over TCP is not implemented yet: use --listen-ng (UDP)",
        "-N,--listen-tcp-ng=",
    ),
    *_group(
        Status.REFUSED,
        "calls are not shared through a database yet: a standby that relies on it would have none of them",
        "-r,--redis= -w,--redis-write= --redis-subscribe=",
    ),
    *_group(
        Status.REFUSED,
        "the SIP server is not called back yet when a call times out: its dialogues would stay up; "
        "use dialogue timers or SIP session timers there",
        "-b,--b2b-url=",
    ),
    *_group(
        Status.REFUSED,
        "give firewall = manage, which keeps rules of its own, or open the port range in that chain",
        "--iptables-chain=",
    ),
    *_group(
        Status.REFUSED,
        "signalling templates are not implemented yet: give the flags in the SIP server's script",
        "--templates=",
    ),
    *_group(
        Status.REFUSED,
        "there are no rules of a kernel module to manage",
        "--nftables-start --nftables-stop --nftables-status",
    ),
    *_group(
        Status.REFUSED,
        "no codecs are built in: media passes as it is",
        "--codecs",
    ),
)

FOREIGN_BY_NAME: Final = {option.name: option for option in FOREIGN_OPTIONS}
FOREIGN_BY_SHORT: Final = {option.short: option for option in FOREIGN_OPTIONS if option.short}
