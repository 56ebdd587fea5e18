"""One m= section: its streams, who is served by a shared port, and what the relay is told."""

from __future__ import annotations

from mediaproxy.calls.latching import Latch
from mediaproxy.calls.media import Media, PortPair, Signalled, Transport
from mediaproxy.datapath import MAX_CLOCK_RATES, SourcePolicy, TransportHandle
from mediaproxy.net import Endpoint
from mediaproxy.ng.words import EndpointLearning
from tests.support.sessions import PUBLIC

RTP, RTCP = Endpoint("192.0.2.21", 9000), Endpoint("192.0.2.21", 9001)


def transport(number: int) -> Transport:
    return Transport(TransportHandle(number), PUBLIC, 30000 + number)


def pair_of(number: int) -> PortPair:
    return PortPair(PUBLIC, transport(number), transport(number + 1))


def signalled(*, strict: bool = True, handover: bool = False) -> Signalled:
    return Signalled(
        RTP, RTCP, held=False, strict=strict, mode=EndpointLearning.IMMEDIATE, asymmetric=False, handover=handover
    )


def media_on(pair: PortPair | None) -> Media:
    media = Media(0, "audio", "RTP/AVP")
    media.relayed = True
    media.signalled = signalled()
    if pair is not None:
        media.take_pair(pair)
        pair.serve(media)
    return media


def connected() -> tuple[Media, Media]:
    one, other = media_on(pair_of(0)), media_on(pair_of(2))
    one.connect(other)
    other.connect(one)
    return one, other


def test_new_media_without_pair_tells_the_relay_nothing_and_learns_nothing() -> None:
    media = media_on(None)
    media.listen(1.0)
    media.listen_again(1.0)
    media.settle_mux(True)
    media.connect(media_on(pair_of(0)))
    assert media.configs(None) == []
    assert media.muxed
    assert media.let_go(1.0) is None


def test_media_that_has_not_spoken_opens_no_window() -> None:
    pair = pair_of(0)
    media = media_on(pair)
    media.signalled = None
    media.listen(1.0)
    assert pair.rtp.latching.state is Latch.UNKNOWN


def test_listening_follows_what_was_signalled_on_both_transports() -> None:
    pair = pair_of(0)
    media = media_on(pair)
    media.signalled = signalled(strict=False)
    pair.rtp.refusals_reported = True
    media.listen(1.0)
    assert (pair.rtp.latching.signalled, pair.rtcp.latching.signalled) == (RTP, RTCP)
    assert not pair.rtp.strict
    assert not pair.rtp.refusals_reported


def test_confirmed_source_is_locked_trusted_or_still_watched() -> None:
    one = transport(0)
    assert one.policy() is SourcePolicy.OPEN
    one.latching.state = Latch.CONFIRMED
    assert one.policy() is SourcePolicy.LOCKED
    one.strict = False
    assert one.policy() is SourcePolicy.TRUSTING
    one.latching.handover = True
    assert one.policy() is SourcePolicy.OPEN


def test_streams_go_to_the_peers_streams() -> None:
    one, other = connected()
    one.listen(1.0)
    rtp, rtcp = one.configs(184)
    assert (rtp.rtp_sinks, rtp.rtcp_sinks) == ((2,), ()), "RTCP is not told apart where it can't come"
    assert (rtcp.rtp_sinks, rtcp.rtcp_sinks) == ((), (3,))
    assert (rtp.remote, rtcp.remote) == (RTP, RTCP)
    assert (rtp.tos, rtp.policy) == (184, SourcePolicy.OPEN)
    other.settle_mux(True)
    rtp, rtcp = one.configs(None)
    assert rtcp.rtcp_sinks == (2,), "the peer takes RTCP on its RTP port"
    assert other.configs(None)[0].rtcp_sinks == (1,)
    other.settle_mux(False)
    other.mux_possible = True
    assert other.configs(None)[0].rtcp_sinks == (1,), "offered: it may come there"


def test_rejected_media_is_closed_but_keeps_its_pair() -> None:
    one, _ = connected()
    one.rejected = True
    assert [config.policy for config in one.configs(None)] == [SourcePolicy.CLOSED, SourcePolicy.CLOSED]
    assert one.pair is not None


def test_opaque_media_uses_the_even_port_only() -> None:
    one, _ = connected()
    one.opaque = True
    rtp, rtcp = one.configs(None)
    assert rtp.opaque
    assert rtp.rtp_sinks == (2,)
    assert (rtcp.policy, rtcp.rtcp_sinks) == (SourcePolicy.CLOSED, ())


def test_clocks_of_dynamic_types_are_told_as_many_as_the_relay_takes() -> None:
    one, _ = connected()
    one.codecs = ((0, "PCMU/8000", 8000), (96, "x", 0), *((97 + i, "opus/48000/2", 48000) for i in range(30)))
    rates = one.configs(None)[0].clock_rates
    assert len(rates) == MAX_CLOCK_RATES
    assert rates[0] == (97, 48000)


def test_branch_keeps_what_was_said_and_drops_what_was_learnt() -> None:
    one, _ = connected()
    one.formats = ("8",)
    branch = one.branch_off(keep_pair=False)
    assert (branch.formats, branch.signalled) == (("8",), one.signalled)
    assert branch.pair is branch.rtp is branch.rtcp is None
    assert one.pair is not None


def test_shared_pair_serves_the_one_that_spoke_last_and_is_closed_by_the_last_user() -> None:
    one, _ = connected()
    branch = one.branch_off(keep_pair=True)
    pair = one.pair
    assert pair is not None
    assert branch.pair is pair
    pair.serve(branch)
    assert one.configs(None) == []
    assert branch.configs(None) != []
    pair.serve(one)
    assert branch.configs(None) == []
    assert one.let_go(5.0) is None
    assert pair.users == [branch]
    assert pair.rtp.latching.signalled == RTP, "the port listens to whom it serves now"
    assert branch.let_go(6.0) is pair


def test_branch_of_a_media_without_pair_has_none_either() -> None:
    assert media_on(None).branch_off(keep_pair=True).pair is None
