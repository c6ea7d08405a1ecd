"""Captioned pictures as people have them: three conventions, and everything that can be wrong with them."""

import csv
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from dallecli.errors import BadInput
from dallecli.training.data import look
from dallecli.training.listing import Listing, held_out_last, summary
from tests.training.conftest import few_bytes_and_seconds


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


def reasons(listing: Listing) -> dict[str, str]:
    return {fault.name: fault.why for fault in listing.faults}


CSV_FAULTS = {
    "an unquoted comma": ("a.png,a cat, grey and old\n", "line 2", "3 cells in a table of 2 columns"),
    "a cell too few": ("a.png\n", "line 2", "1 cells in a table of 2 columns"),
    "a quote that never closes": ('a.png,"a cat\n', "line 2", "this is not a row of a table"),
    "a quote that closes too early": ('a.png,"a cat" that sits\n', "line 2", "expected after"),
    "no name": (",a cat\n", "line 2", "there is no file_name in it, only 'text'"),
}


@pytest.mark.parametrize(("row", "where", "why"), CSV_FAULTS.values(), ids=CSV_FAULTS)
def test_a_row_of_csv_that_is_not_quite_one_is_refused_with_its_reason_and_the_rest_are_read(
    tmp_path: Path, row: str, where: str, why: str
) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.png")
    write(tmp_path / "metadata.csv", f'file_name,text\n{row}b.png,"a dog, brown"\nc.png,a fox\n')
    listing = look([tmp_path])
    assert pairs(listing) == {"b.png": "a dog, brown", "c.png": "a fox"}
    assert why in reasons(listing)[f"metadata.csv, {where}"]
    assert kinds(listing) == {
        f"metadata.csv, {where}": "rows that cannot be read",
        "a.png": "pictures without a row of metadata",
    }


def test_blanks_after_commas_are_no_part_of_a_name_or_a_caption(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png")
    write(tmp_path / "metadata.csv", 'text, file_name\na cat, a.png\n"a dog, brown", "b.png"\n')
    listing = look([tmp_path])
    assert (pairs(listing), listing.faults) == ({"a.png": "a cat", "b.png": "a dog, brown"}, ())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"file_name;text\r\na.png;a cat\r\n", "this is a table with semicolons between its cells"),
        ("file_name,text\na.png,a cat\n".encode("utf-16"), "this is text in UTF-16"),
        (b"file_name,text\ra.png,a cat\r", "lines end with carriage returns alone"),
        (b"file_name,text,text\na.png,a cat,a dog\n", "two columns are called 'text'"),
    ],
    ids=["semicolons", "UTF-16", "old Mac", "doubled"],
)
def test_a_table_of_another_kind_is_refused_with_its_reason(tmp_path: Path, content: bytes, why: str) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "metadata.csv", content)
    listing = look([tmp_path])
    assert listing.items == ()
    assert any(why in fault.why for fault in listing.faults), listing.faults


CAPTIONS = {
    '{"text": ["a cat", "a dog"]}': ("with an unreadable caption", "its text is a list, not a text"),
    '{"text": null}': ("without a caption", "its text is null"),
    '{"text": 7}': ("with an unreadable caption", "its text is a number"),
    '{"text": true}': ("with an unreadable caption", "its text is true or false"),
    '{"text": {"en": "a cat"}}': ("with an unreadable caption", "its text is an object"),
    '{"text": "a cat", "caption": "a dog"}': ("with an unreadable caption", "its text is not its caption"),
    '{"label": 3}': ("without a caption", "there is no text or caption in it"),
    '{"text": "half \\ud83d"}': ("with an unreadable caption", "half of a character"),
    '{"text": "  "}': ("without a caption", "the caption is empty"),
}


