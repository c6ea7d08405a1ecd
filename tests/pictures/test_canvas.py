"""Inpainting keeps what is kept, byte for byte, whatever the picture, the mask and the model's size are."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dallecli.errors import BadMask, BadPicture, BadSetting
from dallecli.limits import SIDE_LIMIT
from dallecli.pictures.canvas import (
    FEATHER,
    PATCH_LIMIT,
    Area,
    Canvas,
    Patch,
    fill,
    find_patches,
    lay_out,
)
from dallecli.source import Source
from dallecli.tasks.mask import Edges, Mask


def source(image: Image.Image) -> Source:
    target = io.BytesIO()
    image.save(target, "PNG")
    return Source(kind="picture", name="photo", data=target.getvalue())


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def slope(width: int, height: int) -> Image.Image:
    """Linear in both directions: what a smooth photo looks like from near."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], axis=-1).round().astype(np.uint8))


def holes(width: int, height: int, *areas: Area) -> Image.Image:
    hole = Image.new("L", (width, height), 0)
    for area in areas:
        hole.paste(255, area)
    return hole


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def is_open(hole: Image.Image) -> np.ndarray:
    return np.asarray(hole) > 0


def repaint(canvas: Canvas, size: int, painter) -> Canvas:
    """What a verb does: paint every patch, in order, with what the model makes of it."""
    for patch in find_patches(canvas.hole, size):
        canvas = canvas.paste(patch, painter(*canvas.cut(patch, size)))
    return canvas


# Any canvas


@st.composite
def canvases(draw: st.DrawFn) -> Canvas:
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    chance = np.random.default_rng(draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from(["boxes", "dots", "lines", "all", "all but one"]))
    hole = Image.new("L", (width, height), 255 if kind.startswith("all") else 0)
    pen = ImageDraw.Draw(hole)
    for _ in range(draw(st.integers(1, 4))):
        (x, u), (y, v) = np.sort(chance.integers(0, width, 2)), np.sort(chance.integers(0, height, 2))
        if kind == "boxes":
            pen.rectangle((x, y, u, v), 255)
        elif kind == "lines":
            pen.line((x, v, u, y), 255, int(chance.integers(1, 4)))
        elif kind == "dots":
            pen.point((x, y), 255)
    if kind == "all but one":
        pen.point((int(chance.integers(width)), int(chance.integers(height))), 0)
    return Canvas(image=noise(width, height), hole=hole)


SIZES = st.sampled_from([1, 4, 16, 17, 64])


@given(canvas=canvases(), size=SIZES)
@settings(deadline=None, max_examples=50)
def test_kept_pixels_keep_their_bytes_and_the_others_are_all_painted(canvas, size):
    seen = 0

    def painter(known: Image.Image, hole: Image.Image) -> Image.Image:
        nonlocal seen
        seen += 1
        assert known.size == hole.size == (size, size)
        assert (known.mode, hole.mode) == ("RGB", "L")
        assert set(hole.tobytes()) <= {0, 255}
        assert 255 in hole.tobytes()
        return noise(size, size, seed=seen)

    result = repaint(canvas, size, painter)
    kept = ~is_open(canvas.hole)
    assert np.array_equal(levels(result.image)[kept], levels(canvas.image)[kept])
    assert result.hole.getbbox() is None
    assert result.image.size == canvas.image.size
    assert seen <= PATCH_LIMIT


@given(canvas=canvases(), size=SIZES)
@settings(deadline=None, max_examples=50)
def test_patches_hold_every_open_pixel_once_and_show_what_they_own(canvas, size):
    rest = canvas.hole.copy()
    for patch in find_patches(canvas.hole, size):
        left, top, right, bottom = patch.core
        assert patch.left <= left < right <= patch.left + patch.side
        assert patch.top <= top < bottom <= patch.top + patch.side
        assert rest.crop(patch.core).getbbox() is not None
        rest.paste(0, patch.core)
        # A square leaves the canvas only where the canvas is narrower.
        for start, limit in zip((patch.left, patch.top), canvas.hole.size, strict=True):
            assert patch.side > limit or 0 <= start <= limit - patch.side
    assert rest.getbbox() is None


