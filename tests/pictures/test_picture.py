"""Pictures carry their recipes, and reach the disk whole or not at all."""

import errno
import io
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dallecli.engine import FakeEngine
from dallecli.errors import BadOutput, BadPicture, BadRecipe, BadSetting, DalleError, DiskFull, PromptError
from dallecli.pictures.picture import (
    FORMATS,
    RECIPE_BYTES,
    Picture,
    check_file,
    check_folder,
    check_recipe_fits,
    encode,
    file_name,
    grid,
    grid_shape,
    publish,
    publish_new,
    read_recipe,
)
from dallecli.recipe import Recipe
from dallecli.tasks.generate import Generate


def _picture(prompt: str = "a red fox", seed: int = 7) -> Picture:
    engine = FakeEngine()
    recipe = engine.resolve(Generate(prompt=prompt, model="starter", seed=seed, size=64))
    return next(iter(engine.paint(recipe, lambda _: None)))


def _temporaries(folder: Path) -> list[str]:
    return [name.name for name in folder.iterdir() if name.name.startswith(".")]


# Encoding and recipes


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_carries_the_recipe(tmp_path, format):
    picture = _picture("Bär \x1b[31m [/oops] \u202e 🦊 \\ \" '")
    path = tmp_path / f"x{FORMATS[format]}"
    path.write_bytes(picture.encode(format))
    scores = {name: pytest.approx(score, abs=1e-6) for name, score in picture.scores.items()}
    assert read_recipe(path) == replace(picture.recipe, scores=scores)
    assert read_recipe(io.BytesIO(path.read_bytes())) == read_recipe(path)


@pytest.mark.parametrize("format", FORMATS)
def test_without_metadata_nothing_but_pixels_is_written(tmp_path, format):
    path = tmp_path / "x"
    path.write_bytes(_picture().encode(format, metadata=False))
    with Image.open(path) as image:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background"}
        assert "dalle" not in image.info
    with pytest.raises(BadRecipe, match="carries no recipe"):
        read_recipe(path)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_lossless_formats_keep_every_pixel(format):
    noise = Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))
    with Image.open(io.BytesIO(encode(noise, format, None))) as image:
        assert image.convert("RGB").tobytes() == noise.tobytes()


def test_the_same_picture_is_the_same_bytes():
    assert _picture().encode("png") == _picture().encode("png")


def test_an_unknown_format_or_impossible_sides_are_refused():
    with pytest.raises(BadSetting, match="no picture format"):
        encode(_picture().image, "bmp", None)
    with pytest.raises(BadSetting, match="webp cannot hold 20000 x 1"):
        encode(Image.new("RGB", (20000, 1)), "webp", None)


def test_the_longest_recipe_fits_into_every_format(tmp_path):
    recipe = _picture().recipe
    longest = replace(recipe, prompt="x" * (RECIPE_BYTES - len(recipe.to_json()) + len(recipe.prompt)))
    assert len(longest.to_json()) == RECIPE_BYTES
    check_recipe_fits(longest)
    for format in FORMATS:
        path = tmp_path / format
        path.write_bytes(encode(_picture().image, format, longest))
        assert read_recipe(path) == longest
    with pytest.raises(PromptError, match="a picture holds"):
        check_recipe_fits(replace(longest, prompt=longest.prompt + "x"))


def _png_with(text: str, key: str = "dalle") -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(key, text)
    target = io.BytesIO()
    Image.new("RGB", (4, 4)).save(target, "PNG", pnginfo=info)
    return target.getvalue()


def _bmp() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (4, 4)).save(target, "BMP")
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", BadPicture),
        (b"not a picture", BadPicture),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", BadPicture),
        (_bmp(), BadPicture),
        (_picture().encode("png")[:30], BadPicture),
        (_png_with("{}"), BadRecipe),
        (_png_with("x" * 100_000), BadRecipe),
        (_png_with("{}", key="parameters"), BadRecipe),
    ],
)
def test_what_is_no_picture_or_no_recipe_is_refused_with_its_path(tmp_path, data, error):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(error) as caught:
        read_recipe(path)
    assert caught.value.where == str(path)


