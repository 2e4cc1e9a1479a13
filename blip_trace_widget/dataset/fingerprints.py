"""What tells a user's own metric, corruption or function from another of the same name, as far as possible: its code.

For: refusing to go on in a folder that was begun with another.
Ends: at eight hexadecimal digits. What is computed by other functions that it calls is not seen.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from typing import Any


def of_callable(given: Any) -> str:
    """Of a function: its code, defaults and what it closes over; of another callable: its class."""
    code = getattr(given, "__code__", None)
    told = [given.__module__, given.__qualname__, _of_code(code), given.__defaults__] if code else [type(given)]
    told += [cell.cell_contents for cell in getattr(given, "__closure__", None) or ()]
    return _digits(told)


def of_class(given: type) -> str:
    """Of a class: the code of its methods."""
    members = [
        (name, _of_code(code)) for name, member in vars(given).items() if (code := getattr(member, "__code__", None))
    ]
    return _digits([given.__module__, given.__qualname__, members])


def of_instance(given: Any) -> str:
    """Of an object: its class, and its fields as far as they tell it from others."""
    if dataclasses.is_dataclass(given):
        fields = {each.name: getattr(given, each.name) for each in dataclasses.fields(given) if each.compare}
    else:
        fields = dict(vars(given))
    return _digits([of_class(type(given)), sorted(fields.items())])


def _of_code(code: Any) -> Any:
    inner = [_of_code(each) if hasattr(each, "co_code") else each for each in code.co_consts]
    return code.co_code, code.co_names, inner


def _digits(told: list[Any]) -> str:
    # Where an object lies in memory tells nothing of it.
    plain = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(told))
    return f"{zlib.crc32(plain.encode('utf-8', 'backslashreplace')):08x}"
