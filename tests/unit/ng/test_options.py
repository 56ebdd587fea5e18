from __future__ import annotations

import dataclasses

import pytest

from mediaproxy.errors import PayloadError, RequestError
from mediaproxy.net import AddressFamily
from mediaproxy.ng import bencode, options
from mediaproxy.ng.message import Dictionary, NgRequest, NgValue
from mediaproxy.ng.options import (
    DTLS_WORDS,
    ENDPOINT_LEARNING_WORDS,
    FLAG_WORDS,
    KEYS,
    MAX_NAME,
    MAX_UNKNOWN,
    REPLACE_WORDS,
    RTCP_MUX_WORDS,
    parse_request,
)
from mediaproxy.ng.readers import normalise
from mediaproxy.ng.words import EndpointLearning, Flag, Replace, RtcpMux
from tests.support.ng_requests import RecordedRequest, recorded_request, recorded_requests


def parse(*pairs: tuple[str, NgValue | str], command: str | None = "offer") -> NgRequest:
    """A request with these keys."""
    last = [] if command is None else [("command", command)]
    dictionary = Dictionary(
        (key.encode(), value.encode() if isinstance(value, str) else value) for key, value in (*pairs, *last)
    )
    return parse_request(dictionary, "192.0.2.9")


def recorded(name: str) -> NgRequest:
    return parse_request(bencode.decode(recorded_request(name).payload), "127.0.0.1")


def test_kamailio_offer_is_understood() -> None:
    request = recorded("02-kamailio-offer")
    assert request.command == "offer"
    assert request.control_peer == "127.0.0.1"
    assert request.supports_load_limit
    assert request.call_id == "1-11478@10.10.1.10"
    assert request.from_tag == "11478SIPpTag1"
    assert request.to_tag is None
    assert (request.from_interface, request.to_interface) == ("external", "internal")
    assert request.replace == {Replace.ORIGIN, Replace.SESSION_CONNECTION}
    assert request.transport_protocol == "RTP/AVP"
    assert request.received_from == "10.10.1.10"
    assert request.sdp is not None
    assert request.sdp.startswith(b"v=0\r\n")
    assert request.unknown == ()


def test_kamailio_webrtc_offer_is_understood() -> None:
    request = recorded("12-kamailio-offer")
    assert request.ice == {"force"}
    assert request.flags == {Flag.GENERATE_MID}
    assert request.rtcp_mux == {RtcpMux.OFFER}
    assert request.sdes == ("off",)
    assert request.transport_protocol == "UDP/TLS/RTP/SAVPF"


def test_kamailio_excluded_suites_are_understood() -> None:
    assert recorded("10-kamailio-offer").sdes == (
        "no-AEAD_AES_256_GCM",
        "no-AEAD_AES_128_GCM",
        "no-AES_256_CM_HMAC_SHA1_80",
        "no-AES_256_CM_HMAC_SHA1_32",
    )


def test_kamailio_branch_family_and_padding_are_understood() -> None:
    assert recorded("09-kamailio-offer").via_branch == "z9hG4bK-12178-1-01"
    assert recorded("16-kamailio-offer").address_family is AddressFamily.IP6
    assert recorded("11-kamailio-offer").sdes == ("pad",)


def test_what_we_do_not_do_yet_is_named() -> None:
    assert recorded("15-kamailio-offer").unknown == ("record-call",)


def test_opensips_delete_has_a_call_id_only() -> None:
    request = recorded("35-opensips-delete")
    assert (request.command, request.call_id, request.from_tag) == ("delete", "1-11776@10.10.1.10", None)
    assert not request.supports_load_limit


@pytest.mark.parametrize("request_", recorded_requests(), ids=lambda request: request.name)
def test_every_recorded_request_names_its_command(request_: RecordedRequest) -> None:
    if request_.payload.startswith(b"d"):
        command = parse_request(bencode.decode(request_.payload), "127.0.0.1").command
        assert command.lower().replace(" ", "-") == request_.name.split("-", 2)[2]


@pytest.mark.parametrize("value", [None, 5, [b"offer"], Dictionary()])
def test_command_that_is_no_string_is_missing(value: NgValue) -> None:
    with pytest.raises(PayloadError) as caught:
        parse(("command", value), ("call-id", "c"))
    assert str(caught.value) == 'Dictionary contains no key "command"'


def test_request_without_command_is_refused() -> None:
    with pytest.raises(PayloadError, match=r'^Dictionary contains no key "command"$'):
        parse(("call-id", "c"), command=None)


def test_empty_command_is_a_command() -> None:
    assert parse(command="").command == ""


def test_first_command_and_limit_count() -> None:
    request = parse(("command", "ping"), ("limit", 5), ("limit", 9), command="offer")
    assert (request.command, request.limit) == ("ping", 5)


