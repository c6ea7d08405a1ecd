"""An input is what its bytes are, and a recipe finds it again by them."""

import hashlib
import io
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dallecli import source as sources
from dallecli.errors import BadInput, BadPicture
from dallecli.limits import PICTURE_BYTES
from dallecli.source import Source, locate, read_source, read_source_or_words, words


def _picture(format: str, colour: str = "red") -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(target, format)
    return target.getvalue()


def _safetensors() -> bytes:
    header = b'{"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return struct.pack("<Q", len(header)) + header + bytes(4)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_known_by_its_bytes_and_not_by_its_name(format):
    Path("x.safetensors").write_bytes(_picture(format))
    source = read_source("x.safetensors")
    assert (source.kind, source.name, source.data) == ("picture", "x.safetensors", _picture(format))
    assert source.sha256 == hashlib.sha256(_picture(format)).hexdigest()


def test_an_embedding_is_known_by_its_bytes():
    Path("x.png").write_bytes(_safetensors())
    assert read_source("x.png").kind == "embedding"
    Path("cut").write_bytes(_safetensors()[:40])
    with pytest.raises(BadPicture):
        read_source("cut")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"GIF89a....", "this is a GIF"),
        (b"\0\0\0\x18ftypheic", "this is a HEIC picture"),
        (b"PK\x03\x04", "this is a ZIP archive"),
        (b"hello", "this is not a picture"),
        (b"RIFF\0\0\0\0WAVE", "this is not a picture"),
    ],
)
def test_other_files_are_refused_by_their_name(data, what):
    Path("x.png").write_bytes(data)
    with pytest.raises(BadPicture, match=what) as caught:
        read_source("x.png")
    assert caught.value.where == "x.png"


def test_files_that_cannot_be_read_are_refused():
    Path("empty.png").touch()
    for name, what in (
        ("missing.png", "No such file"),
        (".", "Is a directory"),
        ("empty.png", "the file is empty"),
        ("a\0b", "null byte"),
        ("~nobody-of-this-name/x.png", "home directory"),
    ):
        with pytest.raises(BadInput, match=what):
            read_source(name)


