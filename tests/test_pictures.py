"""Pictures of other people: every mode, every kind of file, damaged ones too."""

import dataclasses
import gc
import io
import itertools
import pathlib
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, features

from blip_trace_widget import GaussianNoise, ImageSwap, Tracer, trace_dataset
from blip_trace_widget.dataset.batch import Batch, Plan, trace_batch
from blip_trace_widget.dataset.samples import NamedPicture, Sample, as_samples
from blip_trace_widget.pictures import as_image
from helpers.front_end import take
from helpers.widgets import quick_widget

RANDOM = np.random.default_rng(5)
PIXELS = RANDOM.integers(0, 256, (12, 18, 3), dtype=np.uint8)
PIXELS[0, 0], PIXELS[0, 1] = 255, 0
PICTURE = Image.fromarray(PIXELS)
GRAY = PIXELS[:, :, 0].copy()
#: What each format is called, and how it is written.
FORMATS = {
    "PNG": {},
    "JPEG": {"quality": 95},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
    "PPM": {},
    "ICO": {"sizes": [(8, 8)]},
    "DDS": {},
    "TGA": {"compression": "tga_rle"},
    "PCX": {},
    "SGI": {},
    "MPO": {"save_all": True, "append_images": [PICTURE]},
    "JPEG2000": {},
    "ICNS": {},
}
if features.check("avif"):
    FORMATS["AVIF"] = {"quality": 100, "subsampling": "4:4:4"}


def pixels(image):
    return np.asarray(as_image(image))


