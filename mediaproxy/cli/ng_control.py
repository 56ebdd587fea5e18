"""The ``ng-control`` command: asks any server that speaks ng, by hand or from scripts."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from mediaproxy.cli.ng_client import (
    MalformedReplyError,
    NgClient,
    NgValue,
    NoAnswerError,
    ServerNameError,
)
from mediaproxy.cli.ng_print import PRINTERS, print_json, print_tree, printable
from mediaproxy.cli.ng_request import AnyKeys, RequestBuilder, UsageError, read_sdp, split_words
from mediaproxy.process import fill_standard_descriptors

EXIT_ERROR_REPLY: Final = 1
EXIT_USAGE: Final = 2
EXIT_NO_ANSWER: Final = 3
EXIT_MALFORMED_REPLY: Final = 4
EXIT_OUTPUT: Final = 5

_EPILOG: Final = (
    "Exit status: 0 the server answered ok; 1 it answered with an error or a load limit; 2 the command line is wrong; "
    "3 no answer; 4 the answer can't be read; 5 standard output can't be written."
)
_GOOD_RESULTS: Final = frozenset({"ok", "pong"})
_CONNECTION: Final = "Connection and output"
_ANY_KEY: Final = "Any key and flag of ng"
_VALUE_OPTIONS: Final = frozenset({"--server", "-s", "--timeout", "--retries"})
_WIRE_NAMES: Final = {"ice": "ICE", "dtls": "DTLS", "sdes": "SDES"}
"""Keys that older servers know in capitals only."""
_SWITCHES: Final = frozenset({"--json", "--json-wire"})

app = typer.Typer(
    name="ng-control",
    help="Ask a media proxy that speaks the rtpengine ng protocol.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every command has."""

    server: Annotated[
        str, typer.Option("--server", "-s", envvar="NG_SERVER", metavar="HOST:PORT", rich_help_panel=_CONNECTION)
    ] = "127.0.0.1:2223"
    timeout: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=3600,
            metavar="SECONDS",
            help="How long to wait before asking again.",
            rich_help_panel=_CONNECTION,
        ),
    ] = 1.0
    retries: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            metavar="NUMBER",
            help="How often to ask again, with the same cookie.",
            rich_help_panel=_CONNECTION,
        ),
    ] = 4
    json_wire: Annotated[
        bool, typer.Option("--json-wire", help="JSON instead of bencode on the wire.", rich_help_panel=_CONNECTION)
    ] = False
    json_out: Annotated[
        bool, typer.Option("--json", help="Print the whole reply as JSON.", rich_help_panel=_CONNECTION)
    ] = False
    texts: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="NAME=TEXT", help="A string. Repeatable.", rich_help_panel=_ANY_KEY),
    ] = None
    numbers: Annotated[
        list[str] | None,
        typer.Option("--int", metavar="NAME=NUMBER", help="An integer. Repeatable.", rich_help_panel=_ANY_KEY),
    ] = None
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", metavar="NAME=A,B", help="A list of strings. Repeatable.", rich_help_panel=_ANY_KEY),
    ] = None
    dictionaries: Annotated[
        list[str] | None,
        typer.Option("--dict", metavar="NAME=JSON", help="A dictionary. Repeatable.", rich_help_panel=_ANY_KEY),
    ] = None
    documents: Annotated[
        list[str] | None,
        typer.Option(
            "--json-key", metavar="NAME=JSON", help="Any value, e.g. [] or [{}]. Repeatable.", rich_help_panel=_ANY_KEY
        ),
    ] = None
    flags: Annotated[
        list[str] | None,
        typer.Option("--flag", metavar="WORD", help="A word of `flags`. Repeatable.", rich_help_panel=_ANY_KEY),
    ] = None

    def any_keys(self) -> AnyKeys:
        return AnyKeys(
            self.texts or (),
            self.numbers or (),
            self.lists or (),
            self.dictionaries or (),
            self.flags or (),
            self.documents or (),
        )