def test_a_file_over_the_limit_is_refused_unread():
    with Path("big.png").open("wb") as file:
        file.truncate(PICTURE_BYTES + 1)  # a sparse file: it takes no room, and reading it would take seconds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match="more than 256 MiB"):
        read_source("big.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 2**10  # KiB


def test_a_pipe_is_read_to_its_end_but_not_beyond_the_limit(monkeypatch):
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(_picture("PNG"))
    assert read_source(f"/dev/fd/{reader}").data == _picture("PNG")
    os.close(reader)
    monkeypatch.setattr(sources, "PICTURE_BYTES", 1000)
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(bytes(2000))
    with pytest.raises(BadInput, match="more than 1000 bytes"):
        read_source(f"/dev/fd/{reader}")
    os.close(reader)


def test_a_device_is_no_file_and_a_pipe_that_nobody_writes_into_is_not_waited_for(monkeypatch):
    with pytest.raises(BadInput, match="it is a device, and not a file"):
        read_source("/dev/zero")
    monkeypatch.setattr("dallecli.limits.PIPE_SECONDS", 0.1)
    os.mkfifo("pipe")
    with pytest.raises(BadInput, match="nothing came through this pipe"):
        read_source("pipe")


def test_standard_input_is_a_file_too():
    code = "from dallecli.source import read_source; s = read_source('-'); print(s.kind, s.name, len(s.data))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=_picture("JPEG"),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.stdout.decode().split() == ["picture", "-", str(len(_picture("JPEG")))]


def test_a_file_wins_over_words_and_a_mistyped_file_is_not_words():
    assert read_source_or_words("a red car") == words("a red car")
    assert read_source_or_words("w" * 5000).kind == "text"
    Path("a red car").write_bytes(_picture("PNG"))
    assert read_source_or_words("a red car").kind == "picture"
    for name in ("cat.png", "CAT.JPG", "./cat", "~/no-such-cat", "z.safetensors", "/nowhere/cat"):
        with pytest.raises(BadInput, match="No such file"):
            read_source_or_words(name)


def test_bytes_do_not_decide_whether_two_sources_are_equal():
    """A recipe read back has no bytes, and is the same recipe."""
    Path("x.png").write_bytes(_picture("PNG"))
    source = read_source("x.png")
    assert source == Source(kind="picture", name="x.png", sha256=source.sha256)
    assert "data" not in repr(source)


def test_a_recipe_does_not_tell_where_somebody_keeps_pictures(folder):
    for name, told in (
        ("x.png", "x.png"),
        ("pets/x.png", "pets/x.png"),
        (f"{folder}/x.png", "x.png"),
        ("../private/x.png", "x.png"),
        ("-", "-"),
    ):
        assert Source(kind="picture", name=name, sha256="0").recorded().name == told
    assert words("/a/b").recorded() == words("/a/b")


# Finding an input again


def _remembered(name: str, colour: str = "red") -> Source:
    return Source(kind="picture", name=name, sha256=hashlib.sha256(_picture("PNG", colour)).hexdigest())


@pytest.mark.parametrize("place", ["pets/x.png", "x.png", "results/x.png", "results/pets/x.png"])
def test_an_input_is_found_where_it_was_or_beside_the_picture(place):
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_bytes(_picture("PNG"))
    assert locate(_remembered("pets/x.png"), Path("results/made.png")).data == _picture("PNG")


def test_an_input_is_found_by_its_content_under_any_name():
    Path("album").mkdir()
    Path("album/sub").mkdir()
    Path("album/a.png").write_bytes(_picture("PNG", "blue"))
    Path("album/b.png").write_bytes(_picture("PNG"))
    found = locate(_remembered("x.png"), Path("made.png"), [Path("album")])
    assert (found.name, found.data) == ("x.png", _picture("PNG"))
    assert locate(_remembered("-"), Path("made.png"), [Path("album/b.png")]).data == _picture("PNG")


def test_an_input_that_is_gone_or_changed_is_said_to_be():
    with pytest.raises(BadInput, match=r"the picture that this was made from is not here: x\.png"):
        locate(_remembered("x.png"), Path("made.png"))
    Path("x.png").write_bytes(_picture("PNG", "blue"))
    with pytest.raises(BadInput, match=r"x\.png has changed since"):
        locate(_remembered("x.png"), Path("made.png"))


def test_a_changed_file_does_not_hide_the_right_one():
    Path("results").mkdir()
    Path("x.png").write_bytes(_picture("PNG", "blue"))
    Path("results/x.png").write_bytes(_picture("PNG"))
    assert locate(_remembered("x.png"), Path("results/made.png")).data == _picture("PNG")


def test_a_recipe_cannot_open_a_device_or_a_pipe():
    os.mkfifo("x.png")
    with pytest.raises(BadInput, match="not here"):
        locate(_remembered("x.png"), Path("made.png"))
    with pytest.raises(BadInput, match="not here"):
        locate(_remembered("/dev/zero"), Path("made.png"))


def test_words_are_complete():
    assert locate(words("a fox"), Path("made.png")) == words("a fox")


@pytest.mark.parametrize(
    ("data", "name", "hint"),
    [
        (b"GIF89a....", "my cat.GIF", "convert it: magick 'my cat.GIF[0]' 'my cat.png'"),
        (b"BM......", "-x.bmp", "convert it: magick './-x.bmp[0]' ./-x.png"),
        (b"II*\0....", "cat", "convert it: magick 'cat[0]' cat.png"),
        (b"MM\0*....", "cat.tiff", "convert it: magick 'cat.tiff[0]' cat.png"),
        (b"\0\0\0\x20ftypavif....", "cat.avif", "convert it: magick 'cat.avif[0]' cat.png"),
        (b"\0\0\0\x20ftypheic....", "cat.heic", "convert it: heif-convert cat.heic cat.png"),
        *(
            (b"\0\0\0\x20ftyp" + brand + b"....", "cat.heic", "convert it: heif-convert cat.heic cat.png")
            for brand in (b"heix", b"hevc", b"mif1", b"msf1")
        ),
        (b"\0\0\0\x20ftypavis....", "cat.avif", "convert it: magick 'cat.avif[0]' cat.png"),
        (b"\xff\x0a..", "cat.jxl", "convert it: djxl cat.jxl cat.png"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "cat.jxl", "convert it: djxl cat.jxl cat.png"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "cat.jp2", "convert it: opj_decompress -i cat.jp2 -o cat.png"),
        (b"8BPS\0\1", "a/b.c/cat", "convert it: magick 'a/b.c/cat[0]' a/b.c/cat.png"),
        (b"<svg ", "cat.svg", "convert it: rsvg-convert cat.svg -o cat.png"),
        (b"<?xml version='1.0'?>\n<svg ", "cat.svg", "convert it: rsvg-convert cat.svg -o cat.png"),
        (b"\0\0\0\x20ftypisom....", "cat.mp4", "convert it: ffmpeg -i cat.mp4 -frames:v 1 cat.png"),
        (b"\x1aE\xdf\xa3....", "my cat.webm", "convert it: ffmpeg -i 'my cat.webm' -frames:v 1 'my cat.png'"),
        (b"%PDF-1.7", "cat.pdf", "convert it: pdftoppm -png -singlefile cat.pdf cat"),
    ],
)
def test_a_picture_of_another_format_is_answered_by_the_command_that_converts_it(
    tmp_path, monkeypatch, data, name, hint
):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)
    with pytest.raises(BadPicture) as caught:
        read_source(f"./{name}" if name.startswith("-") else name)
    assert caught.value.hint == hint