def written(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def same(image, expected=PIXELS):
    np.testing.assert_array_equal(pixels(image), expected)


def gray(image):
    same(image, np.dstack([GRAY] * 3))


# --- what is read ----------------------------------------------------------------------------------------------------


def test_the_same_picture_from_wherever_it_comes(tmp_path):
    path = tmp_path / "picture.png"
    PICTURE.save(path)
    content = path.read_bytes()
    with path.open("rb") as file:
        same(file)
    for image in (
        *(PICTURE, Image.open(path), path, str(path), content, bytearray(content), memoryview(content)),
        memoryview(content[::-1])[::-1],
        io.BytesIO(content),
        {"bytes": content, "path": None},
        {"bytes": content, "path": "https://elsewhere/picture.png"},
        {"bytes": None, "path": str(path)},
        {"path": path},
    ):
        same(image)


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64", "bool", "int64", "uint16", "int32"])
@pytest.mark.parametrize("layout", ["last", "first"])
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_arrays_and_tensors_of_every_type_and_layout(kind, layout, make):
    array, expected = PIXELS, PIXELS
    if kind == "bool":
        array, expected = PIXELS > 127, (PIXELS > 127) * np.uint8(255)
    elif kind.startswith("float"):
        array = (PIXELS / 255).astype(kind)
    else:
        array = PIXELS.astype(kind)
    if layout == "first":
        array = np.ascontiguousarray(np.moveaxis(array, 2, 0))
    same(make(array), expected)
    one = array[:1] if layout == "first" else array[:, :, :1]
    same(make(one), np.dstack([expected[:, :, 0]] * 3))
    same(make(one.squeeze()), np.dstack([expected[:, :, 0]] * 3))


def test_other_things_that_are_arrays():
    class Array:
        def __array__(self, dtype=None, copy=None):
            return PIXELS

    same(Array())
    same(np.ma.masked_array(PIXELS, PIXELS > 100))
    gray(np.asmatrix(GRAY))
    same(PIXELS[::-1, ::-1][::-1, ::-1])
    same(np.asfortranarray(PIXELS))
    same(PIXELS.astype(">u2"))


def test_what_is_opaque_may_be_told_in_other_units():
    for full in (255, 4095, 65535):
        same(np.dstack([PIXELS.astype(np.uint16), np.full(GRAY.shape, full, np.uint16)]))
    half = np.dstack([np.zeros((4, 4, 3)), np.full((4, 4), 0.5)])
    same(half, np.full((4, 4, 3), 127))


def test_an_open_file_is_left_where_it_stood():
    file = io.BytesIO(b"xx" + written(PICTURE, "PNG"))
    file.seek(2)
    same(file)
    same(file)


def test_tensors_that_are_part_of_something():
    tensor = (torch.as_tensor(PIXELS) / 255).requires_grad_()
    same(tensor)
    same(tensor.permute(2, 0, 1))
    same(torch.nn.Parameter(tensor.detach()))
    same(torch.complex(torch.zeros(tensor.shape), -tensor.detach()).conj().imag)  # negated when it is looked at
    assert np.abs(pixels(tensor.bfloat16()).astype(int) - PIXELS).max() <= 1
    with torch.inference_mode():
        same(torch.as_tensor(PIXELS))


def test_rounding_beyond_the_ends_is_cut_off():
    array = PIXELS / 255
    array[0, 0], array[0, 1] = 1.0000002, -1e-6
    same(array)
    same(array.astype(np.float32))
    array[0, 0] = 1.2
    with pytest.raises(ValueError, match=r"got an array of float64 and shape \(12, 18, 3\) from -1e-06 to 1\.2"):
        as_image(array)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (
            np.zeros((3, 5, 3), np.uint8),
            r"shape \(3, 5, 3\) from 0 to 0: its channels may be the first axis or the last",
        ),
        (np.zeros((5, 6, 7), np.uint8), r"shape \(5, 6, 7\) from 0 to 0: no axis is its channels"),
        (np.zeros((2, 3, 20, 20), np.uint8), r"\(2, 3, 20, 20\); take one picture of the batch, image\[0\]"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
        (np.zeros(9, np.uint8), r"\(9,\)"),
        (PIXELS * 1.0, "from 0 to 255.*astype"),
        (PIXELS / 127.5 - 1, "from -1 to 1"),
        (PIXELS.astype(np.int64) - 3, "from -3 to 252"),
        (PIXELS.astype(np.int64) * 1000, "from 0 to 255000"),
        ((PIXELS > 100).astype(np.int64), "from 0 to 1"),
        (np.full((5, 5), np.nan), r"finite numbers, got an array of float64 and shape \(5, 5\) with NaN or infinity"),
        (np.array([[np.nan, 0.25], [np.inf, 0.5]]), "beside finite ones from 0.25 to 0.5"),
        (np.full((5, 5), np.inf), "finite numbers"),
        (PIXELS.astype(np.uint16) + 9, "with a largest above 511.*from 9 to 264"),
        (np.full((5, 5), 1j), "an array of complex128"),
        (np.zeros((5, 5), "m8[s]"), "an array of timedelta64"),
        (np.zeros((4, 12, 18), np.uint8), r"shape \(4, 12, 18\).*no axis"),
        (np.full((5, 5), "a"), "an array of <U1"),
        (np.full((5, 5), None), "an array of object"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_shape_and_range(array, told):
    with pytest.raises(ValueError, match=f"image: .*{told}"):
        as_image(array)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "RGBa"])
def test_modes_of_colour(mode):
    picture = PICTURE.convert("RGBA").convert("RGBa") if mode == "RGBa" else PICTURE.convert(mode)
    same(picture)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_modes_that_round(mode):
    assert np.abs(pixels(PICTURE.convert(mode)).astype(int) - PIXELS).max() <= {"CMYK": 0, "YCbCr": 3, "HSV": 12}[mode]


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(GRAY),
        Image.fromarray(GRAY).convert("LA"),
        Image.fromarray(GRAY).convert("I"),
        Image.fromarray(GRAY).convert("F"),
        Image.fromarray((GRAY / 255).astype(np.float32)),
        Image.fromarray(GRAY.astype(np.int32) * 257),
        Image.fromarray(GRAY.astype(np.uint16)),
        Image.fromarray(GRAY.astype(np.uint16) * 4),
        Image.fromarray(GRAY.astype(np.uint16) * 16),
        Image.fromarray(np.round(GRAY * (4095 / 255)).astype(np.uint16)),
        Image.fromarray(GRAY.astype(np.uint16) * 256),
        Image.fromarray(GRAY.astype(np.uint16) * 257),
        Image.fromarray(GRAY.astype(np.float32) * 257),
        Image.fromarray((GRAY - 0.2).astype(np.float32)),
        Image.frombytes("I;16B", (18, 12), (GRAY.astype(">u2") * 257).tobytes()),
        Image.frombytes("I;16L", (18, 12), (GRAY.astype("<u2") * 257).tobytes()),
        Image.frombytes("I;16N", (18, 12), (GRAY.astype("=u2") * 257).tobytes()),
        Image.fromarray(GRAY.astype(np.uint16) * 257).convert("I"),
        Image.fromarray(GRAY).convert("P"),
    ],
    ids=lambda picture: picture.mode,
)
def test_a_gray_picture_is_the_same_in_every_mode(picture):
    gray(picture)