@pytest.mark.parametrize(("row", "fault"), CAPTIONS.items(), ids=CAPTIONS)
@pytest.mark.parametrize("form", ["metadata", "shard"])
def test_a_caption_is_one_text_and_anything_else_keeps_its_reason(
    tmp_path: Path, form: str, row: str, fault: tuple[str, str]
) -> None:
    if form == "metadata":
        write(tmp_path / "a.png")
        write(tmp_path / "metadata.jsonl", json.dumps({"file_name": "a.png"})[:-1] + "," + row[1:])
    else:
        shard(tmp_path / "s.tar", {"a.png": b"picture", "a.json": row.encode()})
    (found,) = look([tmp_path]).faults
    assert (found.name, found.kind) == ("a.png" if form == "metadata" else "s.tar/a", fault[0])
    assert fault[1] in found.why


def test_a_caption_that_is_null_gives_way_to_the_other_key(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "metadata.jsonl", '{"file_name": "a.png", "text": null, "caption": "a cat"}')
    assert pairs(look([tmp_path])) == {"a.png": "a cat"}


@pytest.mark.parametrize("row", ['{"text": "a", "text": "b"}', '{"text": NaN}', "[" * 9999, "not JSON"])
def test_json_in_a_shard_is_read_strictly_and_its_reason_is_kept(tmp_path: Path, row: str) -> None:
    shard(tmp_path / "s.tar", {"a.png": b"picture", "a.json": row.encode()})
    (found,) = look([tmp_path]).faults
    assert found.kind == "with an unreadable caption"
    assert found.why.startswith("its .json is not JSON")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".jpeg", ".webp"])
