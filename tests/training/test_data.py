"""Captioned pictures as people have them: three conventions, and everything that can be wrong with them."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

from dallecli.errors import BadInput
from dallecli.training.data import Listing, held_out_last, look, summary


def write(path: Path, text: str | bytes = b"picture") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def pairs(listing: Listing) -> dict[str, str]:
    return {item.name: item.caption for item in listing.items}


def kinds(listing: Listing) -> dict[str, str]:
    return {fault.name: fault.kind for fault in listing.faults}


def shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_a_text_file_beside_a_picture_is_its_caption(tmp_path: Path) -> None:
    write(tmp_path / "cats" / "one.JPG")
    write(tmp_path / "cats" / "one.txt", "\ufeff a  grey\ncat \n")
    write(tmp_path / "two.v1.webp")
    write(tmp_path / "two.v1.txt", "two")
    write(tmp_path / ".hidden.png")
    write(tmp_path / "notes.md", "not a picture")
    assert pairs(look([tmp_path])) == {"cats/one.JPG": "a grey cat", "two.v1.webp": "two"}


def test_pictures_without_a_usable_caption_are_named_with_the_reason(tmp_path: Path) -> None:
    for name in ("alone", "empty", "latin", "endless"):
        write(tmp_path / f"{name}.png")
    write(tmp_path / "empty.txt", " \n")
    write(tmp_path / "latin.txt", b"caf\xe9")
    write(tmp_path / "endless.txt", "very " * 10_000)
    listing = look([tmp_path])
    assert listing.items == ()
    assert kinds(listing) == {
        "alone.png": "without a caption",
        "empty.png": "without a caption",
        "latin.png": "with an unreadable caption",
        "endless.png": "with an unreadable caption",
    }
    assert summary(listing.faults) == [
        "2 without a caption (alone.png, empty.png)",
        "2 with an unreadable caption (endless.png, latin.png)",
    ]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_metadata_in_hugging_faces_form_are_read(tmp_path: Path, form: str) -> None:
    rows = [
        {"file_name": "a.png", "text": "first"},
        {"file_name": "a.png", "text": "again"},
        {"file_name": "deep/b.png", "text": "second"},
        {"file_name": "gone.png", "text": "third"},
        {"file_name": "../a.png", "text": "fourth"},
        {"file_name": "", "text": "fifth"},
        {"file_name": "c.png", "text": ""},
    ]
    for name in ("a.png", "deep/b.png", "c.png", "unnamed.png"):
        write(tmp_path / "train" / name)
    write(tmp_path / "a.png")
    write(tmp_path / "a.txt", "beside the described folder")
    if form == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows) + "\nnot json\n[1]\n"
    else:
        made = io.StringIO()
        writer = csv.DictWriter(made, ["file_name", "text"])
        writer.writeheader()
        writer.writerows(rows)
        text = made.getvalue()
    write(tmp_path / "train" / f"metadata.{form}", text)
    listing = look([tmp_path])
    assert [(item.name, item.caption) for item in listing.items] == [
        ("a.png", "beside the described folder"),
        ("train/a.png", "first"),
        ("train/a.png", "again"),
        ("train/deep/b.png", "second"),
    ]
    found = kinds(listing)
    assert found["train/gone.png"] == "missing pictures"
    assert found["train/c.png"] == "without a caption"
    assert found["train/unnamed.png"] == "pictures without a row of metadata"
    unread = [name for name, kind in found.items() if kind == "rows that cannot be read"]
    assert len(unread) == (4 if form == "jsonl" else 2)


def test_a_caption_may_be_called_caption_and_a_metadata_file_may_be_given_itself(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    file = write(tmp_path / "mine.jsonl", json.dumps({"file_name": "a.png", "caption": "a thing"}))
    assert pairs(look([file])) == {"a.png": "a thing"}


def test_shards_are_read_where_they_lie(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "shard-000.tar",
        {
            "in/001.jpg": b"first picture",
            "in/001.txt": b"first",
            "in/002.caption.json": b"{}",
            "in/002.json": json.dumps({"caption": "second"}).encode(),
            "in/002.png": b"second picture",
            "in/003.webp": b"third picture",
            "in/004.txt": b"no picture",
        },
    )
    listing = look([path])
    assert pairs(listing) == {"shard-000.tar/in/001": "first", "shard-000.tar/in/002": "second"}
    assert [item.read() for item in listing.items] == [b"first picture", b"second picture"]
    assert kinds(listing) == {"shard-000.tar/in/003": "without a caption"}


def test_what_is_whole_in_a_damaged_shard_is_used(tmp_path: Path) -> None:
    members = {
        f"{k}.{kind}": bytes([k]) * 2000 if kind == "png" else b"text" for k in range(3) for kind in ("png", "txt")
    }
    path = shard(tmp_path / "a.tar", members)
    path.write_bytes(path.read_bytes()[:7000])
    write(tmp_path / "not.tar", b"x" * 2000)
    listing = look([tmp_path])
    assert "a.tar/0" in pairs(listing)
    assert set(kinds(listing).values()) == {"damaged shards"}


def test_several_places_keep_their_names_apart(tmp_path: Path) -> None:
    for place in ("x", "y"):
        write(tmp_path / place / "1.png")
        write(tmp_path / place / "1.txt", place)
    assert set(pairs(look([tmp_path / "x", tmp_path / "y"])).values()) == {"x", "y"}


def test_the_models_own_folder_is_no_data(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    write(tmp_path / "1.txt", "one")
    write(tmp_path / "model" / "training" / "samples.png")
    listing = look([tmp_path], but=tmp_path / "model")
    assert (set(pairs(listing)), listing.faults) == ({"1.png"}, ())


@pytest.mark.parametrize("name", ["missing", "picture.png"])
def test_what_is_no_data_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "picture.png")
    with pytest.raises(BadInput) as refused:
        look([tmp_path / name])
    assert refused.value.where == str(tmp_path / name)


def test_the_digest_changes_with_the_data_and_only_then(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    write(tmp_path / "1.txt", "one")
    first = look([tmp_path]).digest
    assert look([tmp_path]).digest == first
    write(tmp_path / "1.txt", "another")
    assert look([tmp_path]).digest != first


def test_additions_move_few_items_into_or_out_of_what_is_held_out(tmp_path: Path) -> None:
    for number in range(220):
        write(tmp_path / f"{number}.png")
        write(tmp_path / f"{number}.txt", "x")
    items = look([tmp_path]).items
    before = {item.name for item in held_out_last(items[:200], 10)[-10:]}
    after = {item.name for item in held_out_last(items, 11)[-11:]}
    assert len(before & after) >= 7
    assert sorted(item.name for item in held_out_last(items, 11)) == sorted(item.name for item in items)