def test_gray_files_of_more_than_8_bits(tmp_path):
    for numbers in (GRAY.astype(np.uint16) * 257, GRAY.astype(np.uint16) * 16, GRAY.astype(np.uint16)):
        for kind in ("PNG", "TIFF"):
            gray(written(Image.fromarray(numbers), kind))
        gray(numbers)
    gray(written(Image.fromarray((GRAY / 255).astype(np.float32)), "TIFF"))
    same(Image.new("I", (18, 12)), np.zeros_like(PIXELS))


def test_black_and_white_and_palettes():
    mask = GRAY > 127
    same(Image.fromarray(mask), np.dstack([mask * np.uint8(255)] * 3))
    few = PICTURE.quantize(16)
    same(few, np.asarray(few.convert("RGB")))
    same(few.convert("PA"), np.asarray(few.convert("RGB")))


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (Image.fromarray(np.full((4, 4), -2, np.int32)), "got mode I from -2 to -2"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), "70000"),
        (Image.fromarray(np.full((4, 4), 1, np.int32)), "got mode I from 1 to 1"),
        (Image.fromarray(np.full((4, 4), 1.5, np.float32)), "got mode F from 1.5 to 1.5"),
        (Image.fromarray(np.full((4, 4), 258.25, np.float32)), "258.25"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "finite"),
        (Image.fromarray(np.full((4, 4), 1e9, np.float32)), "1e\\+09"),
        (Image.new("LAB", (4, 4)), "LAB.*ImageCms"),
        (Image.new("RGB", (0, 4)), "without pixels"),
    ],
    ids=["negative", "large", "0 and 1", "between", "overshoot", "nan", "F", "LAB", "empty"],
)
def test_pixels_that_cannot_be_told_are_refused(picture, told):
    with pytest.raises(ValueError, match=f"image: .*{told}"):
        as_image(picture)


def test_the_remedy_for_lab_is_one():
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(PICTURE, *profiles, outputMode="LAB")
    with pytest.raises(ValueError, match="got LAB"):
        as_image(lab)
    back = ImageCms.profileToProfile(lab, *reversed(profiles), outputMode="RGB")
    assert np.abs(pixels(back).astype(int) - PIXELS).mean() < 3


def test_transparent_pixels_lie_over_white(tmp_path):
    clear = PICTURE.convert("RGBA")
    clear.putalpha(Image.fromarray((GRAY > 127).astype(np.uint8) * 255))
    expected = np.where((GRAY > 127)[:, :, None], PIXELS, 255)
    same(clear, expected)
    same(np.asarray(clear), expected)
    for kind in ("PNG", "WEBP", "TIFF"):
        same(written(clear, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})), expected)
    half = Image.new("LA", (4, 4), (0, 128))
    same(half, np.full((4, 4, 3), 127))
    half = PICTURE.convert("RGBA")
    half.putalpha(100)
    assert np.abs(pixels(half.convert("RGBa")).astype(int) - pixels(half)).max() <= 1
    half = half.convert("LA")
    assert np.abs(pixels(half.convert("La")).astype(int) - pixels(half)).max() <= 1
    few = PICTURE.quantize(16).convert("PA")
    few.putalpha(Image.fromarray((GRAY > 127).astype(np.uint8) * 255))
    same(few, np.where((GRAY > 127)[:, :, None], np.asarray(few.convert("RGB")), 255))
    keyed = written(Image.new("RGB", (4, 4), (10, 20, 30)), "PNG", transparency=(10, 20, 30))
    same(keyed, np.full((4, 4, 3), 255))
    deep = Image.fromarray(GRAY.astype(np.uint16) * 257)
    keyed = np.where(GRAY[3, 3] == GRAY, 255, GRAY)
    same(written(deep, "PNG", transparency=int(GRAY[3, 3]) * 257), np.dstack([keyed] * 3))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 200, 10, 20])
    palette.info["transparency"] = 1
    same(palette, np.full((4, 4, 3), 255))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "RGBX", "F"])
