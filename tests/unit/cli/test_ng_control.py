from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bencodepy
import pytest

from mediaproxy.cli.ng_control import main
from mediaproxy.errors import LimitReachedError, UnknownCallError
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.ng.words import Flag, Replace
from tests.support.ng_requests import recorded_request
from tests.support.ng_server import NgServer
from tests.unit.listeners.fakes import Bench

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nm=audio 6000 RTP/AVP 0\r\n"
STREAM = {
    "local port": 30000,
    "local address": "10.10.1.1",
    "family": "IPv4",
    "endpoint": {"family": "IPv4", "address": "10.10.1.10", "port": 6000},
    "last packet": 1795259896,
    "flags": ["RTP", "filled", "confirmed"],
    "SSRC": 3390111744,
    "stats": {"packets": 251, "bytes": 43172, "errors": 3},
}
CALL = {
    "created": 1795259891,
    "last signal": 1795259892,
    "SSRC": {},
    "tags": {
        "fa": {
            "tag": "fa",
            "label": "caller",
            "medias": [{"index": 1, "type": "audio", "protocol": "RTP/AVP", "codec": "PCMA/8000", "streams": [STREAM]}],
        },
        "tb": {"tag": "tb", "medias": []},
    },
    "totals": {"RTP": {"packets": 251, "bytes": 43172, "errors": 3}, "RTCP": {"packets": 0, "bytes": 0, "errors": 0}},
    "result": "ok",
}


def replying(reply: Mapping[str, Any]) -> NgServer:
    """A server that always says this, in the encoding it is asked in."""

    def respond(datagram: bytes, _peer: str) -> bytes:
        cookie, _, payload = datagram.partition(b" ")
        return cookie + b" " + (json.dumps(reply).encode() if payload[:1] == b"{" else bencodepy.encode(reply))

    return NgServer(respond)


def saying(payload: bytes) -> NgServer:
    """A server that says these bytes under the right cookie."""
    return NgServer(lambda datagram, _peer: datagram.partition(b" ")[0] + b" " + payload)


def run(*arguments: str) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    code = caught.value.code
    return code if isinstance(code, int) else 0


def decoded(datagram: bytes) -> dict[bytes, Any]:
    request: dict[bytes, Any] = bencodepy.decode(datagram.partition(b" ")[2])
    return request


@pytest.fixture
def sdp_file(tmp_path: Path) -> str:
    path = tmp_path / "offer.sdp"
    path.write_bytes(SDP)
    return str(path)


def test_ping_prints_the_pong(capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"result": "pong"}) as server:
        assert run("ping", "--server", server.name) == 0
    assert capsys.readouterr().out.startswith(f"pong from {server.name} after ")
    assert decoded(server.received[0]) == {b"command": b"ping"}


def test_connection_options_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"result": "pong"}) as server:
        assert run("--server", server.name, "--timeout=2", "--json-wire", "--json", "ping", "--retries", "1") == 0
    assert json.loads(capsys.readouterr().out) == {"result": "pong"}
    assert server.received[0].endswith(b' {"command":"ping"}')


def test_server_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with replying({"result": "pong"}) as server:
        monkeypatch.setenv("NG_SERVER", server.name)
        assert run("ping") == 0
        assert len(server.received) == 1


