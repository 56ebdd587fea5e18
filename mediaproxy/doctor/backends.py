"""The kernel backends: each one forwards a packet, or says why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.subject import Subject
from mediaproxy.privileged.probe import AUTOMATIC
from mediaproxy.privileged.settings import Candidate, KernelPath

_NEEDED_BY_IPTABLES: Final = ("net.ipv4.ip_forward", "net.netfilter.nf_conntrack_acct")


def check_backends(host: Host, subject: Subject) -> Iterator[Finding]:
    """What would carry the media here, and why not something better."""
    if not subject.wants_kernel:
        yield Finding("kernel-path", Severity.NOTE, "switched off by configuration: all media takes the sockets")
        return
    verdicts = {name: host.try_backend(name, subject.nft_form) for name in (*AUTOMATIC, "xdp")}
    if verdicts["iptables"].works:
        verdicts["iptables"] = _here(host, verdicts["iptables"])
    wanted = AUTOMATIC if subject.kernel_path is KernelPath.AUTO else (subject.kernel_path.value,)
    chosen = next((name for name in wanted if verdicts[name].works), None)
    for name, verdict in verdicts.items():
        if verdict.works:
            yield Finding(f"backend-{name}", Severity.OK, f"{name}: {verdict.reason}")
        elif name in wanted and subject.kernel_path is not KernelPath.AUTO:
            yield Finding(
                f"backend-{name}",
                Severity.PROBLEM,
                f"{name}, which is configured, does not work here: {verdict.reason}",
                "see the reason, or let the proxy choose (kernel-path = auto)",
            )
        else:
            yield Finding(f"backend-{name}", Severity.NOTE, f"{name} does not work here: {verdict.reason}")
    if chosen is not None:
        yield Finding("kernel-path", Severity.OK, f"{chosen} would carry the media")
    else:
        yield Finding(
            "kernel-path",
            Severity.WARNING,
            "no kernel path: all media takes the sockets, at several times the CPU",
            "see the reasons of the backends above; `doctor` itself needs the rights that the daemon is started with",
        )


def _here(host: Host, tried: Candidate) -> Candidate:
    """What iptables needs of the host itself; where it was tried that was switched on."""
    off = [name for name in _NEEDED_BY_IPTABLES if host.read(f"/proc/sys/{name.replace('.', '/')}") == "0"]
    if not off:
        return tried
    return Candidate(tried.backend, False, f"not before {' and '.join(off)} {'is' if len(off) == 1 else 'are'} 1")


def check_nft_form(_host: Host, subject: Subject) -> Iterator[Finding]:
    """What the fast form costs."""
    if subject.nft_form is NftForm.FAST and subject.kernel_path in {KernelPath.AUTO, KernelPath.NFT}:
        yield Finding(
            "nft-form",
            Severity.NOTE,
            "nft form `fast`: a third less work per packet, but `nft list ruleset` cannot print its rule: a ruleset "
            "saved while we run cannot be loaded again as it is, and reloading one ends the kernel path for up to 2 s",
            "save rulesets while the proxy is stopped, or use the form `readable`",
        )
