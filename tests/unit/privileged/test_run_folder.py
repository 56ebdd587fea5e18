"""The folder of an instance: one daemon at a time, and nothing of it stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mediaproxy.errors import OffloadError
from mediaproxy.privileged import run_folder
from mediaproxy.privileged.run_folder import RunFolder, is_bpf_mount


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run" / "edge")
    folder.prepare()
    return folder


def test_folder_is_ours_alone(folder: RunFolder) -> None:
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.path.chmod(0o777)
    folder.prepare()
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_something_else_at_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OffloadError, match="is not a folder of our own"):
        RunFolder(tmp_path / "file").prepare()
    with pytest.raises(OffloadError, match="cannot be made"):
        RunFolder(tmp_path / "file" / "edge").prepare()
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OffloadError, match="is not a folder of our own"):
        RunFolder(tmp_path / "link").prepare()


def test_second_daemon_is_refused_until_the_first_is_gone(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "_LOCK_WAIT", 0.0)
    fd = folder.lock()
    with pytest.raises(OffloadError, match="another daemon runs as instance edge"):
        folder.lock()
    os.close(fd)
    os.close(folder.lock())


def test_lock_that_was_removed_is_made_anew(folder: RunFolder) -> None:
    fd = folder.lock()
    (folder.path / "lock").unlink()
    other = folder.lock()
    assert not os.path.samestat(os.fstat(fd), os.fstat(other))
    os.close(fd)
    os.close(other)


def test_backend_is_remembered(folder: RunFolder) -> None:
    assert folder.remembered_backend() == ""
    folder.remember_backend("nft")
    assert folder.remembered_backend() == "nft"


def test_nothing_stays_and_others_are_left_alone(folder: RunFolder) -> None:
    os.close(folder.lock())
    folder.remember_backend("tc")
    (folder.path / "bpf").mkdir()
    other = folder.path.parent / "other"
    other.mkdir()
    folder.remove()
    assert not folder.path.exists()
    other.rmdir()
    folder.prepare()
    folder.remove()
    assert not folder.path.parent.exists()


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("36 35 0:30 / /run/m/edge/bpf rw - bpf bpf rw,mode=700\n", True),
        ("36 35 0:30 / /run/m/edge/bpf rw shared:5 master:1 - bpf bpf rw\n", True),
        ("36 35 0:30 / /run/m/edge rw - bpf bpf rw\n", False),
        ("36 35 0:30 / /run/m/edge/bpf rw - tmpfs x rw\n", False),
        ("1 1 0:1 / /run/m/edge/bpf rw - bpf x rw\n2 1 0:2 / /run/m/edge/bpf rw - tmpfs x rw\n", False),
        ("garbage\n\n", False),
        ("", False),
    ],
)
def test_mount_is_found_by_its_place_and_kind(tmp_path: Path, lines: str, found: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(lines)
    assert is_bpf_mount(Path("/run/m/edge/bpf"), mounts) is found


def test_mount_with_a_space_in_its_name_is_found(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("36 35 0:30 / /run/a\\040b rw - bpf bpf rw\n")
    assert is_bpf_mount(Path("/run/a b"), mounts)
    assert not is_bpf_mount(Path("/run/a b"), tmp_path / "missing")


def test_mount_that_we_may_not_use_is_taken_away(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(run_folder, "mount_bpf", lambda path: steps.append("mount"))
    monkeypatch.setattr(run_folder, "unmount", lambda path: steps.append("unmount"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    pins, reason = folder.mount()
    assert pins is None
    assert "it would belong to root" in reason
    assert steps == ["mount", "unmount"]


def test_without_rights_to_mount_a_prepared_folder_is_taken(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(run_folder, "mount_bpf", refuse)
    monkeypatch.setattr(run_folder, "SYSTEM_BPF", tmp_path / "system")
    pins, reason = folder.mount()
    assert pins is None
    assert "no bpffs can be mounted" in reason
    assert "will end with this daemon" in reason
    (tmp_path / "system" / "edge").mkdir(parents=True)
    assert folder.mount() == (tmp_path / "system" / "edge", "")