def test_offer_sends_every_option_by_its_name(sdp_file: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with replying({"sdp": SDP + b"a=x\r\n", "result": "ok"}) as server:
        code = run(
            "offer", "--server", server.name, "--sdp", sdp_file, "--call-id", "c1", "--from-tag", "fa",
            "--to-tag", "tb", "--via-branch", "b1", "--received-from", "2001:db8::1", "--direction", "ext,int",
            "--transport-protocol", "RTP/AVP", "--address-family", "IP6", "--media-address", "2001:db8::2",
            "--replace", "origin,username", "--replace", "session-name", "--rtcp-mux", "demux", "--ice", "remove",
            "--DTLS", "off", "--sdes", "off", "--label", "caller", "--metadata", "a:b",
            "--flag", "trust-address", "--flag", "strict-source", "--key", "record-call=yes", "--int", "TOS=184",
            "--list", "T.38=decode,force", "--dict", 'codec={"strip":["all"],"x":{"y":1,"z":true,"f":1.5}}',
        )  # fmt: skip
    assert code == 0
    assert capfdbinary.readouterr().out == SDP + b"a=x\r\n"
    assert decoded(server.received[0]) == {
        b"command": b"offer",
        b"sdp": SDP,
        b"call-id": b"c1",
        b"from-tag": b"fa",
        b"to-tag": b"tb",
        b"via-branch": b"b1",
        b"received-from": [b"IP6", b"2001:db8::1"],
        b"direction": [b"ext", b"int"],
        b"transport-protocol": b"RTP/AVP",
        b"address-family": b"IP6",
        b"media-address": b"2001:db8::2",
        b"replace": [b"origin", b"username", b"session-name"],
        b"rtcp-mux": [b"demux"],
        b"ICE": b"remove",
        b"DTLS": b"off",
        b"SDES": [b"off"],
        b"label": b"caller",
        b"metadata": b"a:b",
        b"flags": [b"trust-address", b"strict-source"],
        b"record-call": b"yes",
        b"TOS": 184,
        b"T.38": [b"decode", b"force"],
        b"codec": {b"strip": [b"all"], b"x": {b"y": 1, b"z": 1, b"f": b"1.5"}},
    }


def test_offer_in_json_reads_standard_input(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SDP)))
    with replying({"sdp": "v=0\r\n", "warning": "no codec", "result": "ok"}) as server:
        code = run("offer", "-s", server.name, "--json-wire", "--sdp", "-", "--call-id", "c", "--from-tag", "f")
    assert code == 0
    assert json.loads(server.received[0].partition(b" ")[2]) == {
        "command": "offer",
        "sdp": SDP.decode(),
        "call-id": "c",
        "from-tag": "f",
    }
    captured = capfdbinary.readouterr()
    assert captured.out == b"v=0\r\n"
    assert captured.err == b"ng-control: warning: no codec\n"


def test_answer_needs_a_to_tag(sdp_file: str) -> None:
    arguments = ["answer", "--sdp", sdp_file, "--call-id", "c", "--from-tag", "f"]
    assert run(*arguments) == 2
    with replying({"sdp": SDP, "result": "ok"}) as server:
        assert run(*arguments, "--to-tag", "t", "--server", server.name) == 0
    assert decoded(server.received[0])[b"to-tag"] == b"t"


