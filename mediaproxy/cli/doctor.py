"""``mediaproxy doctor``: reads the configuration as ``run`` does, examines the host, prints and judges."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import typer
from rich.console import Console

from mediaproxy.backends.netlink import read_host_network
from mediaproxy.config import ConfigProblemsError, has_default_port_range, load_configuration, resolve_addresses
from mediaproxy.config.document import write_help
from mediaproxy.config.options import DEFAULT_RUN_FOLDER
from mediaproxy.doctor import Finding, LiveHost, Severity, Subject, as_json, examine, exit_status, print_findings
from mediaproxy.errors import ConfigError, MediaProxyError

JSON: Final = "--json"
_HELP: Final = f"""Usage: mediaproxy doctor [{JSON}] [OPTION]...

Examine this host and the configuration. Status 0: nothing worse than a note, 1: warnings, 2: problems.

  {JSON}  print the findings as JSON

The other options are those of run:

"""


def read_subject(arguments: Sequence[str]) -> tuple[Subject, list[Finding]]:
    """What the configuration says, and what is wrong with it; an unusable one leaves the host to be examined."""
    try:
        configuration = load_configuration(arguments, os.environ)
        addresses = resolve_addresses(configuration, read_host_network())
    except ConfigProblemsError as error:
        return Subject(), [_bad(problem) for problem in error.problems]
    except (ConfigError, MediaProxyError) as error:
        return Subject(), [_bad(error)]
    settings = configuration.settings
    findings = [Finding("configuration", Severity.OK, str(configuration.file or "no file"))]
    findings += [Finding("configuration", Severity.WARNING, text) for text in configuration.warnings]
    # An address that is not there is a finding of its own.
    findings += [
        Finding("configuration", Severity.WARNING, text)
        for text in addresses.warnings
        if not any(f"/{interface.address}: this host has no such" in text for interface in addresses.interfaces)
    ]
    return (
        Subject(
            interfaces=addresses.interfaces,
            control=addresses.control,
            default_ports=has_default_port_range(configuration),
            kernel_path=settings.kernel_path,
            nft_form=settings.nft_form,
            nft_owner=settings.nft_owner,
            instance=settings.instance,
            run_folder=(settings.run_dir or DEFAULT_RUN_FOLDER).absolute(),
        ),
        findings,
    )


def _bad(error: MediaProxyError) -> Finding:
    return Finding("configuration", Severity.PROBLEM, str(error), "the daemon would not start: correct it")


def doctor(context: typer.Context) -> None:
    """Examine this host: what would carry the media, and what is in its way; takes the options of run, and --json."""
    arguments = [argument for argument in context.args if argument != JSON]
    if {"--help", "-h"} & set(arguments):
        typer.echo(_HELP + write_help(), nl=False)
        raise typer.Exit
    subject, findings = read_subject(arguments)
    findings += examine(LiveHost(), subject)
    if JSON in context.args:
        typer.echo(as_json(findings))
    else:
        console = Console()
        print_findings(console if sys.stdout.isatty() else Console(width=120), findings)
    raise typer.Exit(exit_status(findings))
