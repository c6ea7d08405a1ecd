"""Masks mark what they say, in both conventions, and what looks like a mistake is an error or a warning."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from dallecli.errors import BadMask, BadPicture
from dallecli.pictures.masks import draw, overlay, share
from dallecli.pictures.reading import Reading, read_picture
from dallecli.source import Source
from dallecli.tasks.mask import Mask


def source(image: Image.Image, name: str = "mask.png", **options: object) -> Source:
    target = io.BytesIO()
    image.save(target, "PNG", **options)
    return Source(kind="picture", name=name, data=target.getvalue())


def picture(size: tuple[int, int] = (4, 2), mode: str = "RGB") -> Reading:
    return read_picture(source(Image.new(mode, size, "red"), "photo"))


def levels(*rows: list[int]) -> Image.Image:
    return Image.fromarray(np.array(rows, dtype=np.uint8))


def with_alpha(*rows: list[int]) -> Image.Image:
    image = Image.new("RGBA", (len(rows[0]), len(rows)), "red")
    image.putalpha(levels(*rows))
    return image


def marked(mask: Mask, of: Reading | None = None) -> list[list[int]]:
    drawn, _ = draw(mask, picture() if of is None else of)
    assert drawn.mode == "L"
    assert set(drawn.tobytes()) <= {0, 255}
    return (np.asarray(drawn) // 255).tolist()


def warnings(mask: Mask, of: Reading | None = None) -> tuple[str, ...]:
    return draw(mask, picture((100, 100)) if of is None else of)[1]


# What marks what


def test_white_is_repainted():
    mask = levels([0, 0, 255, 255], [0, 255, 0, 0])
    assert marked(Mask(files=(source(mask),))) == [[0, 0, 1, 1], [0, 1, 0, 0]]


def test_grey_counts_as_white_from_the_middle_on():
    assert marked(Mask(files=(source(levels([0, 1, 127, 128], [129, 200, 254, 255])),))) == [[0, 0, 0, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "as it is"])
def test_every_kind_of_picture_can_be_a_mask(mode):
    mask = levels([0, 0, 255, 255], [0, 255, 0, 0])
    mask = mask if " " in mode else mask.convert(mode)
    assert marked(Mask(files=(source(mask),))) == [[0, 0, 1, 1], [0, 1, 0, 0]]


def test_white_on_a_transparent_layer_is_repainted_and_the_rest_kept():
    layer = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    layer.paste((255, 255, 255, 255), (1, 0, 3, 1))
    assert marked(Mask(files=(source(layer),))) == [[0, 1, 1, 0], [0, 0, 0, 0]]


def test_transparent_is_repainted_in_the_other_mode():
    mask = with_alpha([255, 128, 127, 0], [255, 255, 255, 255])
    assert marked(Mask(files=(source(mask),), mode="alpha")) == [[0, 0, 1, 1], [0, 0, 0, 0]]


def test_the_pictures_own_transparency_is_a_mask():
    photo = read_picture(source(with_alpha([255, 0, 255, 0], [0, 255, 255, 255])))
    assert marked(Mask(), photo) == [[0, 1, 0, 1], [1, 0, 0, 0]]


def test_a_box_counts_from_the_upper_left_corner():
    assert marked(Mask(boxes=((1, 0, 2, 1),))) == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert marked(Mask(boxes=((3, 1, 1, 1),))) == [[0, 0, 0, 0], [0, 0, 0, 1]]


def test_boxes_and_files_are_united():
    mask = Mask(boxes=((0, 0, 1, 1), (3, 1, 1, 1)), files=(source(levels([0, 255, 0, 0], [0, 0, 0, 0])),))
    assert marked(mask) == [[1, 1, 0, 0], [0, 0, 0, 1]]


def test_inverting_keeps_what_was_marked():
    assert marked(Mask(boxes=((0, 0, 1, 1), (3, 1, 1, 1)), invert=True)) == [[0, 1, 1, 1], [1, 1, 1, 0]]


def test_the_transparency_of_a_photo_does_not_add_to_a_mask_that_is_given():
    photo = read_picture(source(with_alpha([255, 0, 255, 0], [0, 255, 255, 255])))
    assert marked(Mask(boxes=((0, 0, 1, 1),)), photo) == [[1, 0, 0, 0], [0, 0, 0, 0]]


# What is refused


def refusal(mask: Mask, of: Reading | None = None) -> BadMask:
    with pytest.raises(BadMask) as caught:
        draw(mask, picture() if of is None else of)
    assert len(caught.value.lines()) <= 3
    assert caught.value.hint is not None
    return caught.value


def test_a_mask_of_another_size_is_refused():
    error = refusal(Mask(files=(source(levels([0, 255])),)))
    assert error.what == "the mask has 2 x 1 pixels, the picture 4 x 2"
    assert error.where == "mask.png"


def test_a_mask_that_was_drawn_on_a_photo_lying_on_its_side_is_explained():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo = read_picture(source(Image.new("RGB", (4, 2), "red"), "photo", exif=exif))
    assert photo.image.size == (2, 4)
    error = refusal(Mask(files=(source(levels([0, 0, 255, 255], [0, 255, 0, 0])),)), photo)
    assert "turned by its EXIF data" in error.hint


@pytest.mark.parametrize("box", [(4, 0, 1, 1), (0, 0, 5, 1), (0, 1, 1, 2), (3, 1, 2, 1)], ids=str)
def test_a_box_that_leaves_the_picture_is_refused(box):
    error = refusal(Mask(boxes=(box,)))
    assert "leaves the picture" in error.what
    assert "4 x 2" in error.hint


@pytest.mark.parametrize(
    "mask",
    [
        Mask(files=(source(levels([0, 0, 127, 0], [0, 0, 0, 0])),)),
        Mask(boxes=((0, 0, 4, 2),), invert=True),
    ],
    ids=["black", "inverted"],
)
def test_a_mask_that_marks_nothing_is_refused(mask):
    assert refusal(mask).what == "the mask marks nothing for repainting"


@pytest.mark.parametrize(
    "mask",
    [
        Mask(files=(source(levels([255, 255, 255, 128], [255, 255, 255, 255])),)),
        Mask(boxes=((0, 0, 2, 2), (2, 0, 2, 2))),
    ],
    ids=["white", "boxes"],
)
def test_a_mask_that_leaves_nothing_is_refused(mask):
    assert refusal(mask).what == "the mask leaves nothing of the picture"


def test_a_photo_without_transparency_is_no_mask_of_its_own():
    assert "no transparency" in refusal(Mask()).what


def test_a_mask_without_transparency_cannot_be_read_by_it():
    error = refusal(Mask(files=(source(levels([0, 0, 255, 255], [0, 255, 0, 0])),), mode="alpha"))
    assert "no transparency" in error.what
    assert error.where == "mask.png"


def test_a_damaged_mask_is_refused_by_its_name():
    data = source(levels([0, 0, 255, 255], [0, 255, 0, 0])).data
    assert data is not None
    with pytest.raises(BadPicture) as caught:
        draw(Mask(files=(Source(kind="picture", name="mask.png", data=data[:50]),)), picture())
    assert caught.value.where == "mask.png"


# What draws a warning


@pytest.mark.parametrize(
    ("pixels", "said"),
    [(1, "0.01%"), (49, "0.49%"), (50, None), (5000, None), (9500, None), (9501, "95.01%"), (9999, "99.99%")],
)
def test_a_tiny_or_a_huge_share_draws_a_warning(pixels, said):
    mask = np.zeros(10_000, dtype=np.uint8)
    mask[:pixels] = 255
    found = warnings(Mask(files=(source(Image.fromarray(mask.reshape(100, 100))),)))
    if said is None:
        assert found == ()
    else:
        assert len(found) == 1
        assert said in found[0]


def test_much_grey_draws_a_warning():
    soft = levels(*[[0] * 30 + [100] * 40 + [255] * 30 for _ in range(100)])
    assert warnings(Mask(files=(source(soft),))) == (
        "40% of the mask mask.png is grey: what is at least half white is repainted, the rest kept",
    )


def test_a_soft_edge_draws_no_warning():
    brush = levels(*[[0] * 40 + [64, 128, 191] + [255] * 57 for _ in range(100)])
    assert warnings(Mask(files=(source(brush),))) == ()


def test_warnings_about_the_file_are_passed_on():
    mask = Image.new("L", (100, 100), 0)
    mask.paste(255, (0, 0, 50, 50))
    animated = source(mask, save_all=True, append_images=[Image.new("L", (100, 100), 255)])
    assert warnings(Mask(files=(animated,))) == ("mask.png is an animation: only the first of its 2 frames is read",)


# What can be looked at


def test_the_share_is_that_of_the_pixels():
    drawn, _ = draw(Mask(boxes=((0, 0, 1, 1),)), picture())
    assert share(drawn) == 1 / 8


def test_the_overlay_tints_what_is_repainted_and_nothing_else():
    photo = picture()
    drawn, _ = draw(Mask(boxes=((1, 0, 2, 1),)), photo)
    shown = np.asarray(overlay(photo.image, drawn)).astype(int)
    changed = (shown != np.asarray(photo.image)).any(axis=2)
    assert changed.tolist() == (np.asarray(drawn) > 0).tolist()
    assert shown[0, 1, 2] > 50
