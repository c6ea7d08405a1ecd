"""Pictures are decoded once, and what cannot be is named."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dallecli.errors import BadInput, DiskFull
from dallecli.training.album import Terms, is_current, make_album, open_album, square
from dallecli.training.data import look
from dallecli.training.listing import Listing
from tests.training.conftest import files_of_at_most

TERMS = Terms(sizes=(16, 32), data="of today", least=16, mirrored=False)


def silent(done: int, of: int) -> None:
    """Nobody watches."""


def picture(size: tuple[int, int] = (40, 32), mode: str = "RGB", seed: int = 0, format: str = "PNG") -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, format)
    return file.getvalue()


def folder_of(path: Path, pictures: dict[str, bytes]) -> Listing:
    path.mkdir()
    for name, data in pictures.items():
        (path / name).write_bytes(data)
        (path / name).with_suffix(".txt").write_text(f"caption of {name}")
    return look([path])


def test_an_album_holds_what_can_be_read_and_names_the_rest(tmp_path: Path) -> None:
    listing = folder_of(
        tmp_path / "data",
        {
            "grey.png": picture(mode="L"),
            "palette.png": picture(mode="P"),
            "clear.webp": picture(mode="RGBA", format="WEBP"),
            "ink.jpg": picture(mode="CMYK", format="JPEG"),
            "small.png": picture((20, 24)),
            "tiny.png": picture((200, 15)),
            "cut.jpg": picture((300, 300), format="JPEG")[:4000],
            "page.png": b"<html>not found</html>",
            "nothing.png": b"",
        },
    )
    make_album(tmp_path / "album", listing, TERMS, silent)
    album = open_album(tmp_path / "album")
    kept = {"grey.png", "palette.png", "clear.webp", "ink.jpg", "small.png"}
    assert set(album.captions) == {f"caption of {name}" for name in kept}
    assert {fault.name: fault.kind for fault in album.faults} == {
        "tiny.png": "pictures that are too small",
        "cut.jpg": "unreadable pictures",
        "page.png": "unreadable pictures",
        "nothing.png": "unreadable pictures",
    }
    assert album.small == 1
    assert {size: tuple(pixels.shape) for size, pixels in album.pictures.items()} == {
        16: (5, 3, 16, 16),
        32: (5, 3, 32, 32),
    }


def test_the_middle_square_is_averaged(tmp_path: Path) -> None:
    pixels = np.asarray(square(Image.open(io.BytesIO(picture((40, 32)))), 16)).astype(float)
    whole = np.asarray(Image.open(io.BytesIO(picture((40, 32)))))[:, 4:36].astype(float)
    averages = whole.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(pixels - averages).max() <= 1  # Pillow averages one direction after the other, and rounds twice


def test_mirrored_pictures_follow_those_that_are_trained_on_and_none_that_is_held_out(tmp_path: Path) -> None:
    listing = folder_of(tmp_path / "data", {f"{k}.png": picture(seed=k) for k in range(5)})
    make_album(tmp_path / "album", listing, replace(TERMS, mirrored=True), silent)
    album = open_album(tmp_path / "album")
    assert (len(album.captions), album.held_out) == (9, 1)
    pixels = album.pictures[32]
    for row in range(0, 8, 2):
        assert (pixels[row + 1] == pixels[row].flip(-1)).all()
        assert album.captions[row] == album.captions[row + 1]
    assert album.captions[-1] not in album.captions[:-1]


def test_an_album_is_made_again_when_its_terms_change_and_only_then(tmp_path: Path) -> None:
    listing = folder_of(tmp_path / "data", {f"{k}.png": picture(seed=k) for k in range(3)})
    make_album(tmp_path / "album", listing, TERMS, silent)
    assert is_current(tmp_path / "album", TERMS)
    for change in ({"sizes": (16,)}, {"data": "of tomorrow"}, {"least": 20}, {"mirrored": True}):
        assert not is_current(tmp_path / "album", replace(TERMS, **change))
    make_album(tmp_path / "album", listing, replace(TERMS, sizes=(8,)), silent)
    assert set(open_album(tmp_path / "album").pictures) == {8}


@pytest.mark.parametrize("good", [0, 1])
def test_too_little_to_train_on_is_said_with_the_reasons_and_nothing_is_left_behind(tmp_path: Path, good: int) -> None:
    pictures = {f"good{k}.png": picture(seed=k) for k in range(good)} | {"bad.png": b"bad", "worse.png": b"worse"}
    listing = folder_of(tmp_path / "data", pictures)
    with pytest.raises(BadInput, match=r"2 unreadable pictures \(bad.png, worse.png\)|2 unreadable pictures \(worse"):
        make_album(tmp_path / "album", listing, TERMS, silent)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to train on"):
        make_album(tmp_path / "album", folder_of(tmp_path / "data", {}), TERMS, silent)


def test_a_full_disk_leaves_no_half_album(tmp_path: Path) -> None:
    listing = folder_of(tmp_path / "data", {f"{k}.png": picture(seed=k) for k in range(8)})
    with files_of_at_most(20_000), pytest.raises(DiskFull):
        make_album(tmp_path / "album", listing, TERMS, silent)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