def test_a_key_that_the_mode_does_not_know_is_left_alone(mode):
    picture = PICTURE.convert(mode)
    expected = pixels(picture)
    picture.info["transparency"] = (1, 2, 3) if mode != "F" else b"\1"
    same(picture, expected)


# --- orientation -----------------------------------------------------------------------------------------------------


ORIENTATION_6 = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


def entries(tags):
    """An EXIF block of (tag, type, count, 4 bytes)."""
    body = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + b"\0\0\0\0"


def exif(orientation, *, ascii_width=False):
    """Orientation, and an ImageWidth that is a text, as phones and scripts write it."""
    width = [(0x0100, 2, 4, b"12\0\0")] if ascii_width else []
    return entries([*width, (0x0112, 3, 1, struct.pack("<HH", orientation, 0))])


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind in ("JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF")])
def test_pictures_stand_upright_as_viewers_show_them(orientation, kind):
    options = dict(FORMATS[kind])
    if kind == "TIFF" and orientation in range(1, 9):  # Pillow writes no other
        options["tiffinfo"] = {0x0112: orientation}
    elif kind != "TIFF":
        options["exif"] = exif(orientation)
    content = written(PICTURE, kind, **options)
    with Image.open(io.BytesIO(content)) as file:
        expected = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    same(content, expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_badly_typed_tag_beside_the_orientation_matters_not(kind):
    content = written(PICTURE, kind, **FORMATS[kind], exif=exif(6, ascii_width=True))
    upright = np.rot90(pixels(written(PICTURE, kind, **FORMATS[kind])), -1)
    same(content, upright)
    random = np.random.default_rng(4)
    for _ in range(100):
        others = [
            (int(tag), int(random.integers(0, 17)), int(random.choice([0, 1, 2, 5, 1000])), random.bytes(4))
            for tag in random.choice(
                [0x0100, 0x0101, 0x010F, 0x011A, 0x0128, 0x0132, 0x8769, 0x8825, 0x02BC, 0xA005], 4
            )
        ]
        same(written(PICTURE, kind, **FORMATS[kind], exif=entries([*others, ORIENTATION_6])), upright)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_tag_in_xmp_is_read_where_there_is_no_other(kind):
    xmp = b"<x:xmpmeta xmlns:tiff='http://ns.adobe.com/tiff/1.0/'><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"
    options = dict(FORMATS[kind])
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif kind == "TIFF":
        options["tiffinfo"] = {700: xmp}
    else:
        options["xmp"] = xmp
    content = written(PICTURE, kind, **options)
    with Image.open(io.BytesIO(content)) as file:
        expected = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    same(content, expected)
    assert expected.shape == (18, 12, 3)


@pytest.mark.parametrize(
    ("kind", "count", "data"),
    [
        (1, 1, b"\6\0\0\0"),
        (4, 1, b"\6\0\0\0"),
        (2, 2, b"6\0\0\0"),
        (3, 2, b"\6\0\6\0"),
        (7, 1, b"\6\0\0\0"),
        (11, 1, struct.pack("<f", 6.0)),
        (0, 1, b"\6\0\0\0"),
        (3, 1000, b"\6\0\0\0"),
        (3, 0, b"\6\0\0\0"),
    ],
)
def test_an_orientation_of_another_type_is_what_pillow_makes_of_it(kind, count, data):
    content = written(PICTURE, "PNG", exif=entries([(0x0112, kind, count, data)]))
    with Image.open(io.BytesIO(content)) as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    same(content, expected)


def test_an_orientation_that_is_none_is_ignored():
    for value in ("6", b"6", (6, 6), 6.5, None, -1, [6]):
        picture = PICTURE.copy()
        picture.getexif()[0x0112] = value
        same(picture)


def test_an_orientation_that_the_user_took_out_is_none():
    picture = Image.open(io.BytesIO(written(PICTURE, "PNG", exif=exif(6))))
    del picture.getexif()[0x0112]
    same(picture)


def test_a_picture_is_turned_once(demo, example):
    """Ours is read again on its way to the model."""
    upright = Image.fromarray(np.asarray(example.image).transpose(1, 0, 2))
    content = written(example.image, "PNG", exif=exif(5))
    same(as_image(content), np.asarray(upright))
    same(as_image(as_image(content)), np.asarray(upright))
    assert (
        Tracer(demo, content, "what color is it").clean.score == Tracer(demo, upright, "what color is it").clean.score
    )


# --- what is not read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        (3, TypeError, "expected a PIL image.*got int"),
        (None, TypeError, "got NoneType"),
        ([1, 2], TypeError, "got list"),
        (io.StringIO("x"), TypeError, "binary mode"),
        ({"bytes": "text"}, TypeError, "expected bytes under 'bytes', got str"),
        ({"url": "x"}, ValueError, r"a mapping with \['url'\]"),
        ({}, ValueError, "mapping"),
        ("https://example.org/cat.jpg", ValueError, r"the address 'https://example.org/cat.jpg'.*save.*bytes"),
        ("data:image/png;base64,iVBOR", ValueError, "address"),
        ("s3://bucket/key.png", ValueError, "address"),
        ("nowhere.png", FileNotFoundError, "image: no such file: 'nowhere.png'"),
        ("nowhere/at/all.png", FileNotFoundError, "no such file"),
        ("a" * 5000, OSError, "cannot be opened|no such file"),
        ("a\0b", ValueError, "no path|no such file"),
        (".", IsADirectoryError, "is a folder"),
        ("/dev/zero", ValueError, "no regular file"),
        (b"", ValueError, r"this cannot be read as a picture \(it is empty\)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ValueError, "it is an SVG drawing: save it as PNG"),
        (b"<?xml version='1.0'?>\n<svg/>", ValueError, "SVG"),
        (b"<!DOCTYPE html><html>", ValueError, "web page"),
        (b"%PDF-1.7", ValueError, "PDF"),
        (b"what is this", ValueError, "damaged, or of no format that is known here"),
        (
            b"\xef\xbb\xbf<?xml version='1.0'?><!-- <html --><x:svg xmlns:x='http://www.w3.org/2000/svg'/>",
            ValueError,
            "SVG",
        ),
        (b"<!---->" * 400, ValueError, "no format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", ValueError, "PostScript, a program"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", ValueError, "JPEG XL"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", ValueError, "git lfs pull"),
        (b"\x93NUMPY\1\0", ValueError, "numpy.load"),
        ("", FileNotFoundError, "an empty one"),
        (pathlib.Path("https://example.org/cat.jpg"), ValueError, "the address 'https:/example.org/cat.jpg'"),
        ({"bytes": None, "path": None}, ValueError, "None under both"),
        (torch.zeros(5, 5, device="meta"), ValueError, "this Tensor gives no array"),
        (torch.eye(5).to_sparse(), ValueError, "this Tensor gives no array"),
        (torch.zeros(5, 5, dtype=torch.complex64), ValueError, "complex64"),
        (b"\0\0\0\x18ftypheic\0\0", ValueError, "HEIC|picture"),
        (written(PICTURE, "PNG")[:60], ValueError, "cannot be read as a picture"),
    ],
)
def test_what_is_no_picture_is_told(given, kind, told):
    with pytest.raises(kind, match=f"(?s){told}"):
        as_image(given)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "half.jpg"
    path.write_bytes(written(PICTURE.resize((90, 90)), "JPEG")[:700])
    with pytest.raises(ValueError, match=r"half\.jpg' cannot be read as a picture"):
        as_image(path)


