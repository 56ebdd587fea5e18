"""Every golden file, told to an engine on a fake relay; what the files look like is said in ``exchange``."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediaproxy.calls.addresses import AddressPolicy
from mediaproxy.engine import Engine, EngineSettings
from mediaproxy.errors import RequestError
from mediaproxy.interfaces import Interface, Interfaces
from mediaproxy.ng.message import NgReply
from mediaproxy.stats.control import ControlCounters
from tests.golden.exchange import DEFAULT_LOOP_MARKER, Ports, Step, Story, read_story
from tests.support.fake_relay import FakeRelay

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))
PORT_MIN, PORT_MAX = 30000, 30999
NOW = 1000.0


class Teller:
    """Tells one story and compares."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.relay = FakeRelay()
        self.ports = Ports()
        self.addresses: dict[int, str] = {}
        interfaces = [Interface(name, address, address, PORT_MIN, PORT_MAX) for name, address in story.interfaces]
        self.engine = Engine(
            interfaces=Interfaces(interfaces),
            relay=self.relay,
            settings=EngineSettings(),
            addresses=AddressPolicy(),
            control=ControlCounters(),
            shuffle=lambda ports: None,
            loop_marker=story.loop_marker or DEFAULT_LOOP_MARKER,
            now=NOW,
            wall_offset=0.0,
        )

    def tell(self) -> None:
        for step in self.story.steps:
            if step.outcome == "error":
                self._expect_error(step)
                continue
            reply = self.engine.handle(step.request(), NOW)
            self.relay.configure(self.engine.take_config_changes())
            assert reply["result"] == "ok"
            if step.outcome == "out":
                self._expect_sdp(step, reply)
            else:
                assert "sdp" not in reply
        self._check_ports()

    def _expect_error(self, step: Step) -> None:
        calls, open_before = self.engine.calls, len(self.relay.open)
        with pytest.raises(RequestError) as caught:
            self.engine.handle(step.request(), NOW)
        assert [str(caught.value)] == step.expected, f"line {step.number}"
        # A request that fails leaves nothing behind.
        assert (self.engine.calls, len(self.relay.open)) == (calls, open_before), f"line {step.number}"

    def _expect_sdp(self, step: Step, reply: NgReply) -> None:
        assert list(reply) == ["sdp", "result"], f"line {step.number}: {reply.get('warning')!r}"
        body = reply["sdp"]
        assert isinstance(body, bytes)
        text = body.decode()
        actual = text.split("\r\n")
        assert actual.pop() == "", f"line {step.number}: the last line has no CRLF"
        assert "\n" not in "".join(actual), f"line {step.number}: a line ends in LF only"
        assert actual == self.ports.resolve(step.expected, actual), f"line {step.number}"

    def _check_ports(self) -> None:
        """Each port is an RTP port, is ours, and is nobody else's on its address."""
        used: set[tuple[str, int]] = set()
        bound = {(transport.address, transport.port) for transport in self.relay.transports.values()}
        for name, port in self.ports.by_name.items():
            assert PORT_MIN <= port <= PORT_MAX, name
            assert port % 2 == 0, name
            assert any((address, port) in bound for _, address in self.story.interfaces), name
        by_address = self._ports_by_address()
        for name, address in by_address.items():
            place = (address, self.ports.by_name[name])
            assert place in bound, f"{name}: {place} was never opened"
            assert place not in used, f"{name} is also another name's port"
            used.add(place)

    def _ports_by_address(self) -> dict[str, str]:
        """Each name's address, from the c= below the m= that names it (unless that is shown for somebody else)."""
        ours = {address for _, address in self.story.interfaces}
        found: dict[str, str] = {}
        for step in self.story.steps:
            name = ""
            for line in step.expected:
                if line.startswith("m="):
                    name = line.partition("{port:")[2].partition("}")[0]
                elif line.startswith("c=") and name:
                    address = line.split(" ")[2]
                    if address in ours:
                        found.setdefault(name, address)
        return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_story_comes_true(path: Path) -> None:
    story = read_story(path)
    assert story.source, "the head must name the source of the expected bodies"
    assert story.steps
    Teller(story).tell()


def test_golden_files_are_there() -> None:
    assert len(FILES) >= 30


STORY = """# Source: made up
interface pub 203.0.113.10

offer call-id=c from-tag=a
--- in
v=0
o=- 1 1 IN IP4 192.0.2.21
s=-
c=IN IP4 192.0.2.21
t=0 0
m=audio 9000 RTP/AVP 8
m=audio 9002 RTP/AVP 8
--- out
v=0
o=- 1 1 IN IP4 192.0.2.21
s=-
t=0 0
m=audio {port:one} RTP/AVP 8
c=IN IP4 203.0.113.10
a=rtpmap:8 PCMA/8000
a=sendrecv
a=rtcp:{port:one+1}
m=audio {port} RTP/AVP 8
c=IN IP4 203.0.113.10
a=rtpmap:8 PCMA/8000
a=sendrecv
a=rtcp:{port+1}
"""


def told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "story.txt"
    path.write_text(text)
    Teller(read_story(path)).tell()


def test_teller_true_story_passes(tmp_path: Path) -> None:
    told(tmp_path, STORY)


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ("a=sendrecv", "a=sendonly"),
        ("{port:one+1}", "{port:one}"),
        ("{port} RTP", "{port:one} RTP"),
        ("{port+1}\n", "{port+1}\na=x\n"),
        ("o=- 1 1 IN IP4 192.0.2.21\ns=-\nt=0", "s=-\nt=0"),
    ],
)
def test_teller_false_story_fails(tmp_path: Path, true: str, false: str) -> None:
    assert true in STORY
    with pytest.raises(AssertionError):
        told(tmp_path, STORY.replace(true, false, 1))


def test_teller_wrong_error_fails(tmp_path: Path) -> None:
    text = STORY.partition("--- in")[0] + "--- in\nv=0\n--- error\n{}\n"
    told(tmp_path, text.format("Error rewriting SDP"))
    with pytest.raises(AssertionError):
        told(tmp_path, text.format("Failed to parse SDP"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("# Source: x\nstray\n", "belongs nowhere"),
        ("# Source: x\n--- in\n", "before the first request"),
        ("# Source: x\noffer call-id=c\n--- in\nv=0\n", "nothing is expected"),
        ("# Source: x\noffer call-id=c\n--- outt\nv=0\n", "is unknown"),
    ],
)
def test_read_story_malformed_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "story.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_story(path)
