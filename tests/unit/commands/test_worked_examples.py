"""What the golden exchanges can't show of the reference's worked examples: where packets go."""

from __future__ import annotations

from mediaproxy.net import Endpoint
from tests.support.sessions import PUBLIC, Session, audio, media_ports


def test_example_3_rtcp_goes_to_the_port_that_a_rtcp_names() -> None:
    session = Session()
    session.offer(audio(extra="a=rtcp:9055\r\n"))
    towards_a = media_ports(session.answer())[0]
    config = session.relay.transports[session.relay.handle_at(PUBLIC.address, towards_a + 1)].config
    assert config is not None
    assert config.remote == Endpoint("192.0.2.21", 9055)
