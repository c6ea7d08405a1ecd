"""Files reach the disk whole or not at all."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dallecli.errors import BadOutput, DiskFull
from dallecli.publish import check_file, check_folder, open_own, publish, publish_new, remove_abandoned, replacing


def _temporaries(folder: Path) -> list[str]:
    return [name.name for name in folder.iterdir() if name.name.startswith(".")]


def test_publish_writes_the_bytes_and_leaves_nothing_else(tmp_path):
    assert publish(tmp_path / "x.png", b"data", force=False) == tmp_path / "x.png"
    assert (tmp_path / "x.png").read_bytes() == b"data"
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        publish(tmp_path / "x.png", b"data", force=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.png").stat().st_mode) == 0o640


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    with pytest.raises(BadOutput, match="exists already"):
        publish(path, b"new", force=False)
    assert path.read_bytes() == b"old"
    publish(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert not _temporaries(tmp_path)


@pytest.mark.parametrize("target", ["real.png", "missing.png", "link.png"], ids=["a file", "nowhere", "itself"])
def test_a_link_is_refused_and_with_force_replaced_but_never_what_it_points_to(tmp_path, target):
    (tmp_path / "real.png").write_bytes(b"old")
    link = tmp_path / "link.png"
    link.symlink_to(target)
    with pytest.raises(BadOutput, match="this is a link, and leads elsewhere"):
        publish(link, b"new", force=False)
    assert link.is_symlink()
    publish(link, b"new", force=True)
    assert (link.is_symlink(), link.read_bytes()) == (False, b"new")
    assert (tmp_path / "real.png").read_bytes() == b"old"
    assert not (tmp_path / "missing.png").exists()


def test_a_link_to_a_folder_or_a_device_is_not_replaced_even_by_force(tmp_path):
    for target, what in ((tmp_path, "is a folder"), (Path("/dev/null"), "not a regular file")):
        link = tmp_path / f"to-{target.name}"
        link.symlink_to(target)
        with pytest.raises(BadOutput, match=what):
            publish(link, b"new", force=True)
        assert link.is_symlink()


def test_a_name_that_is_a_link_to_nowhere_is_taken(tmp_path):
    (tmp_path / "fox-7.png").symlink_to(tmp_path / "outside.png")
    assert publish_new(tmp_path, "fox-7.png", b"x").name == "fox-7-2.png"
    assert not (tmp_path / "outside.png").exists()


def test_what_replaces_a_link_bit_by_bit_leaves_its_target(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "real").read_bytes() == b"old"
    assert (tmp_path / "link").read_bytes() == b"new"


def test_a_file_of_our_own_is_opened_only_where_it_is_one(tmp_path):
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("precious")
    (tmp_path / "nowhere").symlink_to("missing")
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("link", "is a link"), ("nowhere", "is a link"), ("pipe", "not a regular|No such device")):
        for flags in (os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_TRUNC):
            with pytest.raises(BadOutput, match=what):
                open_own(tmp_path / name, flags)
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert not (tmp_path / "missing").exists()
    os.close(open_own(tmp_path / "new", os.O_WRONLY | os.O_TRUNC))


def test_hidden_files_of_the_living_stay_and_those_of_the_dead_go(tmp_path):
    dead = tmp_path / "sub" / f".dalle-{'0123' * 4}.tmp"
    dead.parent.mkdir()
    dead.write_bytes(b"half")
    strangers = [
        tmp_path / ".dalle-notes.tmp",
        tmp_path / f"x.dalle-{'0123' * 4}.tmp",
        tmp_path / f".dalle-{'0' * 16}.tmp",
    ]
    for path in strangers[:2]:
        path.write_bytes(b"mine")
    os.mkfifo(strangers[2])
    with replacing(tmp_path / "sub" / "x.json") as file:
        file.write(b"new")
        remove_abandoned(tmp_path)
    assert (tmp_path / "sub" / "x.json").read_bytes() == b"new"
    assert not dead.exists()
    assert all(path.exists() for path in strangers)


def test_devices_and_folders_are_not_replaced_even_by_force(tmp_path):
    for path, what in ((Path("/dev/null"), "not a regular file"), (tmp_path, "is a folder")):
        with pytest.raises(BadOutput, match=what):
            publish(path, b"new", force=True)


def test_taken_names_get_numbers(tmp_path):
    names = [publish_new(tmp_path, "fox-7.png", bytes([k])).name for k in range(3)]
    assert names == ["fox-7.png", "fox-7-2.png", "fox-7-3.png"]
    assert (tmp_path / "fox-7-2.png").read_bytes() == b"\x01"


def test_writers_in_parallel_lose_nothing(tmp_path):
    paths: list[Path] = []

    def write(k: int) -> None:
        paths.extend(publish_new(tmp_path, "fox-7.png", f"{k} {j}".encode()) for j in range(10))

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 40
    assert {path.read_bytes() for path in paths} == {f"{k} {j}".encode() for k in range(4) for j in range(10)}


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOTSUP])
def test_without_hard_links_names_are_still_never_taken_twice(tmp_path, monkeypatch, refusal):
    def refuse(*_: object) -> None:
        raise OSError(refusal, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert [publish_new(tmp_path, "fox-7.png", b"x").name for _ in range(2)] == ["fox-7.png", "fox-7-2.png"]
    with pytest.raises(BadOutput, match="exists already"):
        publish(tmp_path / "fox-7.png", b"y", force=False)
    assert (tmp_path / "fox-7.png").read_bytes() == b"x"
    assert not _temporaries(tmp_path)


def _disk_fails_at(monkeypatch: pytest.MonkeyPatch, fail_at: int) -> list[str]:
    """Let the `fail_at`-th call that writes fail for want of space. Returns the names of the calls so far."""
    made: list[str] = []

    def fail_or_call(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            made.append(name)
            if len(made) == fail_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*args, **kwargs)

        return counted

    for name in ("open", "fsync", "rename", "replace"):
        monkeypatch.setattr(os, name, fail_or_call(name, getattr(os, name)))
    return made


def test_whichever_call_fails_the_old_or_the_new_file_stands_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    outcomes = []
    for fail_at in range(1, 50):
        path.write_bytes(b"old")
        made = _disk_fails_at(monkeypatch, fail_at)
        try:
            publish(path, b"new", force=True)
            outcomes.append("new")
        except DiskFull:
            outcomes.append("old")
        monkeypatch.undo()
        assert path.read_bytes() == outcomes[-1].encode()
        assert not _temporaries(tmp_path)
        if len(made) < fail_at:
            break
    # The last run is one in which nothing failed; the folder's own sync may fail without harm.
    assert outcomes[:3] == ["old"] * 3
    assert outcomes[-1] == "new"
    assert len(outcomes) < 49


def test_what_is_written_bit_by_bit_replaces_a_file_at_its_end(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"ne")
        assert path.read_bytes() == b"old"
        file.write(b"w")
    assert path.read_bytes() == b"new"
    assert not _temporaries(tmp_path)


def test_what_is_not_written_to_its_end_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"half of the n")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert not _temporaries(tmp_path)


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_a_replacement_that_the_disk_refuses_leaves_the_old_file(tmp_path, monkeypatch, fail_at):
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    _disk_fails_at(monkeypatch, fail_at)  # the opening, the sync, the renaming
    with pytest.raises(OSError, match="No space left"), replacing(path) as file:
        file.write(b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert not _temporaries(tmp_path)


def test_a_kill_at_any_moment_leaves_whole_files_only(tmp_path):
    code = (
        "import sys; from pathlib import Path; from dallecli.publish import publish_new\n"
        "print('ready', flush=True)\n"
        "while True: publish_new(Path(sys.argv[1]), 'fox.png', b'x' * 300_000)"
    )
    for k in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 + 0.013 * k)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    visible = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert visible
    assert all(path.stat().st_size == 300_000 for path in visible)


# Looking before painting


def test_a_folder_that_is_missing_or_a_file_is_found_before_painting(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadOutput, match="does not exist") as missing:
        check_folder(tmp_path / "missing", 0)
    assert missing.value.hint == f"create it: mkdir -p {tmp_path / 'missing'}"
    with pytest.raises(BadOutput, match="is not a folder"):
        check_folder(tmp_path / "file", 0)


def test_a_read_only_folder_is_found_before_painting(tmp_path, monkeypatch):
    # Root may write anywhere, so the refusal comes from the system call itself.
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadOutput, match="cannot write here: Read-only file system"):
        check_folder(tmp_path, 0)


def test_too_little_space_is_found_before_painting(tmp_path):
    check_folder(tmp_path, 1000)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DiskFull):
        check_folder(tmp_path, 2**62)


def test_an_existing_file_is_found_before_painting(tmp_path):
    path = tmp_path / "x.png"
    check_file(path, force=False)
    path.write_bytes(b"old")
    check_file(path, force=True)
    with pytest.raises(BadOutput, match="exists already"):
        check_file(path, force=False)
    with pytest.raises(BadOutput, match="too long"):
        check_file(tmp_path / ("x" * 300), force=False)