@pytest.mark.parametrize("wire", [[], ["--json-wire"]])
def test_query_shows_a_table_of_streams(wire: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with replying(CALL) as server:
        assert run("query", "--server", server.name, "--call-id", "c1", "--from-tag", "fa", *wire) == 0
    out = capsys.readouterr().out
    for text in (
        "created 2026-11-21 11:18:11 UTC",
        "fa (caller)",
        "1 audio RTP/AVP PCMA/8000",
        "10.10.1.1:30000",
        "10.10.1.10:6000",
        "251 packets, 43172 bytes, 3 errors",
        "3390111744",
        "filled, confirmed",
        "no media",
        "RTCP: 0 packets, 0 bytes received in all",
    ):
        assert text in out


def test_show_names_the_path_of_each_stream_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    streams: list[Any] = [
        {"local port": 30000, "local address": "10.10.1.1", "flags": ["RTP", "kernelized"], "path": "kernel"},
        {"local port": 30001, "flags": ["RTCP"], "path": "userspace", "path reason": "RT\x1bCP"},
    ]
    reply: dict[str, Any] = {"tags": {"a": {"medias": [{"index": 1, "streams": streams}]}}, "result": "ok"}
    with replying(reply) as server:
        assert run("show", "c1", "--server", server.name) == 0
    assert decoded(server.received[0]) == {b"command": b"query", b"call-id": b"c1"}
    rtp, rtcp = [line for line in capsys.readouterr().out.splitlines() if "3000" in line]
    assert "kernel " in rtp
    assert "kernelized" in rtp
    assert "userspace: RT\ufffdCP" in rtcp


def test_flows_lists_and_sweeps_what_a_dead_proxy_left(capsys: pytest.CaptureFixture[str]) -> None:
    orphan: dict[str, Any] = {
        "local": "10.0.0.1:30000",
        "source": "10.0.0.2:4000",
        "sender": "10.0.0.1:30002",
        "target": "10.0.0.3:5000",
        "silent": 7,
    }
    with replying({"orphans": [orphan], "result": "ok"}) as server:
        assert run("flows", "list", "--server", server.name) == 0
    assert decoded(server.received[0]) == {b"command": b"list flows"}
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "10.0.0.1" in line]
    assert line.split() == ["10.0.0.1:30000", "10.0.0.2:4000", "10.0.0.1:30002", "10.0.0.3:5000", "7", "s"]
    with replying({"orphans": [], "result": "ok"}) as server:
        assert run("flows", "list", "--server", server.name) == 0
    assert capsys.readouterr().out == "no flows without a call\n"
    with replying({"ended": 2, "result": "ok"}) as server:
        assert run("flows", "sweep", "--server", server.name) == 0
    assert decoded(server.received[0]) == {b"command": b"sweep flows"}
    assert capsys.readouterr().out == "ended: 2\n"
    assert run("flows", "drop") == 2


def test_query_as_json_is_the_whole_reply(capsys: pytest.CaptureFixture[str]) -> None:
    with replying(CALL) as server:
        assert run("query", "--server", server.name, "--call-id", "c1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == CALL


def test_delete_sends_its_options_and_warns(capsys: pytest.CaptureFixture[str]) -> None:
    warning = "Call-ID not found or tags didn't match"
    with replying({"warning": warning, "result": "ok"}) as server:
        code = run(
            "delete", "--server", server.name, "--call-id", "c1", "--from-tag", "f", "--to-tag", "t",
            "--via-branch", "b", "--delete-delay", "0", "--flag", "to-tag",
        )  # fmt: skip
    assert code == 0
    assert decoded(server.received[0]) == {
        b"command": b"delete",
        b"call-id": b"c1",
        b"from-tag": b"f",
        b"to-tag": b"t",
        b"via-branch": b"b",
        b"delete-delay": 0,
        b"flags": [b"to-tag"],
    }
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"ng-control: warning: {warning}\n"


def test_list_prints_a_call_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"calls": ["c1", "c2\x1b[2J"], "result": "ok"}) as server:
        assert run("list", "--limit", "7", "--server", server.name) == 0
    assert decoded(server.received[0]) == {b"command": b"list", b"limit": 7}
    assert capsys.readouterr().out == "c1\nc2\ufffd[2J\n"


def test_statistics_shows_every_counter(capsys: pytest.CaptureFixture[str]) -> None:
    reply = {
        "statistics": {
            "currentstatistics": {"sessionsown": 1},
            "totalstatistics": {"uptime": "17"},
            "controlstatistics": {"proxies": [{"proxy": "127.0.0.1", "offercount": 4}], "totalpingcount": 2},
            "interfaces": [],
        },
        "result": "ok",
    }
    with replying(reply) as server:
        assert run("statistics", "--server", server.name) == 0
    out = capsys.readouterr().out
    for line in ("sessionsown", "uptime", "proxies[0].offercount", "totalpingcount"):
        assert line in out
    assert "interfaces" not in out


