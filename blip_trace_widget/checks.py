"""Checks of arguments and of values read from files, with uniform error messages.

For: every function that takes a name, a number or a token. Errors name the argument, what was given and what is
accepted.
Ends: at plain values; imports nothing else of the package.
"""

from __future__ import annotations

import reprlib
import types
import typing
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, Union

#: Longest text that is taken as a question or an answer, in characters. BLIP's 512 positions hold some 2,500 letters;
#: a text is refused by its length before a tokenizer reads it.
MAX_TEXT = 1 << 14
#: Longest message that is shown to a person, in characters.
MAX_MESSAGE = 2000

#: Names as the widget writes them, where they differ by more than capitals, spaces and hyphens.
SPOKEN = {
    "layer_output": "block_output",
    "layer_input": "block_input",
    "self_attention’s_own_output": "self_attention_out",
    "cross_attention’s_own_output": "cross_attention_out",
    "self_attention_with_residual,_as_published": "self_attention",
    "cross_attention_with_residual,_as_published": "cross_attention",
    "noisy": "corrupted",
    "patched_score": "score",
    "before_the_vit": "patch_embeddings",
    "behind_the_vit": "image_embeddings",
    "words_of_the_question": "question_embeddings",
}


#: Largest whole number in files and messages, of either sign: a seed's.
LARGEST = 2**63 - 1


class _Brief(reprlib.Repr):
    """`repr` that looks at no more of a value than it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 200
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 12
        self.maxlevel = 3

    def repr_str(self, value: str, _level: int) -> str:
        if len(value) <= self.maxstring:
            return repr(value)
        half = self.maxstring // 2
        return repr(f"{value[:half]} … {value[-half:]}")

    def repr_int(self, value: int, level: int) -> str:
        return super().repr_int(value, level) if value.bit_length() < 1000 else f"a number of {value.bit_length()} bits"


#: A value for a message: its `repr`, shortened.
brief = _Brief().repr


def clipped(message: str, most: int = MAX_MESSAGE) -> str:
    """A message as it is, or its beginning and end if it is longer than a person would read."""
    return message if len(message) <= most else f"{message[: most - 300]} … {message[-290:]}"


def check_length(name: str, text: object, most: int = MAX_TEXT) -> None:
    """Refuse a text by its length, before anything reads it.

    Raises:
        ValueError: if it is longer than `most` characters.
    """
    if isinstance(text, str) and len(text) > most:
        raise ValueError(f"{name}: expected a text of at most {most} characters, got {len(text)}: {brief(text)}")


def one_of(name: str, value: object, accepted: Iterable[str]) -> str:
    """Return `value` if it is one of the accepted names.

    Raises:
        TypeError: if it is not a string.
        ValueError: if it is any other string. Both name the argument, what was given and what is accepted.
    """
    names = list(accepted)
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {names}, got {type(value).__name__}")
    if value not in names:
        raise ValueError(f"{name}: expected one of {names}, got {brief(value)}")
    return value


def named(name: str, value: object, accepted: Iterable[str]) -> Any:
    """Like `one_of`, but also takes names as the widget writes them: "layer output", "self-attention".

    Raises:
        TypeError, ValueError: as `one_of`.
    """
    names = list(accepted)
    if isinstance(value, str) and len(value) < MAX_MESSAGE and value not in names:
        plain = value.strip().casefold().replace(" ", "_").replace("-", "_")
        plain = SPOKEN.get(plain, plain)
        if plain in names:
            return plain
    return one_of(name, value, names)


def whole_number(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` as an int if it is a whole number in low..high (both included).

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is out of range.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__} {brief(value)}")
    try:
        number = int(value.__index__())
    except (TypeError, ValueError, RuntimeError) as error:  # an array of several, a tensor without numbers
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}: {error}") from error
    if number < low or (high is not None and number > high):
        accepted = f"from {low} to {high}" if high is not None else f"{low} or more"
        raise ValueError(f"{name}: expected {accepted}, got {brief(number)}")
    return number


#: The fields of a `TypedDict` with their types, which take long to look up.
_types_of = cache(typing.get_type_hints)


def conforms(name: str, value: object, shape: Any) -> Any:
    """Return a value read from a file unchanged if it has the annotated type `shape`.

    Raises:
        ValueError: if it does not.
    """
    if not fits(value, shape):
        raise ValueError(_misfit(name, value, shape))
    return value


def _misfit(name: str, value: Any, annotation: Any) -> str:
    """What does not have its type in a value that does not: the innermost field, and what is in its place."""
    if typing.is_typeddict(annotation) and isinstance(value, dict):
        fields = _types_of(annotation)
        if set(fields) != set(value):
            return f"{name}: expected the fields {', '.join(fields)}, got {brief(list(value))}"
        parts = [(f"{name}.{field}", value[field], kind) for field, kind in fields.items()]
    elif typing.get_origin(annotation) is list and isinstance(value, list):
        parts = [(f"{name}[{at}]", item, typing.get_args(annotation)[0]) for at, item in enumerate(value)]
    else:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        kind = f"one of {list(arguments)}" if origin is Literal else annotation if origin else annotation.__name__
        return f"{name}: expected {kind}, got {brief(value)}"
    return next(_misfit(*part) for part in parts if not fits(*part[1:]))


def fits(value: Any, annotation: Any) -> bool:
    """Whether a JSON value has the annotated type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if typing.is_typeddict(annotation):
        fields = _types_of(annotation)
        return (
            isinstance(value, dict)
            and set(value) == set(fields)
            and all(fits(value[name], kind) for name, kind in fields.items())
        )
    if annotation is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and fits(item, arguments[1]) for key, item in value.items()
        )
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is tuple:
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(arguments)
            and all(fits(item, part) for item, part in zip(value, arguments, strict=True))
        )
    if annotation in (int, float):
        if isinstance(value, int):
            return not isinstance(value, bool) and abs(value) <= LARGEST
        return isinstance(value, annotation)
    return isinstance(value, annotation) and (annotation is not str or _is_written(value))


def _is_written(text: str) -> bool:
    """Whether a text can be written to a file: JSON may hold halves of characters."""
    try:
        return text.isascii() or bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False