@dataclass(frozen=True, slots=True)
class Exchange:
    """The options of ``offer`` and ``answer``; each field is a key of ng, its underscores hyphens."""

    sdp: Annotated[str, typer.Option(metavar="FILE", help="The session description; - reads standard input.")]
    call_id: Annotated[str, typer.Option(help="Which call.")]
    from_tag: Annotated[str, typer.Option(help="The offerer's tag.")]
    via_branch: Annotated[str | None, typer.Option(help="The branch of a forked offer.")] = None
    received_from: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where the SIP came from.")] = None
    direction: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM,TO", help="The interfaces that face the sender of this SDP and its receiver."),
    ] = None
    transport_protocol: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="The profile for the receiver, e.g. RTP/AVP.")
    ] = None
    address_family: Annotated[str | None, typer.Option(metavar="IP4|IP6", help="Towards the receiver.")] = None
    media_address: Annotated[str | None, typer.Option(metavar="ADDRESS", help="The address to print.")] = None
    replace: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="e.g. origin,session-name")] = None
    rtcp_mux: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="e.g. demux")] = None
    ice: Annotated[str | None, typer.Option("--ice", "--ICE", metavar="WORD", help="e.g. remove")] = None
    dtls: Annotated[str | None, typer.Option("--dtls", "--DTLS", metavar="WORD", help="e.g. off")] = None
    sdes: Annotated[list[str] | None, typer.Option("--sdes", "--SDES", metavar="WORDS", help="e.g. off,pad")] = None
    label: Annotated[str | None, typer.Option(help="A name for the sender of this SDP.")] = None
    metadata: Annotated[str | None, typer.Option(help="To be kept with the call.")] = None

    def put_into(self, builder: RequestBuilder) -> None:
        """Add the keys that were given.

        Raises:
            UsageError: the SDP can't be read.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            key = _WIRE_NAMES.get(field.name) or field.name.replace("_", "-")
            if key == "sdp":
                builder.put(key, read_sdp(value))
            elif key == "received-from" and value is not None:
                builder.put(key, ["IP6" if ":" in value else "IP4", value])
            elif isinstance(value, list):
                builder.extend(key, split_words(value))
            else:
                builder.put(key, value)


def _command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command; of a parameter that is a dataclass each field becomes an option."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        groups: dict[str, type[Any] | None] = {}
        options: list[inspect.Parameter] = []
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            kind = parameter.annotation
            group: type[Any] | None = kind if isinstance(kind, type) and is_dataclass(kind) else None
            groups[parameter.name] = group
            options += [parameter] if group is None else inspect.signature(group, eval_str=True).parameters.values()

        def run(**values: Any) -> None:
            arguments = {
                name: values[name] if group is None else group(**{option: values[option] for option in _names(group)})
                for name, group in groups.items()
            }
            function(**arguments)

        options = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
        run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # this is where typer looks
        run.__annotations__ = {option.name: option.annotation for option in options}
        run.__doc__ = function.__doc__
        app.command(name, epilog=_EPILOG)(run)
        return function

    return register


def _names(group: type[Any]) -> list[str]:
    return [field.name for field in fields(group)]


@_command("ping")
def ping(common: Common) -> None:
    """Whether the server is there, and how fast."""
    started = time.perf_counter()
    reply = _ask(common, RequestBuilder("ping"))
    milliseconds = (time.perf_counter() - started) * 1000
    if not common.json_out:
        print(f"{reply['result']!s} from {common.server} after {milliseconds:.1f} ms")


@_command("offer")
def offer(
    exchange: Exchange,
    common: Common,
    to_tag: Annotated[str | None, typer.Option(help="The answerer's tag, in a re-offer.")] = None,
) -> None:
    """Pass an SDP offer through the proxy; prints the SDP for the other party."""
    _exchange("offer", exchange, to_tag, common)


@_command("answer")
def answer(
    exchange: Exchange,
    common: Common,
    to_tag: Annotated[str, typer.Option(help="The answerer's tag: this SDP is the answerer's.")],
) -> None:
    """Pass an SDP answer through the proxy; prints the SDP for the offerer."""
    _exchange("answer", exchange, to_tag, common)


@_command("delete")
def delete(
    call_id: Annotated[str, typer.Option(help="Which call.")],
    common: Common,
    from_tag: Annotated[str | None, typer.Option(help="Only what this party has a part in.")] = None,
    to_tag: Annotated[str | None, typer.Option(help="With the flag to-tag: select by this party.")] = None,
    via_branch: Annotated[str | None, typer.Option(help="Only this branch.")] = None,
    delay: Annotated[
        int | None, typer.Option("--delay", "--delete-delay", help="Seconds for which ports stay open.")
    ] = None,
) -> None:
    """Delete a call; prints what it carried."""
    builder = RequestBuilder("delete")
    builder.put("call-id", call_id)
    builder.put("from-tag", from_tag)
    builder.put("to-tag", to_tag)
    builder.put("via-branch", via_branch)
    builder.put("delete-delay", delay)
    _ask_and_print(common, builder)


@_command("query")
def query(
    call_id: Annotated[str, typer.Option(help="Which call.")],
    common: Common,
    from_tag: Annotated[str | None, typer.Option(help="Only this party and its peers.")] = None,
    to_tag: Annotated[str | None, typer.Option(help="Only this party and its peers.")] = None,
) -> None:
    """Show a call: parties, streams, addresses, counters."""
    builder = RequestBuilder("query")
    builder.put("call-id", call_id)
    builder.put("from-tag", from_tag)
    builder.put("to-tag", to_tag)
    _ask_and_print(common, builder)


@_command("show")
def show(
    call_id: Annotated[str, typer.Argument(metavar="CALL", help="Its call-id.")],
    common: Common,
) -> None:
    """Show a call, and for each stream whether the kernel forwards it, and if not, why."""
    builder = RequestBuilder("query")
    builder.put("call-id", call_id)
    _ask_and_print(common, builder)


class FlowsAction(StrEnum):
    LIST = "list"
    SWEEP = "sweep"


@_command("flows")
def flows(
    action: Annotated[FlowsAction, typer.Argument(help="list them, or sweep: end them and give their ports back.")],
    common: Common,
) -> None:
    """Flows in the kernel that belong to no call: a proxy that died left them, and they go on until they are silent."""
    _ask_and_print(common, RequestBuilder(f"{action.value} flows"))


class FirewallAction(StrEnum):
    SHOW = "show"


@_command("firewall")
def firewall(
    action: Annotated[FirewallAction, typer.Argument(help="show: what must be open, in words and as rules.")],
    common: Common,
) -> None:
    """Exactly what must be open in the firewall of the proxy's host."""
    _ask_and_print(common, RequestBuilder(f"{action.value} firewall"))


