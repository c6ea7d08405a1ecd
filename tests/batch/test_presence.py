"""Who works in a folder, and who has which picture."""

import sys
import threading

import pytest

from dallecli.batch.presence import Presence
from dallecli.errors import BadOutput, FolderInUse


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
    names = [f".dalle-{digits * 4}.tmp" for digits in ("1234", "abcd")]
    left = [tmp_path / names[0], tmp_path / "sub" / names[1], tmp_path / ".dalle" / "claims" / "a"]
    for path in left:
        path.write_bytes(b"half")
    other = tmp_path / "notes.tmp"
    other.write_bytes(b"mine")
    Presence(tmp_path, share=False).leave()
    assert not any(path.exists() for path in left)
    assert other.exists()


@pytest.mark.parametrize("own", [".dalle", ".dalle/runs", ".dalle/claims"])
def test_no_file_of_ours_lies_behind_a_link(tmp_path, own):
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "o"
    (folder / own).parent.mkdir(parents=True)
    (folder / own).symlink_to(tmp_path / "outside")
    with pytest.raises(BadOutput, match="a link leads out of the output folder"):
        Presence(folder, share=True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_claim_is_never_written_through_a_link(tmp_path):
    outside = tmp_path / "precious"
    outside.write_text("mine", encoding="utf-8")
    presence = Presence(tmp_path / "o", share=True)
    (tmp_path / "o" / ".dalle" / "claims" / "a").symlink_to(outside)
    with pytest.raises(BadOutput, match="this is a link"):
        presence.claim("a")
    presence.leave()
    assert outside.read_text(encoding="utf-8") == "mine"