def test_lazy_pictures_whose_file_is_closed_gone_or_damaged(tmp_path):
    path = tmp_path / "picture.png"
    PICTURE.save(path)
    closed = Image.open(path)
    closed.close()
    with path.open("rb") as file:
        behind = Image.open(file)
    content = written(PICTURE.resize((200, 200)), "PNG")
    cut = Image.open(io.BytesIO(content[:300]))
    with pytest.raises(ValueError, match=r"picture\.png' cannot be read as a picture"):
        as_image(closed)
    for picture in (behind, cut):
        with pytest.raises(ValueError, match="cannot be read as a picture"):
            as_image(picture)


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ValueError, match="too large; make it smaller"):
        as_image(written(PICTURE, "PNG"))


def test_more_pixels_than_are_decoded_are_refused_by_their_number():
    file = written(PICTURE, "PNG")
    assert as_image(file, pixels=216).size == (18, 12)
    for source in (file, io.BytesIO(file), {"bytes": file}, Image.open(io.BytesIO(file))):
        with pytest.raises(ValueError, match=r"at most 215 pixels .*MAX_PIXELS.*got 18 x 12 = 216: make it smaller"):
            as_image(source, pixels=215)
    decoded = Image.open(io.BytesIO(file))
    decoded.load()
    assert as_image(decoded, pixels=215).size == (18, 12)
    large = written(Image.new("1", (9000, 9000)), "PNG")
    with pytest.raises(ValueError, match=r"at most 67108864 pixels .* 9000 x 9000"):
        as_image(large)