@_command("list")
def list_calls(
    common: Common,
    limit: Annotated[int | None, typer.Option(help="How many at most; servers name 32 if not asked.")] = None,
) -> None:
    """Name the calls."""
    builder = RequestBuilder("list")
    builder.put("limit", limit)
    _ask_and_print(common, builder)


@_command("statistics")
def statistics(common: Common) -> None:
    """Show the server's counters."""
    _ask_and_print(common, RequestBuilder("statistics"))


@_command("send")
def send(
    command: Annotated[str, typer.Argument(help="As the server names it, e.g. 'block media'.")], common: Common
) -> None:
    """Send any other command, with any keys."""
    _ask_and_print(common, RequestBuilder(command))


def _exchange(command: str, exchange: Exchange, to_tag: str | None, common: Common) -> None:
    builder = RequestBuilder(command)
    exchange.put_into(builder)
    builder.put("to-tag", to_tag)
    _ask_and_print(common, builder)


def _ask_and_print(common: Common, builder: RequestBuilder) -> None:
    reply = _ask(common, builder)
    if not common.json_out:
        PRINTERS.get(builder.command, print_tree)(reply)


def _ask(common: Common, builder: RequestBuilder) -> dict[str, NgValue]:
    """The reply to the request, if it is a success.

    Raises:
        typer.Exit: it is none; what there is to say has been printed.
    """
    builder.put_any(common.any_keys())
    client = NgClient(common.server, timeout=common.timeout, retries=common.retries, json_wire=common.json_wire)
    reply = client.request(builder.build())
    if common.json_out:
        print_json(reply)
    if "warning" in reply:
        _complain(f"warning: {reply['warning']!s}")
    result = reply["result"]
    if result not in _GOOD_RESULTS:
        texts = [str(reply[key]) for key in ("error-reason", "message", "error-detail") if key in reply]
        _complain(": ".join([str(result), *texts]))
        raise typer.Exit(EXIT_ERROR_REPLY)
    return reply


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody to tell; the exit code remains
        print(f"ng-control: {printable(text)}", file=sys.stderr)


def _command_first(arguments: Sequence[str]) -> list[str]:
    """Let the options of the connection stand before the command too: they are moved behind it.

    Raises:
        UsageError: a value is missing, or the command.
    """
    rest = list(arguments)
    moved: list[str] = []
    while rest and (rest[0] in _SWITCHES or rest[0].partition("=")[0] in _VALUE_OPTIONS):
        option = rest.pop(0)
        moved.append(option)
        if option in _VALUE_OPTIONS:
            if not rest:
                raise UsageError(f"{option}: its value is missing")
            moved.append(rest.pop(0))
    if moved and not rest:
        raise UsageError("which command? See ng-control --help")
    return [*rest[:1], *moved, *rest[1:]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ends the process with one of the exit codes above."""
    has_input = sys.stdin is not None
    fill_standard_descriptors()
    if not has_input:
        sys.stdin = None  # as Python has it: what is read from /dev/null would be taken for an empty SDP
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # head, less, ... have seen enough
            _complain(f"standard output: {error.strerror}")
        # What is still in its buffer would fail once more when Python ends.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        code = EXIT_OUTPUT
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    """The exit code.

    Raises:
        OSError: standard output can't be written.
    """
    try:
        app(_command_first(arguments))
    except SystemExit as end:
        # Typer ends with 1 then, which is ours for something else.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 0
    except (ServerNameError, UsageError) as error:
        _complain(str(error))
        return EXIT_USAGE
    except NoAnswerError as error:
        _complain(str(error))
        return EXIT_NO_ANSWER
    except MalformedReplyError as error:
        _complain(str(error))
        return EXIT_MALFORMED_REPLY
    return 0


if __name__ == "__main__":
    main()
