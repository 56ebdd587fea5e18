"""Checks of the kernel backends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.doctor.backends import check_backends, check_nft_form
from mediaproxy.doctor.finding import Severity
from mediaproxy.doctor.subject import Subject
from mediaproxy.privileged.settings import KernelPath
from tests.unit.doctor.fakes import FakeHost, severities

ALL_REFUSED = {name: f"{name}: no" for name in ("tc", "nft", "iptables", "xdp")}


def test_backends_all_working_the_first_carries_the_media() -> None:
    host = FakeHost()
    found = list(check_backends(host, Subject()))
    assert {finding.severity for finding in found} == {Severity.OK}
    assert found[-1].seen == "tc would carry the media"
    assert host.tried == [(name, NftForm.READABLE) for name in ("tc", "nft", "iptables", "xdp")]


def test_backends_one_refused_is_a_note_with_its_reason() -> None:
    found = list(check_backends(FakeHost(refusals={"tc": "no CAP_BPF"}), Subject()))
    assert found[0].severity is Severity.NOTE
    assert "no CAP_BPF" in found[0].seen
    assert found[-1].seen == "nft would carry the media"


def test_backends_none_working_is_a_warning() -> None:
    found = severities(check_backends(FakeHost(refusals=ALL_REFUSED), Subject()))
    assert found["kernel-path"] is Severity.WARNING
    assert {severity for name, severity in found.items() if name != "kernel-path"} == {Severity.NOTE}


def test_backends_xdp_alone_is_not_taken_by_itself() -> None:
    refusals = {name: reason for name, reason in ALL_REFUSED.items() if name != "xdp"}
    assert severities(check_backends(FakeHost(refusals=refusals), Subject()))["kernel-path"] is Severity.WARNING


@pytest.mark.parametrize("name", ["tc", "nft", "iptables", "xdp"])
def test_backends_the_configured_one_refused_is_a_problem(name: str) -> None:
    subject = replace(Subject(), kernel_path=KernelPath(name), nft_form=NftForm.FAST)
    host = FakeHost(refusals={name: "no"})
    found = severities(check_backends(host, subject))
    assert found[f"backend-{name}"] is Severity.PROBLEM
    assert found["kernel-path"] is Severity.WARNING
    assert ("nft", NftForm.FAST) in host.tried


@pytest.mark.parametrize("name", ["net.ipv4.ip_forward", "net.netfilter.nf_conntrack_acct"])
def test_backends_iptables_does_not_work_where_the_host_lacks_what_the_trial_had(name: str) -> None:
    host = FakeHost()
    host.files[f"/proc/sys/{name.replace('.', '/')}"] = "0"
    found = list(check_backends(host, replace(Subject(), kernel_path=KernelPath.IPTABLES)))
    (verdict,) = (finding for finding in found if finding.check == "backend-iptables")
    assert verdict.severity is Severity.PROBLEM
    assert f"not before {name} is 1" in verdict.seen
    assert found[-1].severity is Severity.WARNING


def test_backends_with_userspace_configured_none_is_tried() -> None:
    host = FakeHost()
    found = severities(check_backends(host, replace(Subject(), kernel_path=KernelPath.USERSPACE)))
    assert found == {"kernel-path": Severity.NOTE}
    assert not host.tried


def test_nft_form_fast_says_its_price() -> None:
    assert not list(check_nft_form(FakeHost(), Subject()))
    (finding,) = check_nft_form(FakeHost(), replace(Subject(), nft_form=NftForm.FAST))
    assert finding.severity is Severity.NOTE
    assert "nft list ruleset" in finding.seen
    tc = replace(Subject(), nft_form=NftForm.FAST, kernel_path=KernelPath.TC)
    assert not list(check_nft_form(FakeHost(), tc))
