"""`dalle encode` and `dalle decode` on a tiny random autoencoder: the notebook's round trip, pipes, and bad input."""

import io
import json
from pathlib import Path

import dvae_oracle as oracle
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save

import dallecli
from dallecli.codes_file import FORMAT, Coded, read_codes
from dallecli.errors import BadCodes, BadPicture, BadSize, OutOfMemory
from dallecli.source import Source, read_source
from dallecli.studio.coders import check_room
from dallecli.studio.models import Models
from dallecli.tasks.coding import Coding

from .conftest import Dalle, process

pytestmark = pytest.mark.usefixtures("local")

PLACED = ("--device", "cpu", "--dtype", "fp32", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(oracle.write(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(oracle.write(tmp_path_factory.mktemp("models") / "other", seed=1))


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("width", "height", "size"), [(300, 280, None), (281, 403, None), (64, 48, None), (90, 70, 64)]
)
def test_a_picture_becomes_the_codes_and_the_codes_the_picture_of_the_notebook(
    dalle: Dalle, model: str, width: int, height: int, size: int | None
) -> None:
    image = photo(width, height)
    image.save("photo.png")
    sized = () if size is None else ("--size", str(size))
    made = dalle("encode", "photo.png", "-m", model, *sized, "-o", "x.safetensors", *PLACED)
    assert (made.code, made.lines, made.err) == (0, ["x.safetensors"], "")
    codes = load_file("x.safetensors")["codes"]
    wanted = oracle.codes_of(image, size or 256)
    assert np.array_equal(codes, wanted[0].numpy())
    back = dalle("decode", "x.safetensors", "-m", model, "-o", "back.png", *PLACED)
    assert (back.code, back.lines, back.err) == (0, ["back.png"], "")
    with Image.open("back.png") as decoded:
        # The notebook cuts levels off, and we round: one level at most, and half of one from the unrounded.
        assert np.abs(np.asarray(decoded) - oracle.picture_of(wanted)).max() <= 0.501


def test_from_python_it_is_the_same(dalle: Dalle, model: str) -> None:
    image = photo(90, 70)
    image.save("photo.png")
    dalle("encode", "photo.png", "-m", model, "--size", "64", "-o", "x.safetensors", *PLACED)
    dalle("decode", "x.safetensors", "-m", model, "-o", "back.png", *PLACED)
    opened = dallecli.open(model, device="cpu", dtype="float32")
    named, held = opened.encode("photo.png", image, size=64)
    assert named.encode() == Path("x.safetensors").read_bytes()
    assert np.array_equal(held.codes, named.codes)
    with Image.open("back.png") as decoded:
        assert [one.tobytes() for one in opened.decode("x.safetensors", held)] == [decoded.tobytes()] * 2
    with pytest.raises(BadPicture, match="a picture is needed"):
        opened.encode("x.safetensors")
    with pytest.raises(BadSize, match="60 is no multiple of 8"):
        opened.encode("photo.png", size=60)


def test_a_file_of_codes_says_whose_they_are_and_is_the_same_each_time(dalle: Dalle, model: str) -> None:
    made = dalle("encode", "cat.png", "-m", model, "--size", "64", "--json", *PLACED)
    (facts,) = made.objects
    assert facts.pop("path") == "cat-codes.safetensors"
    assert len(facts.pop("codebook")) == 64
    assert facts == {"name": "cat.png", "height": 8, "width": 8, "vocabulary": 24, "model": "tiny"}
    first = Path("cat-codes.safetensors").read_bytes()
    dalle("encode", "cat.png", "-m", model, "--size", "64", "--force", *PLACED)
    assert Path("cat-codes.safetensors").read_bytes() == first
    shown = dalle("show", "cat-codes.safetensors")
    assert (shown.code, "vocabulary" in shown.out.decode()) == (0, True)


@pytest.mark.long
def test_codes_go_through_pipes(dalle: Dalle, model: str) -> None:
    codes = dalle("encode", "-", "-m", model, "--size", "32", "-o", "-", *PLACED, stdin=Path("dog.png").read_bytes())
    assert (codes.code, codes.err) == (0, "")
    picture = process("decode", "-", "-m", model, "-o", "-", *PLACED, stdin=codes.out)
    assert (picture.code, picture.err) == (0, "")
    with Image.open(io.BytesIO(picture.out)) as image:
        assert (image.size, image.format) == ((32, 32), "PNG")


def test_one_bad_input_of_many_stops_no_other(dalle: Dalle, model: str) -> None:
    Path("bad.png").write_bytes(Path("cat.png").read_bytes()[:500])
    made = dalle("encode", "cat.png", "bad.png", "dog.png", "-m", model, "--size", "16", "--out", "codes", *PLACED)
    assert (made.code, made.lines) == (1, ["codes/cat-codes.safetensors", "codes/dog-codes.safetensors"])
    assert "bad.png: " in made.err and "1 of 3" in made.err
    Path("codes/x.safetensors").write_bytes(b"\x00" * 20)
    files = ("codes/cat-codes.safetensors", "codes/x.safetensors", "cat.png", "codes/dog-codes.safetensors")
    back = dalle("decode", *files, "-m", model, "--format", "webp", *PLACED)
    assert (back.code, back.lines) == (1, ["cat-codes.webp", "dog-codes.webp"])
    assert "2 of 4" in back.err


def test_where_every_input_is_bad_nothing_is_said_to_be_made(dalle: Dalle, model: str) -> None:
    bad = dalle("decode", "cat.png", "dog.png", "-m", model)
    assert (bad.code, bad.lines, " in " in bad.err) == (1, [], False)


def test_a_strip_of_pixels_is_not_enlarged_as_a_whole(dalle: Dalle, model: str) -> None:
    Image.new("RGB", (1, 16_384), (200, 30, 30)).save("strip.png")
    made = dalle("encode", "strip.png", "-m", model, "-o", "x.safetensors", *PLACED)
    assert (made.code, made.err) == (0, "")
    assert np.array_equal(load_file("x.safetensors")["codes"], codes_of_colour((200, 30, 30)))


def codes_of_colour(colour: tuple[int, int, int]) -> np.ndarray:  # type: ignore[type-arg]
    return oracle.codes_of(Image.new("RGB", (256, 256), colour), 256)[0].numpy()


def test_what_would_not_fit_into_memory_is_refused(model: str) -> None:
    request = Coding(task="encode", inputs=(read_source("cat.png"),), model=model, device="cpu")
    description = Models().find(model)
    check_room(256**2, request, description)
    with pytest.raises(OutOfMemory, match=r"the encoder takes .* for 1000000000000 pixels, and .* are free"):
        check_room(10**12, request, description)


def test_codes_of_another_codebook_are_refused_by_name(dalle: Dalle, model: str, other: str) -> None:
    assert dalle("encode", "cat.png", "-m", other, "--size", "16", "-o", "x.safetensors", *PLACED).code == 0
    refused = dalle("decode", "x.safetensors", "-m", model, "-o", "x.png", *PLACED)
    assert (refused.code, refused.lines) == (2, [])
    assert "these are codes of other (" in refused.err and "not of tiny (" in refused.err
    assert "-m other" in refused.err
    assert not Path("x.png").exists()


REFUSED = {
    "a size between codes": (["encode", "cat.png", "--size", "100"], "100 is no multiple of 8 pixels"),
    "a size below a code": (["encode", "cat.png", "--size", "4"], "hint: --size 8"),
    "a size beyond all": (["encode", "cat.png", "--size", "4096"], "up to 2048"),
    "no picture": (["encode", "words.txt"], "not a picture"),
    "codes to encode": (["encode", "codes.safetensors"], "dalle decode makes pictures of codes"),
    "a picture to decode": (["decode", "cat.png"], "dalle encode makes codes of pictures"),
    "cut codes": (["decode", "cut.safetensors"], "this is no file of codes"),
    "codes in place of a picture": (["vary", "codes.safetensors", "-m", "starter"], "these are codes: dalle decode"),
    "one file for two": (["encode", "cat.png", "dog.png", "-o", "x.safetensors"], "use --out for a folder"),
    "two standard inputs": (["decode", "-", "-"], "standard input can be one input"),
    "no format": (["decode", "codes.safetensors", "-o", "x.txt"], "what format is 'x.txt'"),
    "painting": (["generate", "a cat"], "tiny cannot generate"),
    "embedding": (["embed", "cat.png"], "tiny has no CLIP"),
    "another model": (["encode", "cat.png", "-m", "starter"], "starter cannot encode"),
    "another model that is not here": (["decode", "codes.safetensors", "-m", "glide"], "glide cannot decode"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_in_words(dalle: Dalle, model: str, what: str) -> None:
    arguments, words = REFUSED[what]
    codes = coded().encode()
    Path("codes.safetensors").write_bytes(codes)
    Path("cut.safetensors").write_bytes(codes[:-1])
    Path("words.txt").write_text("a cat")
    refused = dalle(*arguments, *([] if "-m" in arguments else ["-m", model]), "-q")
    assert (refused.code, refused.lines, words in refused.err) == (2, [], True), refused.err
    assert len(refused.err.splitlines()) <= 3


def test_without_the_model_the_command_that_fetches_it_is_named(dalle: Dalle) -> None:
    missing = dalle("encode", "cat.png", *PLACED)
    assert (missing.code, "dalle models pull dvae" in missing.err) == (3, True)


# The files.


def coded(**changes: object) -> Coded:
    codes = np.arange(6, dtype=np.int32).reshape(2, 3)
    facts = {"codes": codes, "vocabulary": 24, "codebook": "0" * 64, "model": "tiny", "name": "cat.png"}
    return Coded(**(facts | changes))  # type: ignore[arg-type]


def as_source(data: bytes) -> Source:
    Path("some.safetensors").write_bytes(data)
    return read_source("some.safetensors")


def test_codes_come_back_from_their_file(dalle: Dalle) -> None:
    found = read_codes(as_source(coded(name="a\udcff.png").encode()))
    assert np.array_equal(found.codes, coded().codes)
    assert (found.vocabulary, found.codebook, found.model, found.name) == (24, "0" * 64, "tiny", "a?.png")


def bare(array: np.ndarray, **facts: str) -> bytes:  # type: ignore[type-arg]
    known = {"format": FORMAT, "model": "m", "codebook": "c", "vocabulary": "24", "name": "n"}
    return save({"codes": array}, metadata=known | facts)


FLAT = np.zeros((2, 2), dtype=np.int32)
WRONG = {
    "weights": (save({"w": FLAT}), "holds no codes"),
    "other numbers": (bare(FLAT.astype(np.int64)), "not a file of codes as dalle"),
    "another shape": (bare(FLAT[None]), "not a file of codes as dalle"),
    "nothing": (bare(FLAT[:0]), "holds 2 x 0 codes"),
    "too many": (bare(np.zeros((257, 1), dtype=np.int32)), "holds 1 x 257 codes"),
    "below": (bare(FLAT - 1), "the codes -1 to -1"),
    "above": (bare(FLAT + 24), "of a vocabulary of 24"),
    "no number": (bare(FLAT, vocabulary="many"), "of a vocabulary of many"),
    "no name": (bare(FLAT, model=""), "not a file of codes as dalle"),
    "a large header": (bare(FLAT, name="x" * 2**17), "its header has more than 64 KiB"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_holds_no_codes_is_refused(what: str, dalle: Dalle) -> None:
    data, words = WRONG[what]
    with pytest.raises(BadCodes, match=words):
        read_codes(as_source(data))


def test_a_decoded_picture_is_told_in_json(dalle: Dalle, model: str) -> None:
    assert dalle("encode", "cat.png", "-m", model, "--size", "16", "-o", "x.safetensors", *PLACED).code == 0
    back = dalle("decode", "x.safetensors", "-m", model, "-o", "x.png", "--json", *PLACED)
    assert json.loads(back.out) == {"path": "x.png", "name": "x.safetensors", "width": 16, "height": 16, "model": model}
