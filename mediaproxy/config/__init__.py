"""Settings: one table of options, read from the command line, the environment and a file."""

from mediaproxy.config.load import ConfigProblemsError, Configuration, load_configuration
from mediaproxy.config.options import DEFAULT_RUN_FOLDER, Settings, SourceLock
from mediaproxy.config.resolve import (
    Addresses,
    describe_shared_ports,
    has_default_port_range,
    port_range_warning,
    resolve_addresses,
)

__all__ = [
    "DEFAULT_RUN_FOLDER",
    "Addresses",
    "ConfigProblemsError",
    "Configuration",
    "Settings",
    "SourceLock",
    "describe_shared_ports",
    "has_default_port_range",
    "load_configuration",
    "port_range_warning",
    "resolve_addresses",
]
