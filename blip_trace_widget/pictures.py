"""Read any kind of picture that users may have, as RGB.

For: one way to read files, bytes, arrays, tensors and PIL images, whatever mode their pixels are in: the same picture
gives the same pixels. What cannot be read, or is ambiguous, is refused with what was given and a remedy.
Cost: decoding.
Ends: at a PIL image in mode RGB, a copy without metadata; the model's processor takes it from there.

Of a file with several frames the first is used. It is turned as its Orientation tag says; no other tag is read.
Transparent pixels are composited over white, as viewers show them. Pixels of more than 8 bits, and those of modes I and
F, are scaled by the largest value present: up to 255 they are read as 8 bits, from 512 on as the smallest of 10, 12, 14
and 16 bits that holds it, and floating point up to 1 as a share of white. So a 12-bit picture in a 16-bit file does not
come out black.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from blip_trace_widget.forks import Lock
from blip_trace_widget.pixels import SHAPES, UnclearError, rgb, rgb_of_array

ImageLike: TypeAlias = (
    "Image.Image | np.ndarray[Any, Any] | str | os.PathLike[str] | bytes | IO[bytes] | Mapping[str, Any] | Any"
)

ACCEPTED = (
    f"a PIL image, a NumPy array or torch tensor {SHAPES}, a path, the bytes of a picture file, "
    "a file opened in binary mode, or {'bytes': ..., 'path': ...}"
)
#: A scheme of one letter is a Windows drive; pathlib collapses two slashes into one.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:", re.ASCII)
#: First bytes of files that hold no pixels or need another reader, and what to do with them.
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
#: Most pixels that a file may have; more are refused before they are decoded. Can be set; a picture that somebody has
#: decoded already, a PIL image after `load()` or an array, is taken at any size. At the bound a picture takes 0.3 GB,
#: and at most four times that while it is read.
MAX_PIXELS = 1 << 26
#: Longest side of a picture shown on a page, in pixels.
SHOWN_SIDE = 384
#: Formats whose reader runs the file as a program.
_PROGRAMS = {"EPS"}
#: Warning filters are global to the process.
_QUIETLY = Lock()


def as_image(image: ImageLike, pixels: int | None = None) -> Image.Image:
    """A picture in RGB, from any accepted kind of image.

    Of several frames the first is used. Transparent pixels are composited over white. 16-bit, integer and floating
    point pixels are scaled by the largest of them: see the module's docstring.

    Args:
        image: the picture.
        pixels: most pixels of a file that is still to be decoded; default `MAX_PIXELS`. A JPEG file is not decoded at a
            reduced size instead (Pillow's `draft`): the model would see other pixels.

    Raises:
        TypeError: if its type is not accepted.
        ValueError: if it cannot be read as a picture, has too many pixels, or they cannot be interpreted.
        OSError: if a path cannot be opened.
    """
    most = MAX_PIXELS if pixels is None else pixels
    if isinstance(image, Image.Image):
        return _guarded(lambda: _decoded(image, most), _name(getattr(image, "filename", "")))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _of_file(io.BytesIO(bytes(image)), "", most)
    if isinstance(image, (str, os.PathLike)):
        return _of_path(os.fspath(image), most)
    if isinstance(image, Mapping):
        return _of_mapping(image, most)
    if callable(getattr(image, "read", None)):
        return _of_stream(image, most)
    if hasattr(image, "__array__") or hasattr(image, "__array_interface__"):
        array = _as_array(image)
        return _guarded(lambda: rgb_of_array(array), "")
    raise TypeError(f"image: expected {ACCEPTED}, got {type(image).__name__}")


def _decoded(image: Image.Image, most: int) -> Image.Image:
    """The pixels of an image as RGB, decoded only if they are not too many."""
    count = image.width * image.height
    if getattr(image, "tile", None) and count > most:  # what is still to be decoded
        raise UnclearError(
            f"expected at most {most} pixels (blip_trace_widget.pictures.MAX_PIXELS), got {image.width} x "
            f"{image.height} = {count}: make it smaller first, or decode it yourself, PIL.Image.open(…).load()"
        )
    return rgb(image)


def jpeg(image: Image.Image, side: int = SHOWN_SIDE, quality: int = 85) -> bytes:
    """A picture as JPEG bytes, shrunk so that its longer side is at most `side` pixels, for pages and files."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality)
    return file.getvalue()


def picture_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels, hexadecimal."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def _as_array(image: Any) -> np.ndarray[Any, Any]:
    torch = sys.modules.get("torch")  # a tensor implies that torch is imported
    try:
        if torch is not None and isinstance(image, torch.Tensor):
            tensor = image.detach().cpu()
            return np.asarray((tensor.double() if tensor.is_floating_point() else tensor).numpy(force=True))
        return np.asarray(image)
    except Exception as error:
        raise ValueError(f"image: expected {ACCEPTED}, this {type(image).__name__} gives no array ({error})") from error


# --- files -----------------------------------------------------------------------------------------------------------


def opened(path: str | bytes | os.PathLike[str]) -> IO[bytes]:
    """Open the file of a picture.

    Raises:
        ValueError: if it is a URL, or not a regular file.
        FileNotFoundError, IsADirectoryError, OSError: if it cannot be opened.
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
        if place.exists() and not place.is_file():  # reading a device may never end
            raise ValueError(f"image: expected the path of a picture, {_short(name)!r} is no regular file")
        return place.open("rb")
    except OSError as error:
        if error.errno is None:
            raise
        missing = isinstance(error, FileNotFoundError)
        cause = (
            f"no such file: {_short(name)!r}" if missing else f"{_short(name)!r} cannot be opened ({error.strerror})"
        )
        raise type(error)(f"image: {cause}") from None
    except ValueError as error:
        if str(error).startswith("image: "):
            raise
        raise ValueError(f"image: {_short(name)!r} is no path: {error}") from None


def _of_path(path: str | bytes, most: int) -> Image.Image:
    with opened(path) as file:
        return _of_file(file, _name(path), most)


def _of_stream(stream: Any, most: int) -> Image.Image:
    """Read a file that the caller opened; if it is seekable, its position is restored so that it can be read again."""
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
    return _of_file(io.BytesIO(bytes(content)), name, most)


def _of_mapping(image: Mapping[str, Any], most: int) -> Image.Image:
    """Read the form in which Hugging Face data sets keep undecoded pictures."""
    content, path = image.get("bytes"), image.get("path")
    if content is not None:
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise TypeError(f"image: expected bytes under 'bytes', got {type(content).__name__}")
        return _of_file(io.BytesIO(bytes(content)), _name(path), most)
    if isinstance(path, (str, os.PathLike)):
        return _of_path(os.fspath(path), most)
    names = [_short(name) for name in sorted(map(str, image))[:12]]
    found = "None under both" if {"bytes", "path"} & set(image) else f"a mapping with {names}"
    raise ValueError(f"image: expected {ACCEPTED}, got {found}")


def _of_file(file: IO[bytes], name: str, most: int) -> Image.Image:
    def read() -> Image.Image:
        file.seek(0)
        Image.init()
        with Image.open(file, formats=[kind for kind in Image.ID if kind not in _PROGRAMS]) as picture:
            return _decoded(picture, most)

    try:
        return _guarded(read, name)
    except ValueError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
        file.seek(0)
        start = file.read(2000)
        reasons = (reason for pattern, reason in _OTHERS if re.match(pattern, start))
        reason = f"it is {next(reasons, 'damaged, or of no format that is known here')}" if start else "it is empty"
        raise _unreadable(name, reason) from error.__cause__


def _guarded(read: Callable[[], Image.Image], name: str) -> Image.Image:
    """Call `read`, turning whatever it raises into a ValueError: decoders may raise anything, and PIL reads lazily."""
    try:
        try:
            return read()
        except Warning:  # where warnings are turned into errors: the picture can be read nevertheless
            with _QUIETLY, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return read()
    except UnclearError as error:
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