def test_any_other_command_can_be_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"duration": 1200, "tags": [{"a": 1}], "flat": {"b": 2}, "result": "ok"}) as server:
        assert run("send", "play media", "--key", "call-id=c1", "--key", "file=/a=b", "--server", server.name) == 0
    assert decoded(server.received[0]) == {b"command": b"play media", b"call-id": b"c1", b"file": b"/a=b"}
    words = capsys.readouterr().out.split()
    assert words[:2] == ["duration:", "1200"]
    assert {"tags", "[0].a", "1", "flat", "b", "2"} <= set(words)


@pytest.mark.parametrize("arguments", [["delete", "--call-id", "c"], ["send", "block media"]])
def test_reply_with_nothing_but_its_result_says_ok(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"result": "ok"}) as server:
        assert run(*arguments, "--server", server.name) == 0
    assert capsys.readouterr().out == "ok\n"


@pytest.mark.parametrize("wire", [[], ["--json-wire"]])
def test_error_reply_ends_with_1(wire: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"result": "error", "error-reason": "Failed to parse SDP", "error-detail": "line 1"}) as server:
        assert run("query", "--call-id", "c", "--server", server.name, *wire) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "ng-control: error: Failed to parse SDP: line 1\n"


def test_load_limit_ends_with_1_and_json_is_still_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"result": "load limit", "message": "CPU usage limit exceeded"}) as server:
        assert run("list", "--server", server.name, "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["result"] == "load limit"
    assert captured.err == "ng-control: load limit: CPU usage limit exceeded\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["what"],
        ["ping", "--no-such-option"],
        ["ping", "extra"],
        ["offer", "--call-id", "c"],
        ["offer", "--sdp", "/no/such/file", "--call-id", "c", "--from-tag", "f"],
        ["ping", "--server", "host:port"],
        ["ping", "--server", ""],
        ["ping", "--key", "novalue"],
        ["ping", "--int", "a=b"],
        ["ping", "--list", "=b"],
        ["ping", "--dict", "a=["],
        ["ping", "--dict", "a=[1]"],
        ["ping", "--dict", 'a={"b":null}'],
        ["ping", "--timeout", "0"],
        ["ping", "--retries", "-1"],
        ["ping", "--json-key", "a=nonsense"],
        ["ping", "--json-key", "a=[null]"],
        ["ping", "--json-key", "a"],
        ["--server"],
    ],
)
def test_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err


def test_nothing_listening_ends_with_3_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with replying({}) as server:
        pass
    started = time.monotonic()
    assert run("ping", "--server", server.name) == 3
    assert time.monotonic() - started < 3
    assert f"nothing listens on {server.name}" in capsys.readouterr().err


def test_silence_ends_with_3_after_sending_the_same_bytes_again(capsys: pytest.CaptureFixture[str]) -> None:
    with NgServer(lambda _datagram, _peer: None) as server:
        assert run("ping", "--server", server.name, "--timeout", "0.05", "--retries", "2") == 3
    assert len(server.received) == 3
    assert len(set(server.received)) == 1
    assert f"no answer from {server.name} within 0.15 s (asked 3 times)" in capsys.readouterr().err


def test_unknown_host_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ping", "--server", "no-such-host.invalid:2223") == 3
    assert "no address found for 'no-such-host.invalid'" in capsys.readouterr().err


