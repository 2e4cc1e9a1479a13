"""Any picture that users have at hand, as RGB.

For: one reading of files, bytes, arrays, tensors and PIL images, whatever mode their pixels are in; the same picture
gives the same pixels. What cannot be read, or told apart, is refused with what was given and a way out.
Cost: decoding.
Ends: at a PIL image in mode RGB, a copy without metadata. What the model makes of it is its processor's.

Of a file with several frames the first is taken. It is turned as its Orientation tag says; no other tag is read.
Transparent pixels lie over white, as viewers show them. Pixels of more than 8 bits, and those of the modes I and F,
are scaled by the largest there is: up to 255 they are what 8 bits hold, from 512 on what the next of 10, 12, 14 and 16
bits holds, and floating point up to 1 is a share of white. So a 12-bit picture in a 16-bit file is not black.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

ImageLike: TypeAlias = (
    "Image.Image | np.ndarray[Any, Any] | str | os.PathLike[str] | bytes | IO[bytes] | Mapping[str, Any] | Any"
)

ACCEPTED = (
    "a PIL image, a NumPy array or torch tensor (height, width[, 1, 3 or 4]) or (1 or 3, height, width), a path, "
    "the bytes of a picture file, a file opened in binary mode, or {'bytes': ..., 'path': ...}"
)
#: How far floating point pixels may be beyond 0 and 1, by rounding or where a resize went too far; they are cut off.
BEYOND = 0.01
#: How many bits pixels of more than 8 have.
DEPTHS = (10, 12, 14, 16)
#: Orientation tag -> how the picture is turned upright (Exif 2.32, section 4.6.4).
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
#: A scheme of one letter is a Windows drive; pathlib makes one slash of two.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:", re.ASCII)
#: How files begin that hold no pixels, or need another reader.
_OTHERS = (
    (rb"(?i)\s*<(!doctype\s+)?html\b", "a web page: save the picture itself"),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(\w+:)?svg\b", "an SVG drawing: save it as PNG first"),
    (rb"(?is)(\xef\xbb\xbf)?\s*<[?!].*<(\w+:)?svg\b", "an SVG drawing: save it as PNG first"),
    (rb"%PDF", "a PDF: save the page as PNG first"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript, a program that is not run here: save it as PNG first"),
    (rb"(?s).{4}ftyp(he|mif|msf|avi)", "HEIC or AVIF, which cannot be read here: save it as JPEG or PNG first"),
    (rb"(?s)\xff\x0a|.{4}JXL ", "JPEG XL, which cannot be read here: save it as JPEG or PNG first"),
    (rb"version https://git-lfs", "a pointer of Git LFS: get the file that it stands for with git lfs pull"),
    (rb"\x93NUMPY", "a NumPy file: give numpy.load(path)"),
)
#: Whose reader runs the file as a program.
_PROGRAMS = {"EPS"}
#: Filters of warnings are the whole process's.
_QUIETLY = threading.Lock()


class _Told(Exception):  # noqa: N818 - it becomes a ValueError that names the file
    """Why a picture that can be read is not taken."""


def as_image(image: ImageLike) -> Image.Image:
    """A picture in RGB, from what users have at hand.

    Several frames: the first. Transparent pixels lie over white. 16-bit, integer and floating point pixels are scaled
    by the largest of them: see the module.

    Raises:
        TypeError: if it is of no accepted type.
        ValueError: if it cannot be read as a picture, or its pixels cannot be told.
        OSError: if a path cannot be opened.
    """
    if isinstance(image, Image.Image):
        return _guarded(lambda: _rgb(image), _name(getattr(image, "filename", "")))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _of_file(io.BytesIO(image), "")
    if isinstance(image, (str, os.PathLike)):
        return _of_path(os.fspath(image))
    if isinstance(image, Mapping):
        return _of_mapping(image)
    if callable(getattr(image, "read", None)):
        return _of_stream(image)
    if hasattr(image, "__array__") or hasattr(image, "__array_interface__"):
        return _of_array(_as_array(image))
    raise TypeError(f"image: expected {ACCEPTED}, got {type(image).__name__}")


def picture_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels, hexadecimal."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


# --- files -----------------------------------------------------------------------------------------------------------


def opened(path: str | bytes | os.PathLike[str]) -> IO[bytes]:
    """The file of a picture, open.

    Raises:
        ValueError: if it is an address, or cannot be a file.
        OSError: if it cannot be opened.
    """
    name = _name(path)
    if _ADDRESS.match(name):
        raise ValueError(
            f"image: expected {ACCEPTED}, got the address {_short(name)!r}. Nothing is fetched from the network here: "
            "save the picture and give its path, or give its bytes: urllib.request.urlopen(address).read()"
        )
    place = Path(name)
    try:
        if not name:
            raise FileNotFoundError("image: expected the path of a picture, got an empty one")
        if place.is_dir():
            raise IsADirectoryError(f"image: expected the path of a picture, {_short(name)!r} is a folder")
        if place.exists() and not place.is_file():  # a device may have no end
            raise ValueError(f"image: expected the path of a picture, {_short(name)!r} is no regular file")
        return place.open("rb")
    except OSError as error:
        if error.errno is None:
            raise
        missing = isinstance(error, FileNotFoundError)
        told = f"no such file: {_short(name)!r}" if missing else f"{_short(name)!r} cannot be opened ({error.strerror})"
        raise type(error)(f"image: {told}") from None
    except ValueError as error:
        if str(error).startswith("image: "):
            raise
        raise ValueError(f"image: {_short(name)!r} is no path: {error}") from None


def _of_path(path: str | bytes) -> Image.Image:
    with opened(path) as file:
        return _of_file(file, _name(path))


def _of_stream(stream: Any) -> Image.Image:
    """From a file that somebody else opened; where that can be, it is left where it stood, to be read again."""
    name = _name(getattr(stream, "name", ""))
    try:
        back = stream.tell() if getattr(stream, "seekable", bool)() else None
        content = stream.read()
        if back is not None:
            stream.seek(back)
    except Exception as error:
        raise _unreadable(name, f"{type(error).__name__}: {error}") from error
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"image: expected a file opened in binary mode ('rb'), reading this gives {type(content).__name__}"
        )
    return _of_file(io.BytesIO(content), name)


def _of_mapping(image: Mapping[str, Any]) -> Image.Image:
    """From the form in which Hugging Face data sets keep pictures that are not decoded."""
    content, path = image.get("bytes"), image.get("path")
    if content is not None:
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise TypeError(f"image: expected bytes under 'bytes', got {type(content).__name__}")
        return _of_file(io.BytesIO(content), _name(path))
    if isinstance(path, (str, os.PathLike)):
        return _of_path(os.fspath(path))
    told = "None under both" if {"bytes", "path"} & set(image) else f"a mapping with {sorted(map(str, image))}"
    raise ValueError(f"image: expected {ACCEPTED}, got {told}")


def _of_file(file: IO[bytes], name: str) -> Image.Image:
    def read() -> Image.Image:
        file.seek(0)
        Image.init()
        with Image.open(file, formats=[kind for kind in Image.ID if kind not in _PROGRAMS]) as picture:
            return _rgb(picture)

    try:
        return _guarded(read, name)
    except ValueError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
        file.seek(0)
        start = file.read(2000)
        found = (told for pattern, told in _OTHERS if re.match(pattern, start))
        told = f"it is {next(found, 'damaged, or of no format that is known here')}" if start else "it is empty"
        raise _unreadable(name, told) from error.__cause__


def _guarded(read: Callable[[], Image.Image], name: str) -> Image.Image:
    """A picture that is read; a lazy one of a closed or damaged file may raise anything, and so may every decoder."""
    try:
        try:
            return read()
        except Warning:  # where warnings are errors; what only warns can be read
            with _QUIETLY, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return read()
    except _Told as error:
        raise ValueError(f"image: {f'{_short(name)!r}: ' if name else ''}{error}") from None
    except Image.DecompressionBombError as error:
        raise _unreadable(name, f"it is too large; make it smaller first: {error}") from error
    except Exception as error:
        raise _unreadable(name, f"{type(error).__name__}: {error}") from error


def _unreadable(name: str, reason: str) -> ValueError:
    what = repr(_short(name)) if name else "this"
    return ValueError(
        f"image: expected a picture such as a JPEG or PNG file; {what} cannot be read as a picture ({reason})"
    )


def _name(path: Any) -> str:
    return str(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""


def _short(name: str) -> str:
    return name if len(name) < 300 else f"{name[:80]} … {name[-80:]}"


# --- pixels ----------------------------------------------------------------------------------------------------------


def _rgb(image: Image.Image) -> Image.Image:
    """A PIL image upright, opaque and in RGB."""
    if not image.width or not image.height:
        raise _Told("expected a picture, got one without pixels")
    image.load()
    flat = _opaque(_upright(image))
    flat.info = {}  # or who reads it again would turn it again
    return flat


def _upright(image: Image.Image) -> Image.Image:
    try:
        value: Any = image.getexif().get(_ORIENTATION)
        if value is None:
            value = _orientation(image.info.get("exif", b""))
        turn = _TURNS.get(value)
    except Warning:
        raise
    except Exception:  # noqa: BLE001 - a damaged tag says nothing
        turn = None
    return image if turn is None else image.transpose(turn)


def _orientation(exif: bytes) -> int | None:
    """That of an EXIF block of which Pillow read nothing behind the first damaged tag."""
    pillow = Image.Exif()
    pillow.load(exif)
    if _ORIENTATION in pillow:  # the user took it out
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
        pixels = _eight_bits(numbers, image.mode, whole=True)
        return Image.fromarray(pixels if key is None else np.where(numbers == key, 255, pixels)).convert("RGB")
    if image.mode == "LAB":
        raise _Told(
            "expected RGB, got LAB, whose colours depend on a profile. Convert it first: ImageCms.profileToProfile("
            "image, ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB'), outputMode='RGB')"
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or (key is not None and image.mode in ("1", "L", "P", "RGB")):
        clear = image.convert("LA") if image.mode == "La" else image
        over = clear.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def _eight_bits(numbers: np.ndarray[Any, Any], what: str, *, whole: bool = False) -> np.ndarray[Any, Any]:
    """Numbers of any kind as the 8 bits that they stand for.

    Args:
        numbers: those of a picture.
        what: they are, for the error.
        whole: floating point holds whole numbers too, as Pillow's mode F does.

    Raises:
        _Told: if that cannot be told.
    """
    if numbers.dtype == np.bool_:
        return numbers.astype(np.uint8) * np.uint8(255)
    if numbers.dtype == np.uint8:
        return numbers
    floats, finite = numbers.dtype.kind == "f", np.isfinite(numbers)
    if not finite.all():
        ends = (numbers[finite].min(), numbers[finite].max()) if finite.any() else ()
        some = " beside finite ones from {:g} to {:g}".format(*ends) if ends else ""
        raise _Told(f"expected finite numbers, got {what} of {numbers.dtype} with NaN or infinity{some}")
    low, high = float(numbers.min()), float(numbers.max())
    told = f"{what} of {numbers.dtype} from {low:g} to {high:g}"
    if floats and low >= -BEYOND and high <= 1 + BEYOND:
        return np.asarray(np.round(np.clip(numbers.astype(np.float64), 0, 1) * 255), dtype=np.uint8)
    if 2 <= high < 255.5 and low > -0.5 and (whole or not floats):
        return np.asarray(np.round(numbers), dtype=np.uint8)
    depth = next((bits for bits in DEPTHS if high < 2**bits), 0)
    exact = not floats or (whole and bool((numbers == np.round(numbers)).all()))
    if exact and low >= 0 and high >= 512 and depth:
        return np.asarray(numbers.astype(np.int64) >> (depth - 8), dtype=np.uint8)
    if not floats and low == high == 0:
        return np.zeros(numbers.shape, np.uint8)
    raise _Told(
        f"expected numbers of 8 bits, or of {', '.join(map(str, DEPTHS))} bits with a largest above 511, or floating "
        f"point from 0 to 1; got {told}. Scale it so that 0 is black and 255 is white, and give "
        "numpy.asarray(image).astype('uint8')"
    )


# --- arrays ----------------------------------------------------------------------------------------------------------


def _as_array(image: Any) -> np.ndarray[Any, Any]:
    torch = sys.modules.get("torch")  # who has a tensor has torch
    try:
        if torch is not None and isinstance(image, torch.Tensor):
            tensor = image.detach().cpu()
            return np.asarray((tensor.double() if tensor.is_floating_point() else tensor).numpy(force=True))
        return np.asarray(image)
    except Exception as error:
        raise ValueError(f"image: expected {ACCEPTED}, this {type(image).__name__} gives no array ({error})") from error


def _of_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.dtype.kind not in "buif":
        raise ValueError(f"image: expected {ACCEPTED}, got an array of {array.dtype}")
    if array.ndim not in (2, 3) or not array.size:
        remedy = "; take one picture of the batch, image[0]" if array.ndim == 4 and array.size else ""
        raise ValueError(f"image: expected {ACCEPTED}, got an array of shape {array.shape}{remedy}")
    try:
        channels = _channels_last(array)
        # What is opaque may be said in other units than what is bright.
        parts = (channels[:, :, :3], channels[:, :, 3:])
        pixels = np.dstack([_eight_bits(part, "an array") for part in parts if part.size])
    except _Told as error:
        raise ValueError(f"image: {error} (shape {array.shape})") from None
    return _guarded(lambda: _rgb(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)), "")


def _channels_last(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(height, width, 1, 3 or 4).

    Raises:
        _Told: if that cannot be told.
    """
    if array.ndim == 2:
        return array[:, :, None]
    first, last = array.shape[0] in (1, 3), array.shape[2] in (1, 3, 4)
    if first == last:
        what = "its channels may be the first axis or the last" if first else "no axis is its 1, 3 or 4 channels"
        remedy = ". Give PIL.Image.fromarray(array), which takes the last" if first else ""
        raise _Told(f"expected {ACCEPTED}, got an array from {array.min()} to {array.max()}: {what}{remedy}")
    return np.moveaxis(array, 0, 2) if first else array
