"""Settings: one table of options, read from the command line, the environment and a file."""

from mediaproxy.config.load import ConfigProblemsError, Configuration, load_configuration
from mediaproxy.config.options import Settings, SourceLock
from mediaproxy.config.resolve import Addresses, port_range_warning, resolve_addresses

__all__ = [
    "Addresses",
    "ConfigProblemsError",
    "Configuration",
    "Settings",
    "SourceLock",
    "load_configuration",
    "port_range_warning",
    "resolve_addresses",
]