def test_request_too_large_for_a_datagram_ends_with_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"v" * 70_000)
    with replying({"result": "ok"}) as server:
        sdp = str(tmp_path / "large")
        assert run("offer", "--sdp", sdp, "--call-id", "c", "--from-tag", "f", "--server", server.name) == 3
    assert "Message too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    "payload",
    [b"", b"garbage", b"d6:result2:ok", b"{", b"[]", b'{"result":5}', b"{}", b"le", b"d6:resulti1ee", b"\x1b[2J" * 99],
)
def test_malformed_reply_ends_with_4(payload: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with saying(payload) as server:
        assert run("ping", "--server", server.name) == 4
    err = capsys.readouterr().err
    assert f"the reply of {server.name}" in err
    assert "\x1b" not in err


def test_reply_to_another_cookie_is_skipped() -> None:
    def respond(datagram: bytes, _peer: str) -> bytes:
        cookie = datagram.partition(b" ")[0]
        # The first two are answers to somebody else; the client asks again and gets its own.
        return b"other d6:result4:ponge" if len(server.received) <= 2 else cookie + b" d6:result4:ponge"

    with NgServer(respond) as server:
        assert run("ping", "--server", server.name, "--timeout", "0.05") == 0
        assert len(server.received) == 3


def test_help_of_every_command_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("ping", "offer", "answer", "delete", "query", "list", "statistics", "send"):
        assert run(command, "--help") == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "--server" in out
        assert "Exit status: 0" in out


def test_commands_are_understood_by_our_own_listener(sdp_file: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    bench = Bench(lambda request: {"sdp": request.sdp or b"", "result": "ok"})

    def respond(datagram: bytes, peer: str) -> bytes | None:
        return bench.dispatcher.handle_datagram(datagram, peer, 1.0)

    with NgServer(respond) as server:
        for wire in ([], ["--json-wire"]):
            code = run(
                "offer", "--sdp", sdp_file, "--call-id", "c1", "--from-tag", "fa", "--direction", "ext,int",
                "--replace", "origin", "--flag", "trust-address", "--int", "TOS=184", "--received-from", "192.0.2.7",
                "--server", server.name, *wire,
            )  # fmt: skip
            assert code == 0
            assert capfdbinary.readouterr().out == SDP
        assert run("send", "list", "--key", "limit=3", "--server", server.name) == 0
    for request in bench.handler.requests[:2]:
        assert request.sdp == SDP
        assert (request.call_id, request.from_interface, request.to_interface) == ("c1", "ext", "int")
        assert request.replace == {Replace.ORIGIN}
        assert request.flags == {Flag.TRUST_ADDRESS}
        assert (request.tos, request.received_from) == (184, "192.0.2.7")
        assert request.unknown == ()
    assert bench.handler.requests[2].limit == 3


@pytest.mark.parametrize(
    ("error", "arguments", "text"),
    [
        (UnknownCallError("c"), [], "error: Unknown call-id"),
        (
            LimitReachedError("Load limit exceeded"),
            [],
            "error: Parallel session limit reached: Load limit exceeded",
        ),
        (
            LimitReachedError("Load limit exceeded"),
            ["--list", "supports=load limit"],
            "load limit: Load limit exceeded",
        ),
    ],
)
def test_errors_of_our_own_listener_are_shown(
    error: Exception, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_request: NgRequest) -> NgReply:
        raise error

    bench = Bench(fail)
    with NgServer(lambda datagram, peer: bench.dispatcher.handle_datagram(datagram, peer, 1.0)) as server:
        assert run("query", "--call-id", "c", "--server", server.name, *arguments) == 1
    assert capsys.readouterr().err == f"ng-control: {text}\n"


def test_bytes_that_are_no_utf8_reach_the_server() -> None:
    call_id = b"\xff\xfe".decode("utf-8", "surrogateescape")
    with replying({"result": "ok"}) as server:
        assert run("query", "--call-id", call_id, "--server", server.name) == 0
        assert run("query", "--call-id", call_id, "--server", server.name, "--json-wire") == 0
    assert decoded(server.received[0])[b"call-id"] == b"\xff\xfe"
    assert json.loads(server.received[1].partition(b" ")[2])["call-id"] == "\ufffd\ufffd"


def test_reply_of_a_real_server_is_printed(capfdbinary: pytest.CaptureFixture[bytes], sdp_file: str) -> None:
    body = decoded(recorded_request("02-kamailio-offer").datagram)[b"sdp"]
    # rtpengine does not sort its keys.
    with saying(b"d3:sdp%d:%b6:result2:oke" % (len(body), body)) as server:
        assert run("offer", "--sdp", sdp_file, "--call-id", "c", "--from-tag", "f", "--server", server.name) == 0
    assert capfdbinary.readouterr().out == body


def test_offer_without_a_body_in_the_reply_says_ok(sdp_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"result": "ok"}) as server:
        assert run("offer", "--sdp", sdp_file, "--call-id", "c", "--from-tag", "f", "--server", server.name) == 0
    assert capsys.readouterr().out == "ok\n"


def test_program_loads_nothing_it_does_not_need() -> None:
    """What makes a ping slow is imports: the daemon, its libraries and rich's tables stay out."""
    script = (
        "import sys; from mediaproxy.cli import ng_control\n"
        "try: ng_control.main(['ping', '--server', sys.argv[1]])\n"
        "finally: print(*[name for name in ('rich.table', 'asyncio', 'uvloop', 'msgspec', 'structlog', 'pyroute2',"
        " 'mediaproxy.engine', 'mediaproxy.ng.options') if name in sys.modules], file=sys.stderr)"
    )
    with replying({"result": "pong"}) as server:
        done = subprocess.run(
            [sys.executable, "-c", script, server.name], capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout.startswith("pong from")
    assert done.stderr.split() == []


def test_any_json_value_can_be_sent() -> None:
    with replying({"result": "ok"}) as server:
        code = run(
            "send", "x", "--server", server.name, "--json-key", "empty=[]",
            "--json-key", 'list=[{"a":1},{"b":["c"]},[]]', "--json-key", "none={}",
            "--json-key", 'text="t=u"', "--json-key", "number=-5",
        )  # fmt: skip
    assert code == 0
    assert decoded(server.received[0]) == {
        b"command": b"x",
        b"empty": [],
        b"list": [{b"a": 1}, {b"b": [b"c"]}, []],
        b"none": {},
        b"text": b"t=u",
        b"number": -5,
    }


@pytest.mark.parametrize("option", ["--server", "-s", "--timeout", "--retries"])
def test_missing_value_before_the_command_is_named(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(option) == 2
    assert capsys.readouterr().err == f"ng-control: {option}: its value is missing\n"


def test_missing_command_after_options_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--server", "127.0.0.1") == 2
    assert "which command?" in capsys.readouterr().err


def in_shell(script: str, server: NgServer) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in which ``ng`` is the program that asks the server."""
    ng = f'ng() {{ {sys.executable} -m mediaproxy.cli.ng_control --server {server.name} "$@"; }}; '
    return subprocess.run(["bash", "-c", ng + script], capture_output=True, text=True, timeout=60, check=False)


def test_missing_standard_input_is_a_wrong_command_line() -> None:
    with replying({"result": "ok"}) as server:
        done = in_shell("ng offer --sdp - --call-id c --from-tag f <&-", server)
        assert (done.returncode, done.stderr) == (2, "ng-control: --sdp -: there is no standard input\n")
        assert server.received == []


@pytest.mark.parametrize("command", ["ping", "list", "statistics", "list --json", "list --help"])
def test_output_that_cannot_be_written_ends_with_5(command: str) -> None:
    with replying({"calls": ["c1"], "statistics": {"a": 1}, "result": "ok"}) as server:
        done = in_shell(f"ng {command} >/dev/full", server)
    assert (done.returncode, done.stderr) == (5, "ng-control: standard output: No space left on device\n")


def test_broken_pipe_ends_quietly_with_5() -> None:
    with replying({"calls": ["c" * 100] * 300, "result": "ok"}) as server:
        done = in_shell("ng list | true; exit ${PIPESTATUS[0]}", server)
    assert (done.returncode, done.stderr) == (5, "")


def test_firewall_shows_lines_to_paste(capsys: pytest.CaptureFixture[str]) -> None:
    with replying({"firewall": ["UDP port 1", "\tchain \x1b[2J"], "result": "ok"}) as server:
        assert run("firewall", "show", "--server", server.name) == 0
    assert decoded(server.received[0]) == {b"command": b"show firewall"}
    assert capsys.readouterr().out == "UDP port 1\n    chain \ufffd[2J\n"