def test_last_of_other_duplicates_counts_and_lists_add_up() -> None:
    request = parse(
        ("received-from", "192.0.2.1"),
        ("received-from", [b"IP4", b"192.0.2.2"]),
        ("delete delay", 7),
        ("delete-delay", "9"),
        ("flags", [b"fatal"]),
        ("flags", "fast"),
        ("replace", [b"origin"]),
        ("replace", [b"username"]),
    )
    assert request.received_from == "192.0.2.2"
    assert request.delete_delay == 9
    assert request.flags == {Flag.FATAL, Flag.FAST}
    assert request.replace == {Replace.ORIGIN, Replace.USERNAME}


def test_nothing_given_is_like_an_absent_key() -> None:
    request = parse(
        ("received-from", [b"IP4", b"192.0.2.2"]),
        ("received-from", []),
        ("to-tag", ""),
        ("flags", []),
        ("flags", ""),
        ("direction", []),
        ("replace", []),
        ("ICE", ""),
    )
    assert request.received_from == "192.0.2.2"
    assert request.to_tag is None
    assert request == dataclasses.replace(parse(), received_from="192.0.2.2")


@pytest.mark.parametrize(
    "spelling", ["call-id", "call-ID", "call id", "call ID", "Call-Id", "call_id"], ids=lambda name: name
)
def test_keys_are_found_in_all_their_spellings(spelling: str) -> None:
    assert parse((spelling, "c1")).call_id == "c1"


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("SDP", "v=0", "sdp", b"v=0"),
        ("sdp", "", "sdp", b""),
        ("to_tag", "t", "to_tag", "t"),
        ("via-branch", "b", "via_branch", "b"),
        ("supports", [b"load limit"], "supports_load_limit", True),
        ("supports", "load limit,more", "supports_load_limit", True),
        ("supports", [b"nothing"], "supports_load_limit", False),
        ("label", "l", "label", "l"),
        ("from label", "l", "label", "l"),
        ("set-label", "l", "set_label", "l"),
        ("metadata", "a:b|c:d", "metadata", "a:b|c:d"),
        ("limit", "7", "limit", 7),
        ("limit", -1, "limit", -1),
        ("limit", "x", "limit", 32),
        ("delete_delay", "0", "delete_delay", 0),
        ("delete-delay", -1, "delete_delay", None),
        ("direction", [b"a", b"b"], "to_interface", "b"),
        ("from interface", "a", "from_interface", "a"),
        ("to-interface", "b", "to_interface", "b"),
        ("received from", "192.0.2.1", "received_from", "192.0.2.1"),
        ("transport protocol", "rtp/savpf", "transport_protocol", "RTP/SAVPF"),
        ("transport-protocol", "TCP/XYZ", "transport_protocol", None),
        ("address family", "ip6", "address_family", AddressFamily.IP6),
        ("media address", "192.0.2.7", "media_address", "192.0.2.7"),
        ("media-address", "example.com", "media_address", None),
        ("ICE", "force_relay", "ice", frozenset({"force-relay"})),
        ("ice", [b"remove", b"trickle"], "ice", frozenset({"remove", "trickle"})),
        ("ICE", "default", "ice", frozenset()),
        ("SDES", [b"disabled", b"UNENCRYPTED_SRTP", b"priority"], "sdes", ("off", "unencrypted-srtp", "prefer")),
        ("sdes", [b"only-aes_cm_128_hmac_sha1_80"], "sdes", ("only-AES_CM_128_HMAC_SHA1_80",)),
        ("DTLS", "no", "dtls", "off"),
        ("DTLS", "passive", "dtls", "passive"),
        ("replace", [b"SDP version", b"session name", b"zero address"], "replace",
         frozenset({Replace.SDP_VERSION, Replace.SESSION_NAME, Replace.ZERO_ADDRESS})),
        ("RTCP mux", [b"offer", b"require"], "rtcp_mux", frozenset({RtcpMux.OFFER, RtcpMux.REQUIRE})),
        ("rtcp-mux", "demux,accept", "rtcp_mux", frozenset({RtcpMux.DEMUX, RtcpMux.ACCEPT})),
        ("endpoint learning", "off", "endpoint_learning", EndpointLearning.OFF),
        ("TOS", "184", "tos", 184),
        ("tos", -3, "tos", -1),
        ("TOS", 256, "tos", None),
        ("sip-code", 200, "sip_code", 200),
        ("SIP response code", "183", "sip_code", 183),
        ("flags", "fatal, no such word", "flags", frozenset({Flag.FATAL})),
        ("flags", [b"SIP source address"], "flags", frozenset({Flag.SIP_SOURCE_ADDRESS})),
        ("flags", [b"replace-session name"], "replace", frozenset({Replace.SESSION_NAME})),
        ("flags", [b"rtcp-mux-require"], "rtcp_mux", frozenset({RtcpMux.REQUIRE})),
        ("flags", [b"RTCP mux reject"], "rtcp_mux", frozenset({RtcpMux.REJECT})),
        ("flags", [b"endpoint-learning-immediate"], "endpoint_learning", EndpointLearning.IMMEDIATE),
        ("flags", [b"SDES-off", b"SDES-no-NULL_HMAC_SHA1_80"], "sdes", ("off", "no-NULL_HMAC_SHA1_80")),
        ("flags", [b"trickle ICE"], "ice", frozenset({"trickle"})),
    ],
)  # fmt: skip
def test_value_reaches_its_field(key: str, value: NgValue | str, field: str, expected: object) -> None:
    assert getattr(parse((key, value)), field) == expected


