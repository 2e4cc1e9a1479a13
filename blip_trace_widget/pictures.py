"""Any picture that users have at hand, as RGB.

For: one reading of files, bytes, arrays, tensors and PIL images, whatever mode their pixels are in; the same picture
gives the same pixels. What cannot be read, or told apart, is refused with what was given and a way out.
Cost: decoding.
Ends: at a PIL image in mode RGB, a copy. What the model makes of it is its processor's.

Of a file with several frames the first is taken. It is turned as its Orientation tag says; no other tag is read.
Transparent pixels lie over white, as viewers show them. Pixels of more than 8 bits, and those of the modes I and F,
are scaled by the largest there is: up to 255 they are what 8 bits hold, up to 1023, 4095, 16383 or 65535 what 10, 12,
14 or 16 hold; floating point up to 1 is a share of white. So a 12-bit picture in a 16-bit file is not black.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

ImageLike: TypeAlias = "Image.Image | np.ndarray[Any, Any] | str | os.PathLike[str] | bytes | Mapping[str, Any] | Any"

ACCEPTED = (
    "a PIL image, a NumPy array or torch tensor (height, width[, 1, 3 or 4]) or (1, 3 or 4, height, width), a path, "
    "the bytes of a picture file, or {'bytes': ..., 'path': ...}"
)
#: How far floating point pixels may be beyond 0 and 1, where an interpolation went too far; they are cut off.
BEYOND = 0.01
#: How many bits pixels of more than 8 have.
BITS = (8, 10, 12, 14, 16)
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
_ORIENTATION = 0x0112
#: How files begin that hold no pixels, or need another reader.
_OTHERS = (
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg", "an SVG drawing: save it as PNG first"),
    (rb"\s*<(!doctype )?html", "a web page: save the picture itself"),
    (rb"%PDF", "a PDF: save the page as PNG first"),
    (rb".{4}ftyp(hei|hev|mif|avi)", "HEIC or AVIF, which Pillow cannot read here: save it as JPEG or PNG first"),
)


def as_image(image: ImageLike) -> Image.Image:
    """A picture in RGB, from what users have at hand.

    Raises:
        TypeError: if it is of no accepted type.
        ValueError: if it cannot be read as a picture, or its pixels cannot be told.
        OSError: if a path cannot be opened.
    """
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if _is_tensor(image):
        return _of_tensor(image)
    if isinstance(image, Image.Image):
        return _guarded(image, str(getattr(image, "filename", "")))
    if isinstance(image, Mapping):
        return _of_mapping(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _of_bytes(bytes(image), "")
    if isinstance(image, (str, os.PathLike)):
        return _of_path(os.fspath(image))
    if callable(getattr(image, "read", None)):
        return _of_file(image)
    raise TypeError(f"image: expected {ACCEPTED}, got {type(image).__name__}")


def picture_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels, hexadecimal."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def _is_tensor(image: Any) -> bool:
    torch = sys.modules.get("torch")  # who has a tensor has torch
    return torch is not None and isinstance(image, torch.Tensor)


def _of_tensor(tensor: Any) -> Image.Image:
    numbers = tensor.detach().cpu()
    return _of_array(numbers.float().numpy() if numbers.is_floating_point() else numbers.numpy())


# --- files -----------------------------------------------------------------------------------------------------------


def _of_path(path: str | bytes) -> Image.Image:
    name = os.fsdecode(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", name):
        raise ValueError(
            f"image: expected {ACCEPTED}, got the address {name[:80]!r}. Nothing is fetched from the network here: "
            "save the picture and give its path, or give its bytes: urllib.request.urlopen(address).read()"
        )
    try:
        place = Path(name)
        if place.exists() and not (place.is_file() or place.is_dir()):  # a device may be without an end
            raise ValueError(f"image: expected {ACCEPTED}, {name!r} is no regular file")
        content = place.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"image: no such file: {name!r}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"image: expected {ACCEPTED}, {name!r} is a folder") from None
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise ValueError(f"image: {name!r} is no path: {error}") from None
    except OSError as error:
        told = name if len(name) < 200 else name[:80] + " …"
        raise OSError(error.errno, f"image: {told!r} cannot be opened ({error.strerror or error})") from error
    return _of_bytes(content, name)


def _of_file(file: Any) -> Image.Image:
    try:
        content = file.read()
    except Exception as error:
        raise _unreadable("", error) from error
    if not isinstance(content, bytes):
        raise TypeError(
            f"image: expected a file opened in binary mode ('rb'), reading this gives {type(content).__name__}"
        )
    return _of_bytes(content, str(getattr(file, "name", "")))


def _of_mapping(image: Mapping[str, Any]) -> Image.Image:
    """The form in which Hugging Face data sets keep pictures that are not decoded."""
    content, path = image.get("bytes"), image.get("path")
    if content is not None:
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise TypeError(f"image: expected bytes under 'bytes', got {type(content).__name__}")
        return _of_bytes(bytes(content), str(path or ""))
    if isinstance(path, (str, os.PathLike)):
        return _of_path(os.fspath(path))
    raise ValueError(f"image: expected {ACCEPTED}, got a mapping with {sorted(map(str, image))}")


def _of_bytes(content: bytes, name: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content)) as file:
            return _rgb(file)
    except _Told as error:
        raise ValueError(f"image: {_called(name)}{error}") from error.__cause__
    except Exception as error:  # whatever a decoder raises about a damaged file
        raise _unreadable(name, error, content) from error


def _guarded(image: Image.Image, name: str) -> Image.Image:
    try:
        return _rgb(image)
    except _Told as error:
        raise ValueError(f"image: {_called(name)}{error}") from error.__cause__
    except Exception as error:  # of a lazy image the file is read now, which may be closed, gone or damaged
        raise _unreadable(name, error) from error


class _Told(Exception):  # noqa: N818 - it becomes a ValueError that names the file
    """Why a picture that can be read is not taken."""


def _called(name: str) -> str:
    return f"{name!r}: " if name else ""


def _unreadable(name: str, error: Exception, content: bytes | None = None) -> ValueError:
    reason: Any = f"{type(error).__name__}: {error}"
    if content is not None and isinstance(error, UnidentifiedImageError):
        found = (told for start, told in _OTHERS if re.match(start, content[:2000], re.DOTALL | re.IGNORECASE))
        reason = "it is empty" if not content else f"it is {next(found, 'no picture file that is known here')}"
    elif isinstance(error, Image.DecompressionBombError):
        reason = f"it is too large; make it smaller first: {error}"
    what = repr(name) if name else "this"
    return ValueError(f"image: expected {ACCEPTED}; {what} cannot be read as a picture ({reason})")


# --- pixels ----------------------------------------------------------------------------------------------------------


def _rgb(image: Image.Image) -> Image.Image:
    """A PIL image upright, opaque and in RGB."""
    if not image.width or not image.height:
        raise _Told("expected a picture, got one without pixels")
    image.load()
    return _opaque(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a damaged tag says nothing
        turn = None
    return image if turn is None else image.transpose(turn)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.mode == "LAB":
        raise _Told(
            "its pixels are in LAB, which depends on a profile. Convert it first, with PIL.ImageCms.profileToProfile"
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        clear = image.convert("LA") if image.mode == "La" else image
        over = clear.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def _eight_bits(numbers: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    """Numbers of any kind as the 8 bits that they stand for.

    Raises:
        _Told: if that cannot be told.
    """
    if numbers.dtype == np.bool_:
        return np.asarray(numbers * np.uint8(255))
    if numbers.dtype == np.uint8:
        return numbers
    low, high = float(numbers.min()), float(numbers.max())
    told = f"{what} of {numbers.dtype} from {low:g} to {high:g}"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _Told(f"expected finite numbers, got {told}")
    if np.issubdtype(numbers.dtype, np.floating) and low >= -BEYOND and high <= 1 + BEYOND:
        return np.round(np.clip(numbers.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    whole = np.issubdtype(numbers.dtype, np.integer) or (what == "F" and high >= 2)
    if not whole or low < 0 or high >= 2 ** BITS[-1] or high == 1:
        raise _Told(
            f"expected 8-bit numbers, floating point from 0 to 1, or whole numbers of up to {BITS[-1]} bits, got "
            f"{told}. Scale it so that 255 is white and convert it: array.astype('uint8')"
        )
    bits = next(bits for bits in BITS if high < 2**bits)
    rounded = np.round(numbers).astype(np.int64)
    eight: np.ndarray[Any, Any] = (rounded >> (bits - 8)).astype(np.uint8)
    return eight


def _of_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_) or np.iscomplexobj(array):
        raise ValueError(f"image: expected {ACCEPTED}, got an array of {array.dtype}")
    if array.ndim not in (2, 3) or not array.size:
        remedy = "; take one picture of the batch, image[0]" if array.ndim == 4 and array.size else ""
        raise ValueError(f"image: expected {ACCEPTED}, got an array of shape {array.shape}{remedy}")
    if array.ndim == 3:
        array = _channels_last(array)
    try:
        pixels = np.ascontiguousarray(_eight_bits(array, "an array"))
        return _opaque(Image.fromarray(pixels)).convert("RGB")
    except _Told as error:
        raise ValueError(f"image: {error} (shape {array.shape})") from None


def _channels_last(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(height, width) or (height, width, 3 or 4)."""
    first, last = array.shape[0] in (1, 3, 4), array.shape[2] in (1, 3, 4)
    if first == last:
        what = "its channels may be the first axis or the last" if first else "no axis is its 1, 3 or 4 channels"
        told = f"an array of shape {array.shape}, from {array.min()} to {array.max()}"
        remedy = ". Give PIL.Image.fromarray(array), which takes the last" if first else ""
        raise ValueError(f"image: expected {ACCEPTED}, got {told}: {what}{remedy}")
    array = np.moveaxis(array, 0, 2) if first else array
    return array[:, :, 0] if array.shape[2] == 1 else array
