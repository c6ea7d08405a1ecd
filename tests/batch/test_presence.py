"""Who works in a folder, and who has which picture."""

import sys
import threading

import pytest

from dallecli.batch.presence import Presence
from dallecli.errors import FolderInUse


def test_one_works_alone_or_several_share(tmp_path):
    alone = Presence(tmp_path, share=False)
    for share in (False, True):
        with pytest.raises(FolderInUse):
            Presence(tmp_path, share=share)
    alone.leave()
    first, second = Presence(tmp_path, share=True), Presence(tmp_path, share=True)
    with pytest.raises(FolderInUse):
        Presence(tmp_path, share=False)
    first.leave()
    second.leave()
    Presence(tmp_path, share=False).leave()


def test_a_picture_is_claimed_by_one_until_it_is_released_or_its_holder_is_gone(tmp_path):
    first, second = Presence(tmp_path, share=True), Presence(tmp_path, share=True)
    assert first.claim("a")
    assert first.claim("b")
    assert not second.claim("a")
    first.release("a")
    assert second.claim("a")
    first.leave()
    assert second.claim("b")
    second.leave()


def test_a_claim_that_is_released_while_another_looks_at_it_is_no_error(tmp_path):
    first, second = Presence(tmp_path, share=True), Presence(tmp_path, share=True)
    finished = threading.Event()

    def back_and_forth() -> None:
        while not finished.is_set():
            first.claim("a")
            first.release("a")

    thread = threading.Thread(target=back_and_forth)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # between any two lines
    thread.start()
    try:
        for _ in range(1000):
            if second.claim("a"):
                second.release("a")
    finally:
        finished.set()
        thread.join()
        sys.setswitchinterval(usual)
    first.leave()
    second.leave()


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    Presence(tmp_path, share=True).leave()
    (tmp_path / "sub").mkdir()
    left = [tmp_path / ".dalle-1234.tmp", tmp_path / "sub" / ".dalle-5678.tmp", tmp_path / ".dalle" / "claims" / "a"]
    for path in left:
        path.write_bytes(b"half")
    other = tmp_path / "notes.tmp"
    other.write_bytes(b"mine")
    Presence(tmp_path, share=False).leave()
    assert not any(path.exists() for path in left)
    assert other.exists()