def test_folders_missing_files_and_devices_are_no_pictures(tmp_path):
    for path in (tmp_path, tmp_path / "missing.png", Path("/dev/null")):
        with pytest.raises(BadPicture):
            read_recipe(path)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_pictures_are_refused_or_read_but_never_crash(format):
    whole = _picture().encode(format)
    random_bytes = random.Random(1)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(random_bytes.choice((1, 3, 20))):
            damaged[random_bytes.randrange(min(len(damaged), 1500))] = random_bytes.randrange(256)
        try:
            assert isinstance(
                read_recipe(io.BytesIO(bytes(damaged[: random_bytes.randrange(len(damaged) + 1)]))), Recipe
            )
        except DalleError as error:
            assert isinstance(error, BadPicture | BadRecipe)


# Sheets and names


@pytest.mark.parametrize(
    ("count", "shape"),
    [(1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (4, (2, 2)), (5, (3, 2)), (7, (3, 3)), (9, (3, 3)), (10, (4, 3))],
)
def test_sheets_are_nearly_square(count, shape):
    assert grid_shape(count) == shape


def test_a_sheet_shows_every_picture_in_reading_order():
    images = [Image.new("RGB", (64, 64), (k, 0, 0)) for k in range(5)]
    sheet = grid(images)
    gap = 2
    assert sheet.size == (3 * 64 + 2 * gap, 2 * 64 + gap)
    for k in range(5):
        assert sheet.getpixel(((k % 3) * (64 + gap) + 1, (k // 3) * (64 + gap) + 1)) == (k, 0, 0)
    assert sheet.getpixel((64, 0)) == (255, 255, 255)
    assert grid(images[:1]) is images[0]
    with pytest.raises(ValueError, match="needs a picture"):
        grid([])


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red fox", "a-red-fox-7.png"),
        ("  A Red  FOX!! ", "a-red-fox-7.png"),
        ("../../etc/passwd", "etc-passwd-7.png"),
        ("-rf /", "rf-7.png"),
        ("CON", "con-7.png"),
        ("🦊🦊", "picture-7.png"),
        ("Bär im Schnee", "bär-im-schnee-7.png"),
        ("Ba\u0308r", "bär-7.png"),
        ("森の中の狐", "森の中の狐-7.png"),
        ("\u202egnp.exe\x1b[31m", "gnp-exe-31m-7.png"),
        ("\u0308x", "x-7.png"),
    ],
)
def test_names_hold_letters_and_digits_only(prompt, name):
    assert file_name(prompt, 7, ".png") == name


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(0, 2**63 - 1))
def test_any_prompt_gives_a_name_that_file_systems_take(prompt, seed):
    name = file_name(prompt, seed, ".jpg", "-grid")
    assert len(name.encode()) <= 200  # leaves room for a number within the usual 255
    assert name.endswith(f"-{seed}-grid.jpg")
    assert not name.startswith((".", "-"))
    assert not any(char in name for char in '/\\:*?"<>|\0\n ')


def test_a_long_name_ends_with_a_whole_word():
    name = file_name("wonderful " * 30, 7, ".png")
    assert name.removesuffix("-7.png").split("-") == ["wonderful"] * 12


# Publishing


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


def test_force_through_a_link_replaces_what_it_points_to(tmp_path):
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    publish(tmp_path / "link.png", b"new", force=True)
    assert (tmp_path / "real.png").read_bytes() == b"new"
    assert (tmp_path / "link.png").is_symlink()


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


def test_a_kill_at_any_moment_leaves_whole_files_only(tmp_path):
    code = (
        "import sys; from pathlib import Path; from dallecli.pictures.picture import publish_new\n"
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