@given(canvas=canvases(), size=SIZES)
@settings(deadline=None, max_examples=25)
def test_what_the_model_may_not_change_is_known_to_the_last_pixel(canvas, size):
    """A pixel of the model's is closed only if no pixel under it is open, or outside of the canvas."""
    for patch in find_patches(canvas.hole, size):
        _, hole = canvas.cut(patch, size)
        far = 200
        around = np.pad(is_open(canvas.hole), far, constant_values=True)
        top, left = far + patch.top, far + patch.left
        whole = around[top : top + patch.side, left : left + patch.side]
        assert whole.shape == (patch.side, patch.side)
        for k, closed in np.ndenumerate(~is_open(hole)):
            rows, columns = (
                slice(math.floor(i * patch.side / size), math.ceil((i + 1) * patch.side / size)) for i in k
            )
            assert closed == (not whole[rows, columns].any())


@given(canvas=canvases())
@settings(deadline=None, max_examples=25)
def test_filling_keeps_the_known_and_invents_no_colour(canvas):
    filled = fill(canvas.image, canvas.hole)
    kept = ~is_open(canvas.hole)
    assert np.array_equal(levels(filled)[kept], levels(canvas.image)[kept])
    if kept.any():
        known = levels(canvas.image)[kept]
        inside = levels(filled)[~kept]
        assert (inside >= known.min(axis=0) - 1).all()
        assert (inside <= known.max(axis=0) + 1).all()


# Filling


def test_a_hole_in_one_colour_gets_that_colour():
    image = Image.new("RGB", (700, 500), (10, 200, 90))
    image.paste("red", (100, 100, 400, 300))
    assert set(fill(image, holes(700, 500, (100, 100, 400, 300))).getcolors()) == {(350_000, (10, 200, 90))}


def test_a_hole_in_a_slope_is_nearly_invisible():
    image = slope(200, 200)
    filled = fill(image, holes(200, 200, (80, 80, 120, 120)))
    assert np.abs(levels(filled) - levels(image)).max() <= 12  # of 51 levels that the slope climbs across the hole


def test_without_anything_known_a_hole_is_grey():
    filled = fill(noise(7, 5), holes(7, 5, (0, 0, 7, 5)))
    assert np.ptp(levels(filled)) == 0
    assert levels(filled)[0, 0, 0] in (127, 128)


# Cutting and pasting


def test_a_picture_of_the_models_size_is_cut_as_it_is():
    canvas = Canvas(image=noise(64, 64), hole=holes(64, 64, (10, 20, 30, 40)))
    (patch,) = find_patches(canvas.hole, 64)
    assert patch == Patch(left=0, top=0, side=64, core=(10, 20, 30, 40))
    known, hole = canvas.cut(patch, 64)
    assert hole.tobytes() == canvas.hole.tobytes()
    kept = ~is_open(hole)
    assert np.array_equal(levels(known)[kept], levels(canvas.image)[kept])


def test_what_is_to_vanish_does_not_shine_into_what_is_known():
    image = Image.new("RGB", (512, 512), "white")
    image.paste("black", (100, 100, 400, 400))
    canvas = Canvas(image=image, hole=holes(512, 512, (100, 100, 400, 400)))
    (patch,) = find_patches(canvas.hole, 64)
    known, _ = canvas.cut(patch, 64)
    assert known.getcolors() == [(64 * 64, (255, 255, 255))]


def test_what_was_painted_is_there_pixel_for_pixel_behind_the_seam():
    canvas = Canvas(image=noise(64, 64), hole=holes(64, 64, (10, 20, 30, 40)))
    painted = noise(64, 64, seed=1)
    (patch,) = find_patches(canvas.hole, 64)
    result = canvas.paste(patch, painted)
    inner = np.s_[20 + FEATHER - 1 : 40 - FEATHER + 1, 10 + FEATHER - 1 : 30 - FEATHER + 1]
    assert np.array_equal(levels(result.image)[inner], levels(painted)[inner])


def test_an_edge_of_the_picture_has_no_seam():
    canvas = Canvas(image=noise(64, 64), hole=holes(64, 64, (0, 0, 64, 20)))
    painted = noise(64, 64, seed=1)
    (patch,) = find_patches(canvas.hole, 64)
    result = canvas.paste(patch, painted)
    assert np.array_equal(levels(result.image)[: 20 - FEATHER + 1], levels(painted)[: 20 - FEATHER + 1])