def test_every_suffix_of_a_picture_that_can_be_read_is_taken(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a{suffix}")
    write(tmp_path / "a.txt", "a cat")
    shard(tmp_path / "s.TAR", {f"b{suffix}": b"picture", "b.txt": b"a dog"})
    assert pairs(look([tmp_path])) == {f"a{suffix}": "a cat", "s.TAR/b": "a dog"}


PASSED_OVER = {
    **dict.fromkeys(
        ("a.bmp", "a.TIF", "a.tiff", "a.gif", "a.heic", "a.avif", "a.jxl", "a.svg"),
        "pictures of formats that are not read",
    ),
    **dict.fromkeys(("a.tar.gz", "a.tgz", "a.tar.zst", "a.zip", "metadata.jsonl.gz"), "packed files"),
    **dict.fromkeys(("a.parquet", "metadata.json"), "tables that are not read"),
}


def test_files_that_look_like_data_and_are_not_read_are_named(tmp_path: Path) -> None:
    for name in PASSED_OVER:
        write(tmp_path / "deep" / name)
    write(tmp_path / "README.md")
    listing = look([tmp_path])
    assert kinds(listing) == {f"deep/{name}": kind for name, kind in PASSED_OVER.items()}
    with pytest.raises(BadInput) as refused:
        look([tmp_path / "deep" / "a.tar.gz"])
    assert "gunzip" in str(refused.value.hint)


def test_a_row_may_name_a_picture_of_another_format_which_is_then_one_fault_and_not_two(tmp_path: Path) -> None:
    write(tmp_path / "a.bmp")
    write(tmp_path / "metadata.csv", "file_name,text\na.bmp,a cat\n")
    listing = look([tmp_path])  # decoding will say what it is
    assert (pairs(listing), listing.faults) == ({"a.bmp": "a cat"}, ())


def test_links_and_devices_are_named_where_they_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "x.png")
    data = tmp_path / "data"
    write(data / "1.txt", "one")
    (data / "1.png").symlink_to(write(tmp_path / "real.png"))
    (data / "more").symlink_to(tmp_path / "elsewhere")
    (data / "loop").symlink_to(data)
    (data / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(data / "pipe.png")
    listing = look([data])
    assert pairs(listing) == {"1.png": "one"}
    assert kinds(listing) == {
        "more": "linked folders",
        "loop": "linked folders",
        "gone.png": "entries that are no files",
        "pipe.png": "entries that are no files",
    }


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    write(tmp_path / "open" / "a.png")
    write(tmp_path / "open" / "a.txt", "a cat")
    write(tmp_path / "closed" / "b.png")
    tmp_path.chmod(0o755)
    (tmp_path / "closed").chmod(0)
    user = os.geteuid()
    parents = [folder for folder in tmp_path.parents if folder.stat().st_mode & 0o005 != 0o005]
    before = {folder: folder.stat().st_mode for folder in parents}
    for folder in parents:
        folder.chmod(0o755)
    try:
        if user == 0:
            os.seteuid(65534)
        listing = look([tmp_path])
    finally:
        os.seteuid(user)
        (tmp_path / "closed").chmod(0o755)
        for folder, mode in before.items():
            folder.chmod(mode)
    assert pairs(listing) == {"open/a.png": "a cat"}
    assert kinds(listing) == {"closed": "unreadable folders"}


def test_a_caption_file_has_an_end(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(8 * 2**30)
    with few_bytes_and_seconds():
        assert kinds(look([tmp_path])) == {"a.png": "with an unreadable caption"}


def test_members_of_a_shard_that_belong_to_no_sample_are_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:

        def add(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, link
            archive.addfile(info, io.BytesIO(data))

        add("1.png", b"first"), add("1.txt", b"one")
        add("2.png", kind=tarfile.LNKTYPE, link="1.png"), add("2.txt", b"two")
        add("3.png", kind=tarfile.SYMTYPE, link="1.png")
        add("1.png", b"another"), add("1.txt", b"one again")
        add("4.input.jpg"), add("4.output.jpg"), add("4.txt", b"four")
        add("5.png", b"fifth"), add("5.jpg"), add("5.txt", b"five")
        add("6.bmp"), add("6.txt", b"six")
        add("7.png", b"seventh"), add("7.cls", b"3")
        add("._1.png"), add("dir", kind=tarfile.DIRTYPE), add("pipe.png", kind=tarfile.FIFOTYPE)
    listing = look([tmp_path / "s.tar"])
    assert [(item.name, item.caption, item.read()) for item in listing.items] == [
        ("s.tar/1", "one", b"first"),
        ("s.tar/5", "five", b"fifth"),
    ]
    assert [(fault.name, fault.kind) for fault in listing.faults] == [
        ("s.tar/2.png", "members that are no plain files"),
        ("s.tar/3.png", "members that are no plain files"),
        ("s.tar/1.png", "second samples of one key"),
        ("s.tar/1.txt", "second samples of one key"),
        ("s.tar/pipe.png", "members that are no plain files"),
        ("s.tar/4.input.jpg", "pictures of another name"),
        ("s.tar/4.output.jpg", "pictures of another name"),
        ("s.tar/5.jpg", "second pictures of one sample"),
        ("s.tar/6.bmp", "pictures of formats that are not read"),
        ("s.tar/7", "without a caption"),
    ]
    assert "a hard link" in reasons(listing)["s.tar/2.png"]
    assert reasons(listing)["s.tar/7"] == "there is no .txt or .json of its key, only .cls"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read_in_every_format_of_tar(tmp_path: Path, format: int) -> None:
    folder = "/".join(["a" * 40] * 3) if format == tarfile.USTAR_FORMAT else "ß" * 90 + "/" + "b" * 90
    with tarfile.open(tmp_path / "s.tar", "w", format=format) as archive:
        for name, data in ((f"{folder}/1.png", b"picture"), (f"{folder}/1.txt", b"one")):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5 if format == tarfile.PAX_FORMAT else 1
            archive.addfile(info, io.BytesIO(data))
    listing = look([tmp_path])
    assert [(item.name, item.caption, item.read()) for item in listing.items] == [
        (f"s.tar/{folder}/1", "one", b"picture")
    ]
    assert listing.faults == ()


def test_shards_of_one_name_in_two_folders_keep_their_samples_apart(tmp_path: Path) -> None:
    for place in ("x", "y"):
        shard(tmp_path / place / "0.tar", {"1.png": b"p", "1.txt": place.encode()})
    assert pairs(look([tmp_path])) == {"x/0.tar/1": "x", "y/0.tar/1": "y"}


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
