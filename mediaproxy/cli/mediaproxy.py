"""The ``mediaproxy`` command: run the daemon, check and translate its configuration.

typer has the commands; the options of ``run`` are read by ``mediaproxy.config``, from its table (see
``mediaproxy.config.sources`` for why).
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from mediaproxy.backends.netlink import read_host_network
from mediaproxy.cli.bench import bench
from mediaproxy.cli.doctor import doctor
from mediaproxy.config import (
    Configuration,
    has_default_port_range,
    load_configuration,
    port_range_warning,
    resolve_addresses,
)
from mediaproxy.config.document import import_ini, show_settings, write_help
from mediaproxy.daemon import run_daemon
from mediaproxy.errors import ConfigError, MediaProxyError
from mediaproxy.process import fill_standard_descriptors

_OWN_OPTIONS: Final[dict[str, Any]] = {
    "add_help_option": False,
    "context_settings": {"ignore_unknown_options": True, "allow_extra_args": True},
}

app = typer.Typer(
    name="mediaproxy",
    help="A media proxy for Kamailio and OpenSIPS that speaks the rtpengine ng protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Check, show and translate the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.command()(bench)
app.command(**_OWN_OPTIONS)(doctor)


def _version() -> str:
    return importlib.metadata.version("mediaproxy")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mediaproxy {_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-v", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A media proxy for Kamailio and OpenSIPS that speaks the rtpengine ng protocol."""


def _fail(error: MediaProxyError) -> typer.Exit:
    """Print what is wrong, one line each, and end with status 1."""
    for line in str(error).splitlines():
        typer.echo(f"mediaproxy: {line}", err=True)
    return typer.Exit(1)


def _load(arguments: list[str], usage: str) -> Configuration:
    if "--help" in arguments or "-h" in arguments:
        typer.echo(f"Usage: mediaproxy {usage} [OPTION]...\n\n{write_help()}", nl=False)
        raise typer.Exit
    if "--version" in arguments or "-v" in arguments:
        _print_version(True)
    try:
        return load_configuration(arguments, os.environ)
    except ConfigError as error:
        raise _fail(error) from error


@app.command(**_OWN_OPTIONS)
def run(context: typer.Context) -> None:
    """Run the daemon; it takes rtpengine's options (--help lists ours)."""
    configuration = _load(context.args, "run")
    raise typer.Exit(run_daemon(configuration, os.environ))


@config_app.command(**_OWN_OPTIONS)
def check(context: typer.Context) -> None:
    """Say what is wrong with the configuration; takes the options of run. Status 1 if it cannot be used."""
    configuration = _load(context.args, "config check")
    try:
        addresses = resolve_addresses(configuration, read_host_network())
    except MediaProxyError as error:
        raise _fail(error) from error
    for warning in (*configuration.warnings, *addresses.warnings):
        typer.echo(f"warning: {warning}")
    range_warning = port_range_warning(addresses.interfaces)
    if range_warning is not None:
        typer.echo(f"{'note' if has_default_port_range(configuration) else 'warning'}: {range_warning}")
    typer.echo(f"{configuration.file or 'no file'}: ok")


@config_app.command(**_OWN_OPTIONS)
def show(context: typer.Context) -> None:
    """Print the effective settings and where each comes from; takes the options of run."""
    typer.echo(show_settings(_load(context.args, "config show")), nl=False)


@config_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A configuration file of rtpengine.")],
    section: Annotated[str, typer.Option("--section", help="Its section.")] = "rtpengine",
) -> None:
    """Translate a configuration file of rtpengine into ours (TOML, on stdout)."""
    try:
        text, not_taken = import_ini(file, section)
    except ConfigError as error:
        raise _fail(error) from error
    typer.echo(text, nl=False)
    for warning in not_taken:
        typer.echo(f"not taken over: {warning}", err=True)


def main() -> None:
    """Entry point of the ``mediaproxy`` script."""
    fill_standard_descriptors()
    sys.exit(app())