@pytest.mark.parametrize("thickness", [1, 2, 3, 5])
def test_the_middle_of_a_thin_hole_is_painted_too(thickness):
    image, hole = Image.new("RGB", (400, 400), "white"), holes(400, 400, (20, 200, 380, 200 + thickness))
    result = repaint(Canvas(image=image, hole=hole), 64, lambda known, _: Image.new("RGB", known.size, "black"))
    assert levels(result.image)[200 + thickness // 2, 200].max() == 0


def test_what_vanishes_leaves_no_rim_behind():
    """The seam fades into a continuation of what is known, so that nothing of a black thing stays on a white wall."""
    image = Image.new("RGB", (600, 600), "white")
    image.paste("black", (200, 200, 400, 400))
    canvas = Canvas(image=image, hole=holes(600, 600, (200, 200, 400, 400)))
    result = repaint(canvas, 64, lambda known, _: Image.new("RGB", known.size, "white"))
    assert result.image.getcolors() == [(360_000, (255, 255, 255))]


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_perfect_painter_leaves_no_visible_seam(scale):
    """Painting the true picture at the model's size gives the true picture back, also along the seam."""
    side = 64 * scale
    image = slope(side, side)
    area = (side // 4, side // 4, 3 * side // 4, 3 * side // 4)
    truth = image.resize((64, 64), Image.Resampling.LANCZOS)
    canvas = Canvas(image=image, hole=holes(side, side, area))
    ruined = canvas.image.copy()
    ruined.paste("red", area)
    patch = Patch(left=0, top=0, side=side, core=area)
    result = Canvas(image=ruined, hole=canvas.hole).paste(patch, truth)
    assert np.abs(levels(result.image) - levels(image)).max() <= 6  # what the smooth continuation is off by


def test_a_second_patch_sees_what_the_first_one_painted():
    hole = holes(300, 40, (0, 10, 300, 30))
    canvas = Canvas(image=Image.new("RGB", (300, 40), "white"), hole=hole)
    seen = []

    def painter(known: Image.Image, _: Image.Image) -> Image.Image:
        seen.append(levels(known)[..., 2].min())
        return Image.new("RGB", known.size, "red")

    repaint(canvas, 32, painter)
    assert len(seen) > 2
    assert seen[0] == 255
    assert all(level < 10 for level in seen[1:])


def test_pasting_what_is_done_already_changes_nothing():
    canvas = Canvas(image=noise(64, 64), hole=holes(64, 64, (10, 20, 30, 40)))
    (patch,) = find_patches(canvas.hole, 64)
    done = canvas.paste(patch, noise(64, 64, seed=1))
    assert done.paste(patch, noise(64, 64, seed=2)) is done


def test_a_patch_that_is_no_square_is_a_mistake_of_the_caller():
    canvas = Canvas(image=noise(64, 64), hole=holes(64, 64, (10, 20, 30, 40)))
    (patch,) = find_patches(canvas.hole, 64)
    with pytest.raises(ValueError, match="a square"):
        canvas.paste(patch, noise(64, 32))


# Where the squares lie


def found(hole: Image.Image, size: int = 256) -> list[tuple[int, int, int]]:
    return [(patch.left, patch.top, patch.side) for patch in find_patches(hole, size)]


def test_a_thing_in_a_photo_gets_half_its_extent_around_it():
    assert found(holes(4000, 3000, (1000, 1000, 1400, 1300))) == [(900, 850, 600)]


def test_a_small_thing_is_painted_without_enlarging():
    assert found(holes(4000, 3000, (1000, 1000, 1050, 1050))) == [(897, 897, 256)]


def test_a_square_stays_in_the_picture():
    assert found(holes(4000, 3000, (0, 0, 50, 50))) == [(0, 0, 256)]
    assert found(holes(4000, 3000, (3990, 2990, 4000, 3000))) == [(3744, 2744, 256)]


def test_a_picture_smaller_than_the_model_is_shown_whole():
    assert found(holes(100, 100, (10, 10, 20, 20))) == [(0, 0, 100)]


def test_a_hole_longer_than_the_picture_is_high_is_shown_with_what_is_not_there():
    assert found(holes(300, 200, (20, 20, 280, 180)), 64) == [(4, -46, 292)]


def test_things_far_apart_are_painted_one_by_one():
    assert found(holes(4000, 3000, (100, 100, 150, 150), (3000, 2000, 3080, 2080))) == [(0, 0, 256), (2912, 1912, 256)]


def test_things_close_together_are_painted_together():
    assert len(found(holes(4000, 3000, (1000, 1000, 1100, 1100), (1150, 1000, 1200, 1100)))) == 1


def test_a_thing_is_not_divided():
    assert len(found(holes(4000, 3000, (1000, 1000, 2000, 1400)))) == 1


def test_a_scratch_is_divided():
    hole = Image.new("L", (3000, 3000))
    ImageDraw.Draw(hole).line((100, 200, 2800, 2500), 255, 6)
    patches = find_patches(hole, 256)
    assert 5 < len(patches) <= PATCH_LIMIT
    assert max(patch.side for patch in patches) < 600


def test_a_new_border_is_painted_in_the_models_own_pixels():
    assert {side for _, _, side in found(holes(1088, 1024, (0, 0, 64, 1024)))} == {256}
    assert found(holes(320, 256, (0, 0, 64, 256))) == [(0, 0, 256)]


def test_more_holes_than_anybody_waits_for_are_painted_more_coarsely():
    dots = np.zeros((3000, 3000), dtype=np.uint8)
    dots[100::400, 100::400] = 255
    patches = find_patches(Image.fromarray(dots), 64)
    assert 1 < len(patches) <= PATCH_LIMIT


# Layouts


def test_a_layout_reads_masks_and_divides_the_work():
    layout = lay_out(source(noise(80, 60)), Mask(boxes=((10, 10, 20, 20),)), Edges(), 64)
    assert layout.canvas.image.tobytes() == noise(80, 60).tobytes()
    assert layout.canvas.hole.getbbox() == (10, 10, 30, 30)
    assert len(layout.patches) == 1
    assert layout.warnings == ()


def test_expanding_adds_a_hole_around_the_picture_and_keeps_its_bytes():
    layout = lay_out(source(noise(80, 60)), None, Edges(left=5, top=6, right=7, bottom=8), 64)
    image, hole = layout.canvas.image, layout.canvas.hole
    assert image.size == hole.size == (92, 74)
    assert image.crop((5, 6, 85, 66)).tobytes() == noise(80, 60).tobytes()
    assert (~is_open(hole)).sum() == 80 * 60
    assert not is_open(hole)[6:66, 5:85].any()


def test_a_new_border_continues_the_picture():
    layout = lay_out(source(Image.new("RGB", (80, 60), "teal")), None, Edges(right=40), 64)
    assert len(layout.canvas.image.getcolors()) == 1


def test_a_mask_counts_from_the_old_corner():
    layout = lay_out(source(noise(80, 60)), Mask(boxes=((10, 10, 20, 20),)), Edges(left=5), 64)
    assert is_open(layout.canvas.hole)[:, :5].all()
    assert layout.canvas.hole.crop((5, 0, 85, 60)).getbbox() == (10, 10, 30, 30)


def test_repainting_and_expanding_together_keeps_the_rest():
    layout = lay_out(source(noise(80, 60)), Mask(boxes=((10, 10, 20, 20),)), Edges(top=30, left=3), 32)
    canvas = layout.canvas
    for k, patch in enumerate(layout.patches):
        canvas.cut(patch, 32)
        canvas = canvas.paste(patch, noise(32, 32, seed=k))
    kept = np.ones((60, 80), dtype=bool)
    kept[10:30, 10:30] = False
    assert np.array_equal(levels(canvas.image.crop((3, 30, 83, 90)))[kept], levels(noise(80, 60))[kept])
    assert canvas.hole.getbbox() is None


@pytest.mark.parametrize("expand", [Edges(left=SIDE_LIMIT), Edges(left=8000, top=9000)], ids=str)
def test_a_canvas_larger_than_any_picture_is_refused(expand):
    with pytest.raises(BadSetting, match="the expanded picture would have"):
        lay_out(source(noise(80, 60)), None, expand, 64)


def test_a_large_enlargement_is_announced():
    layout = lay_out(source(noise(400, 400)), Mask(boxes=((0, 0, 200, 200),)), Edges(), 64)
    (warning,) = layout.warnings
    assert "enlarged 4.7 times" in warning


def test_bad_masks_and_pictures_are_refused():
    with pytest.raises(BadMask):
        lay_out(source(noise(80, 60)), Mask(boxes=((70, 0, 20, 20),)), Edges(), 64)
    with pytest.raises(BadMask):
        lay_out(source(noise(80, 60)), Mask(), Edges(), 64)
    with pytest.raises(BadPicture):
        lay_out(Source(kind="picture", name="photo", data=b"\x89PNG\r\n\x1a\n"), None, Edges(left=1), 64)
