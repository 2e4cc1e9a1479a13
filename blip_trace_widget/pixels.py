"""What the numbers of a picture mean: orientation, transparency and value range.

For: `blip_trace_widget.pictures`, which reads them.
Cost: a few passes over the pixels; 8-bit RGB is only copied.
Ends: at 8-bit RGB. Where the meaning is ambiguous, the error says what was found.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from PIL import Image

#: The accepted shapes of arrays.
SHAPES = "(height, width[, 1, 3 or 4]) or (1 or 3, height, width)"
#: How far floating point pixels may lie outside 0 to 1, by rounding or a resize that overshoots; they are clipped.
BEYOND = 0.01
#: Bit depths of pixels of more than 8 bits.
DEPTHS = (10, 12, 14, 16)
#: Orientation tag -> the transposition that turns the picture upright (Exif 2.32, section 4.6.4).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _SHORT = 0x0112, 3


class UnclearError(Exception):
    """Why a picture was read but not accepted."""


def rgb(image: Image.Image) -> Image.Image:
    """A PIL image turned upright, made opaque and converted to RGB.

    Raises:
        UnclearError: if it has no pixels, or it is not clear what they mean.
    """
    if not image.width or not image.height:
        raise UnclearError("expected a picture, got one without pixels")
    image.load()
    flat = _opaque(_upright(image))
    flat.info = {}  # otherwise the next reader would turn it again
    return flat


def _upright(image: Image.Image) -> Image.Image:
    try:
        value: Any = image.getexif().get(_ORIENTATION)
        if value is None:
            value = _orientation(image.info.get("exif", b""))
        turn = _TURNS.get(value)
    except Warning:
        raise
    except Exception:  # noqa: BLE001 - a damaged tag is ignored
        turn = None
    return image if turn is None else image.transpose(turn)


def _orientation(exif: bytes) -> int | None:
    """The orientation in an EXIF block: Pillow reads nothing after the first damaged tag."""
    pillow = Image.Exif()
    pillow.load(exif)
    if _ORIENTATION in pillow:  # the user removed it
        return None
    block = exif.removeprefix(b"Exif\0\0")
    order = "<" if block.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for number in range(count):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * number)
        if (tag, kind, values) == (_ORIENTATION, _SHORT, 1):
            return int(value)
    return None


def _opaque(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if image.mode == "F" or image.mode.startswith("I"):
        numbers = np.asarray(image)
        pixels = _eight_bits(numbers, f"mode {image.mode}", whole=True)
        return Image.fromarray(pixels if key is None else np.where(numbers == key, np.uint8(255), pixels)).convert(
            "RGB"
        )
    if image.mode == "LAB":
        raise UnclearError(
            "expected RGB, got LAB, whose colours depend on a profile. Convert it first: ImageCms.profileToProfile("
            "image, ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB'), outputMode='RGB')"
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or (key is not None and image.mode in ("1", "L", "P", "RGB")):
        clear = image.convert("LA") if image.mode == "La" else image
        over = clear.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def _eight_bits(numbers: np.ndarray[Any, Any], what: str, *, whole: bool = False) -> np.ndarray[Any, Any]:
    """Pixels of any type scaled to 8 bits.

    Args:
        numbers: the pixels, of any shape.
        what: a description of them, for the error.
        whole: whether floating point may hold whole numbers, as Pillow's mode F does.

    Raises:
        UnclearError: if their range is ambiguous.
    """
    if numbers.dtype == np.bool_:
        return numbers.astype(np.uint8) * np.uint8(255)
    if numbers.dtype == np.uint8:
        return numbers
    floats = numbers.dtype.kind == "f"
    if floats and not np.isfinite(numbers).all():
        finite = np.isfinite(numbers)
        ends = (numbers[finite].min(), numbers[finite].max()) if finite.any() else ()
        some = " beside finite ones from {:g} to {:g}".format(*ends) if ends else ""
        raise UnclearError(f"expected finite numbers, got {what} with NaN or infinity{some}")
    low, high = float(numbers.min()), float(numbers.max())
    found = f"{what} from {low:g} to {high:g}"
    if floats and low >= -BEYOND and high <= 1 + BEYOND:
        return np.asarray(np.round(np.clip(numbers.astype(np.float64), 0, 1) * 255), dtype=np.uint8)
    if 2 <= high < 255.5 and low > -0.5 and (whole or not floats):
        return np.asarray(np.round(numbers), dtype=np.uint8)
    depth = next((bits for bits in DEPTHS if high < 2**bits), 0)
    exact = not floats or (whole and bool((numbers == np.round(numbers)).all()))
    if exact and low >= 0 and high >= 512 and depth:
        whole_numbers = numbers.astype(np.int32) if floats else numbers
        return np.asarray(whole_numbers >> (depth - 8), dtype=np.uint8)
    if not floats and low == high == 0:
        return np.zeros(numbers.shape, np.uint8)
    raise UnclearError(
        f"expected numbers of 8 bits, or of {', '.join(map(str, DEPTHS))} bits with a largest above 511, or floating "
        f"point from 0 to 1; got {found}. Scale it so that 0 is black and 255 is white, and give "
        "numpy.asarray(image).astype('uint8')"
    )


def rgb_of_array(array: np.ndarray[Any, Any]) -> Image.Image:
    """The picture in an array, see `SHAPES`.

    Raises:
        UnclearError: if its type, shape or range is ambiguous.
    """
    what = f"an array of {array.dtype} and shape {array.shape}"
    if array.dtype.kind not in "buif":
        raise UnclearError(f"expected an array of numbers, got {what}")
    if array.ndim not in (2, 3) or not array.size:
        remedy = "; take one picture of the batch, image[0]" if array.ndim == 4 and array.size else ""
        raise UnclearError(f"expected an array {SHAPES}, got {what}{remedy}")
    channels = _channels_last(array, what)
    # The alpha channel may have another range than the colours.
    parts = (channels[:, :, :3], channels[:, :, 3:])
    pixels = np.dstack([_eight_bits(part, what) for part in parts if part.size])
    return rgb(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _channels_last(array: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    """The array as (height, width, channels), with 1, 3 or 4 channels."""
    if array.ndim == 2:
        return array[:, :, None]
    first, last = array.shape[0] in (1, 3), array.shape[2] in (1, 3, 4)
    if first == last:
        ambiguity = "its channels may be the first axis or the last" if first else "no axis is its channels"
        remedy = ". Give PIL.Image.fromarray(array), which takes the last" if first else ""
        raise UnclearError(f"expected {SHAPES}, got {what} from {array.min()} to {array.max()}: {ambiguity}{remedy}")
    return np.moveaxis(array, 0, 2) if first else array
