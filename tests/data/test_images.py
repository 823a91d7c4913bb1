"""Pictures of every mode become the same 8-bit RGB, or are refused by name: nothing is clipped."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image
from transformers import ViTImageProcessorPil

from harness_plugin import HarnessError
from harness_plugin.data.images import to_rgb
from harness_plugin.training.inputs.pixels import as_rgb, read_images, to_pixels

GREY = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)
"""The picture of every test, as bytes."""
SIXTEEN = GREY.astype(np.uint16) * 257


def stored(image, kind="PNG", **options):
    """The picture as a data set stores and decodes it: file, bytes, picture."""
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return datasets.Image().decode_example({"bytes": out.getvalue(), "path": None})


def as_png(image):
    image.format = "PNG"
    return image


def grey_of(value):
    rgb = np.asarray(to_rgb(value))
    assert rgb.dtype == np.uint8
    assert rgb.shape == (8, 8, 3)
    assert (rgb[..., :1] == rgb).all()
    return rgb[..., 0]


PICTURES = {
    "L": lambda: stored(Image.fromarray(GREY)),
    "16-bit PNG": lambda: stored(Image.fromarray(SIXTEEN)),
    "16-bit TIFF": lambda: stored(Image.fromarray(SIXTEEN), "TIFF"),
    "16-bit PNG as Pillow 10 reads it": lambda: as_png(Image.fromarray(SIXTEEN.astype(np.int32))),
    "big-endian 16 bit": lambda: Image.frombytes("I;16B", (8, 8), SIXTEEN.astype(">u2").tobytes()),
    "float TIFF": lambda: stored(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"),
    "P": lambda: stored(Image.fromarray(GREY).convert("P")),
    "RGBA, opaque": lambda: stored(Image.fromarray(GREY).convert("RGBA")),
    "LA, opaque": lambda: stored(Image.fromarray(GREY).convert("LA")),
    "uint8 array": lambda: GREY,
    "uint8 array with a channel": lambda: GREY[..., None],
    "uint16 array": lambda: SIXTEEN,
    "int64 array": lambda: GREY.astype(np.int64),
    "float array": lambda: np.stack([GREY / 255] * 3, axis=2),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_one_picture_is_the_same_in_every_mode_that_has_a_range(kind):
    assert np.abs(grey_of(PICTURES[kind]()).astype(int) - GREY).max() <= (kind == "P")


def test_cmyk_and_bits_are_what_they_mean():
    black = np.zeros((8, 8), np.uint8)
    inks = Image.merge("CMYK", [*map(Image.fromarray, [black] * 3), Image.fromarray(255 - GREY)])
    assert np.array_equal(grey_of(stored(inks, "TIFF")), GREY)
    bits = stored(Image.fromarray(GREY).point(lambda v: 255 * (v > 99), "1"))
    assert np.array_equal(grey_of(bits), np.where(GREY > 99, 255, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_picture_in_the_alpha_channel_stands_on_white(mode):
    alpha = Image.fromarray(255 - GREY)  # black ink, whose opacity is the picture
    if mode == "P":
        palette = Image.new("P", (8, 8), 0)
        palette.putpalette([0, 0, 0, 0, 0, 0])
        palette.putdata([int(value > 99) for value in GREY.reshape(-1)])
        value = stored(palette, transparency=1)
        assert np.array_equal(grey_of(value), np.where(GREY > 99, 255, 0))
        return
    ink = Image.new("L", (8, 8), 0).convert(mode)
    ink.putalpha(alpha)
    assert np.abs(grey_of(stored(ink)).astype(int) - GREY).max() <= 1


def test_a_photo_is_turned_as_its_camera_was_held():
    picture = Image.fromarray(GREY)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = grey_of(stored(picture, exif=exif.tobytes()))
    assert np.array_equal(turned, np.rot90(GREY, -1))


REFUSED = {
    "32-bit TIFF": (lambda: stored(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "mode I, 32-b"),
    "float TIFF": (
        lambda: stored(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        "floats from 0",
    ),
    "nan": (lambda: np.full((8, 8), np.nan), "floats from nan to nan, not in"),
    "negative": (lambda: GREY.astype(np.int16) - 9, "16-bit integers from -9 to 246, not in"),
    "LAB": (lambda: Image.new("LAB", (8, 8)), "mode LAB: save it as RGB"),
    "animation": (
        lambda: stored(
            Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]
        ),
        "2 frames: save one picture a row",
    ),
    "channels first": (lambda: np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\): pictures are"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_range_is_refused_by_mode(kind):
    make, message = REFUSED[kind]
    with pytest.raises(HarnessError, match=message):
        to_rgb(make())


@pytest.fixture
def folder_of_pictures(tmp_path):
    def made(*pictures, **options):
        files = []
        for number, picture in enumerate(pictures):
            files.append(str(tmp_path / f"{number}.tiff"))
            picture.save(files[-1])
        return datasets.Dataset.from_dict({"image": files}).cast_column("image", datasets.Image())

    return made


def test_models_see_the_same_16_and_8_bits(folder_of_pictures):
    rows = folder_of_pictures(Image.fromarray(GREY), Image.fromarray(SIXTEEN))
    side = {"height": 8, "width": 8}
    processor = ViTImageProcessorPil(size=side)

    def seen(image):
        return to_pixels(image, processor, None, (8, 8))

    eight, sixteen = read_images(rows, "image", 0, 2, seen)
    assert np.array_equal(eight, sixteen)
    assert len(np.unique(eight)) == 64


def test_a_refused_picture_is_named_with_file_and_row(folder_of_pictures, tmp_path):
    rows = folder_of_pictures(Image.fromarray(GREY), Image.fromarray(GREY.astype(np.float32)))
    with pytest.raises(HarnessError, match=r"image of row 2 \(.*1\.tiff\) cannot be read: mode F"):
        read_images(rows, "image", 0, 2, as_rgb)
    whole = (tmp_path / "0.tiff").read_bytes()
    (tmp_path / "0.tiff").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HarnessError, match=r"image of row 1 \(.*0\.tiff\) cannot be read"):
        read_images(rows, "image", 0, 1, as_rgb)