@pytest.mark.parametrize(
    ("key", "value", "unknown"),
    [
        ("codec", Dictionary([(b"strip", [b"all"])]), ("codec",)),
        ("no such key", "x", ("no such key",)),
        ("call-id", 5, ("call-id",)),
        ("call-id", Dictionary([(b"a", 1)]), ("call-id",)),
        ("call-id", Dictionary(), ()),
        ("tos", "high", ("tos",)),
        ("flags", 5, ("flags",)),
        ("flags", [b"fatal", b"what", 7], ("flags:what",)),
        ("flags", [b"replace-"], ("replace:",)),
        ("flags", [b"replace-what", b"symmetric", b"force"], ("replace:what",)),
        ("replace", [b"origin", b"what"], ("replace:what",)),
        ("DTLS", "sometimes", ("dtls:sometimes",)),
        ("sdes", [b"order", b"no-", b"off"], ("sdes:order", "sdes:no-")),
        ("media-address", "example.com", ("media-address",)),
        ("größe", "x", ("größe",)),
        ("sip-message-type", "sip_request", ()),
        ("repacketize", 20, ()),
        ("direction", "a,b", ("direction",)),
        ("metadata", None, ("metadata",)),
    ],
)
def test_what_is_not_understood_is_ignored_and_named(key: str, value: NgValue | str, unknown: tuple[str, ...]) -> None:
    request = parse((key, value))
    assert request.unknown == unknown
    assert request.command == "offer"


def test_what_is_named_is_bounded() -> None:
    request = parse(("flags", [b"%d" % number + b"x" * 500 for number in range(1000)]))
    assert len(request.unknown) == MAX_UNKNOWN
    assert max(map(len, request.unknown)) == 64


def test_direction_with_one_element_leaves_the_other_side() -> None:
    request = parse(("to-interface", "b"), ("direction", [b"a"]))
    assert (request.from_interface, request.to_interface) == ("a", "b")


def test_any_byte_of_a_tag_survives() -> None:
    tag = bytes(range(256))
    assert parse(("from-tag", tag)).from_tag == tag.decode("utf-8", "surrogateescape")


def test_every_field_has_a_key_or_a_word() -> None:
    by_key = {key.field for key in KEYS} | {"to_interface"}
    assert {field.name for field in dataclasses.fields(NgRequest)} == (by_key - {None}) | {"control_peer", "unknown"}


@pytest.mark.parametrize(
    ("enum", "words"),
    [
        (Flag, FLAG_WORDS),
        (Replace, REPLACE_WORDS),
        (RtcpMux, RTCP_MUX_WORDS),
        (EndpointLearning, ENDPOINT_LEARNING_WORDS),
    ],
)
def test_every_member_has_a_word(enum: type, words: tuple[options.Word, ...]) -> None:
    assert set(enum) == {word.meaning for word in words if isinstance(word.meaning, enum)}  # type: ignore[call-overload]


def test_no_spelling_stands_twice() -> None:
    names = [normalise(spelling.encode()) for key in KEYS for spelling in (key.name, *key.spellings)]
    assert len(names) == len(set(names))
    assert all(key.name.encode() == normalise(key.name.encode()) for key in KEYS)
    for words in (FLAG_WORDS, REPLACE_WORDS, RTCP_MUX_WORDS, ENDPOINT_LEARNING_WORDS, DTLS_WORDS):
        spelt = [normalise(spelling.encode()) for word in words for spelling in (word.name, *word.spellings)]
        assert len(spelt) == len(set(spelt))


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("call-id", "call_id"),
        ("from-tag", "from_tag"),
        ("to-tag", "to_tag"),
        ("via-branch", "via_branch"),
        ("label", "label"),
        ("set-label", "set_label"),
        ("metadata", "metadata"),
    ],
)
def test_names_are_bounded(key: str, field: str) -> None:
    assert getattr(parse((key, "x" * MAX_NAME)), field) == "x" * MAX_NAME
    # Bytes count, not characters; whatever the spelling, the canonical name is told.
    for spelling in (key, key.replace("-", "_").upper()):
        with pytest.raises(RequestError, match=f"^{key} is too long$") as caught:
            parse((spelling, "\u20ac" * 342))
        assert caught.value.detail == "1026 bytes; at most 1024"
