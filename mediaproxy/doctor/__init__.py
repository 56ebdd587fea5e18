"""``mediaproxy doctor``: what of this host and its configuration is good, and what is to be done about the rest."""

from mediaproxy.doctor.examine import examine
from mediaproxy.doctor.finding import Finding, Severity, exit_status
from mediaproxy.doctor.host import Host, LiveHost
from mediaproxy.doctor.report import as_json, print_findings
from mediaproxy.doctor.subject import Subject

__all__ = ["Finding", "Host", "LiveHost", "Severity", "Subject", "as_json", "examine", "exit_status", "print_findings"]