@pytest.mark.parametrize(("held", "pictures"), [(6 * 6767, 6), (3 * 6767, 4), (0, 1)])
def test_a_batch_holds_no_more_pictures_than_it_may(small, held, pictures):
    size, there, calls = (101, 67), [], itertools.count()

    def score(logits, answer):
        if next(calls) % 10 == 0:
            there.append(sum(type(each) is Image.Image and each.size == size for each in gc.get_objects()))
        return logits.softmax(-1)[..., 0, answer[0]]

    def samples():
        for seed in range(6):
            pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            yield Sample({"bytes": written(Image.fromarray(pixels), "PNG"), "path": None}, "is it red")

    def traced(held):
        plan = Plan.of("question_encoder", "block_output", GaussianNoise(samples=2), score, only_correct=False)
        return [table.to_pandas() for table in trace_batch(small, plan, Batch(0, 0, list(samples())), held)]

    rows, cells = traced(held)
    assert max(there) <= pictures + 1  # and the one that is being read
    whole, all_cells = traced(6 * 6767)
    assert list(rows["sample"]) == list(whole["sample"]) == list(range(6))
    np.testing.assert_allclose(rows["clean"], whole["clean"], atol=1e-6)
    np.testing.assert_allclose(cells["score"], all_cells["score"], atol=1e-6)


