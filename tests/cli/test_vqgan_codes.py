"""`dalle encode` and `dalle decode` with a tiny random VQGAN."""

from pathlib import Path

import numpy as np
import pytest
import vqgan_oracle as oracle
from PIL import Image
from safetensors.numpy import load_file

from dallecli.weights.vqgan import LEVELS, SYMMETRIC

from .conftest import Dalle
from .test_codes import photo

pytestmark = pytest.mark.usefixtures("local")

PLACED = ("--device", "cpu", "--dtype", "fp32", "-q")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of taming's model and of min-dalle's decoder."""
    folder = tmp_path_factory.mktemp("models")
    oracle.write(folder / "taming", oracle.table(), SYMMETRIC)
    oracle.write(folder / "detoker", oracle.decoder_alone(oracle.table()), LEVELS)
    return folder


@pytest.mark.parametrize(("width", "height", "size"), [(60, 52, 32), (52, 75, 48)])
def test_a_picture_becomes_the_codes_and_the_codes_the_picture_of_the_reference(
    dalle: Dalle, models: Path, width: int, height: int, size: int
) -> None:
    image = photo(width, height)
    image.save("photo.png")
    model = ("-m", str(models / "taming"))
    made = dalle("encode", "photo.png", *model, "--size", str(size), "-o", "x.safetensors", *PLACED)
    assert (made.code, made.err) == (0, "")
    wanted = oracle.codes_of(image, size, oracle.table(), symmetric=True)
    assert np.array_equal(load_file("x.safetensors")["codes"], wanted[0].numpy())
    back = dalle("decode", "x.safetensors", *model, "-o", "back.png", *PLACED)
    assert (back.code, back.err) == (0, "")
    with Image.open("back.png") as decoded:
        # rounded: half a level from the unrounded
        assert np.abs(np.asarray(decoded) - oracle.picture_of(wanted, oracle.table(), symmetric=True)).max() <= 0.501


def test_a_decoder_alone_decodes_and_says_that_it_cannot_encode(dalle: Dalle, models: Path) -> None:
    model = ("-m", str(models / "detoker"))
    refused = dalle("encode", "cat.png", *model, *PLACED)
    assert (refused.code, refused.lines) == (2, [])
    assert "detoker cannot encode" in refused.err
    assert dalle("encode", "cat.png", "-m", str(models / "taming"), "--size", "16", "-o", "x.safetensors").code == 0
    other = dalle("decode", "x.safetensors", *model, *PLACED)
    assert (other.code, other.lines) == (2, [])
    assert "these are codes of taming (" in other.err and "not of detoker (" in other.err


def test_a_size_between_codes_is_refused(dalle: Dalle, models: Path) -> None:
    refused = dalle("encode", "cat.png", "-m", str(models / "taming"), "--size", "31", *PLACED)
    assert (refused.code, "31 is no multiple of 2 pixels" in refused.err) == (2, True)
    assert "hint: --size 30" in refused.err