def test_warnings_that_are_errors_hide_no_picture(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # 216 are warned of, 400 refused
    damaged = entries([(0x0112, 3, 1000, b"\6\0\0\0"), (0x0100, 2, 4, b"12\0\0")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(written(PICTURE, "PNG", exif=damaged))


def test_the_first_frame_is_taken():
    other = Image.fromarray(255 - PIXELS)
    for kind, options in {"GIF": {}, "TIFF": {}, "WEBP": {"lossless": True}, "PNG": {}}.items():
        content = written(PICTURE, kind, save_all=True, append_images=[other], **options)
        same(content, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def test_a_picture_that_changes_later_changes_nothing(demo):
    for mine in (PIXELS.copy(), Image.fromarray(PIXELS.copy()), torch.as_tensor(PIXELS.copy())):
        tracer, swap = Tracer(demo, mine, "what is it"), ImageSwap(mine)
        if isinstance(mine, Image.Image):
            mine.paste("red", (0, 0, 18, 12))
        else:
            mine[:] = 7
        same(tracer.image)
        same(swap.image)


# --- whole runs ------------------------------------------------------------------------------------------------------


def test_no_picture_ends_a_data_sets_run(tmp_path, small):
    """Each is skipped with its name, in this run and in the next one."""
    badly = tmp_path / "badly.jpg"
    badly.write_bytes(written(PICTURE, "JPEG", exif=exif(6, ascii_width=True)))
    closed = Image.open(io.BytesIO(written(PICTURE, "PNG")))
    closed.close()
    damaged = tmp_path / "damaged.dds"
    damaged.write_bytes(written(PICTURE, "DDS")[:90] + b"\xff" * 60)
    pictures = [
        badly,
        closed,
        damaged,
        "https://example.org/a.png",
        np.full((3, 5, 3), 1),
        {"bytes": b"x", "path": None},
        5,
        io.BytesIO(written(PICTURE, "PNG")),
    ]
    samples = [(picture, "is it red", "blue") for picture in pictures]
    for _ in range(2):
        found = trace_dataset(
            samples,
            small,
            tmp_path / "out",
            corruption=GaussianNoise(samples=2),
            metric="kl_divergence",
            progress=False,
        )
        rows = found.samples
        assert list(rows["reason"].notna()) == [False, *[True] * 6, False]
        assert set(rows["reason"].dropna()) == {"the picture cannot be read"}
        assert "damaged.dds" in rows["why"][2]
        assert "address" in rows["why"][3]


def test_a_picture_that_travelled_to_a_worker_keeps_its_name(small):
    """What a cluster's worker gets: the file's bytes, and its name."""
    plan = Plan.of("question_encoder", "block_output", GaussianNoise(samples=2), "kl_divergence", only_correct=False)
    picture = NamedPicture("far/away.jpg", written(PICTURE, "JPEG")[:200])
    samples, _ = trace_batch(small, plan, Batch(0, 0, [Sample(picture, "is it red")]))
    assert "'far/away.jpg' cannot be read as a picture" in samples.to_pylist()[0]["why"]


class Rows:
    """A Hugging Face data set, as far as it matters here: it decodes pictures itself, and ends at a damaged one."""

    def __init__(self, rows, features, now):
        self.rows, self.features, self.format = rows, features, now
        self.column_names = list(rows[0])

    def cast_column(self, name, feature):
        return Rows(self.rows, self.features | {name: feature}, self.format)

    def with_format(self, kind, columns):
        return Rows(self.rows, self.features, {"type": kind, "columns": columns})

    def __iter__(self):
        for row in self.rows:
            if self.features["image"].decode:
                picture = ImageOps.exif_transpose(Image.open(io.BytesIO(row["image"]["bytes"])))
                yield row | {"image": picture if self.format["type"] is None else np.asarray(picture)}
            else:
                yield row


def hugging_face(now, mode=None):
    feature = dataclasses.make_dataclass("Image", [("mode", str, mode), ("decode", bool, True)])()
    damaged = (written(PICTURE, "JPEG", exif=exif(6, ascii_width=True)), written(PICTURE, "PNG")[:200])
    rows = [{"image": {"bytes": content, "path": "a"}, "question": "is it red"} for content in damaged]
    return Rows(rows, {"image": feature, "question": None}, {"type": now, "columns": ["image", "question"]})


@pytest.mark.parametrize("now", [None, "numpy", "torch"])
def test_a_hugging_face_data_set_does_not_end_at_a_damaged_picture(now):
    turned, cut = (sample.image for sample in as_samples(hugging_face(now)))
    assert as_image(turned).size == (12, 18)
    with pytest.raises(ValueError, match="'a' cannot be read"):
        as_image(cut)


def test_what_a_hugging_face_data_set_is_told_to_do_is_left_to_it():
    for rows in (hugging_face("custom"), hugging_face(None, mode="L")):
        with pytest.raises(struct.error):
            list(as_samples(rows))


def test_a_widget_says_what_is_wrong_with_a_dropped_file():
    widget = quick_widget()
    widget.wait(60)
    shown = widget.tracer.image
    for number, (content, told) in enumerate(
        [(b"<svg/>", "SVG"), (b"plain text", "cannot be read"), (b"", "one picture file")]
    ):
        take(widget, {"type": "image", "id": number + 1}, [memoryview(content)])
        widget.wait(30)
        assert told in widget.error
        assert widget.tracer.image is shown
    widget.close()


# --- damaged files ---------------------------------------------------------------------------------------------------


def originals():
    """Small files of every format that this Pillow writes, in several modes."""
    files = {}
    for kind, options in FORMATS.items():
        for mode in ("RGB", "L", "P", "RGBA", "1", "I;16", "CMYK"):
            try:
                picture = Image.fromarray(GRAY.astype(np.uint16) * 257) if mode == "I;16" else PICTURE.convert(mode)
                files[kind, mode] = written(picture, kind, **options)
            except (OSError, ValueError, KeyError, TypeError):
                continue
    for kind in ("JPEG", "PNG", "WEBP"):
        files[kind, "exif"] = written(PICTURE, kind, **FORMATS[kind], exif=exif(6, ascii_width=True))
    return files


def mutated(random, content):
    """A few bytes changed, left out, doubled, or the rest cut off; most of them near the beginning."""
    data = bytearray(content)
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(0, min(len(data), 200) if random.random() < 0.7 else len(data)))
        kind = random.integers(0, 6)
        if kind == 0:
            data[at] = random.integers(0, 256)
        elif kind == 1:
            data[at] ^= 1 << random.integers(0, 8)
        elif kind == 2:
            data[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
        elif kind == 3:
            del data[at : at + int(random.integers(1, 9))]
        elif kind == 4:
            data[at:at] = data[at : at + int(random.integers(1, 30))]
        else:
            del data[max(at, 8) :]
        if not data:
            break
    return with_its_sums(data) if random.random() < 0.5 else bytes(data)


def with_its_sums(data):
    """A PNG file's sums set right, so that a decoder does not stop at them; else what was given."""
    at = 8
    while data.startswith(b"\x89PNG") and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def end_of(content, lazily):
    """How reading ends; anything but a picture or our own error is a fault."""
    try:
        image = as_image(Image.open(io.BytesIO(content)) if lazily else content)
    except ValueError as error:
        return "refused" if str(error).startswith("image: ") else error
    return "read" if image.mode == "RGB" else image


def opens(content):
    try:
        Image.open(io.BytesIO(content))
    except Exception:  # noqa: BLE001 - whatever Pillow raises
        return False
    return True


def fuzz(count, seed):
    """How many files of each format were read, and refused."""
    random, files = np.random.default_rng(seed), list(originals().items())
    kinds = sorted({kind for (kind, _), _ in files})
    assert len(kinds) >= 10
    found = {kind: {"read": 0, "refused": 0} for kind in kinds}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(count):
            (kind, _), content = files[number % len(files)]
            damaged = mutated(random, content)
            end = end_of(damaged, lazily=number % 3 == 0 and opens(damaged))
            assert end in ("read", "refused"), (kind, damaged)
            found[kind][end] += 1
    assert all(ends["read"] and ends["refused"] for ends in found.values()), found
    return found


@pytest.fixture
def small_pictures_only(monkeypatch):
    """A damaged size may say gigabytes; such pictures are refused as any other bomb is."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)


def test_damaged_files_are_read_or_refused(small_pictures_only):
    fuzz(2000, seed=1)


@pytest.mark.slow
def test_twenty_thousand_damaged_files_are_read_or_refused(small_pictures_only):
    for kind, ends in fuzz(20_000, seed=2).items():
        print(f"{kind}: {ends['read']} read, {ends['refused']} refused")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP", b"<", b"%!PS"]),
    st.binary(max_size=200),
)
def test_any_bytes_are_read_or_refused(start, content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert end_of(start + content, lazily=False) in ("read", "refused")
