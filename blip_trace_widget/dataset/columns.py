"""Finding columns: one rule for names in files, DataFrames, mappings and Hugging Face data sets.

For: users' tables. Names are compared without case, spaces, underscores and hyphens. A name close to a missing known
one is refused with the name that was probably meant: if it were ignored, an ``anwser`` would make every sample count as
right. All other columns are listed once, in a warning.
Ends: at indices of columns.
"""

from __future__ import annotations

import difflib
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from blip_trace_widget.dataset.cells import shown

#: Names that published data sets use for known columns; the known name takes precedence.
ALIASES = {"answers": "answer"}
#: Other names that suggest a known column, but whose content is uncertain.
OTHER_NAMES = {"img": "image", "picture": "image", "photo": "image", "ans": "answer"}
#: Similarity (`difflib`) from which a name is close to another: a letter missing, added, or two transposed.
NEARLY = 0.8


def find(names: Iterable[Any], known: Sequence[str], needed: Sequence[str], where: str) -> dict[str, int]:
    """The index of each known column that is present.

    Args:
        names: the columns' names.
        known: the known names.
        needed: the known names that must be present.
        where: whose columns these are, for errors.

    Raises:
        ValueError: if one is present twice, if a needed one is missing, or if there is only one with a similar name.
    """
    given = list(names)
    keys = [key(name) for name in given]
    found: dict[str, int] = {}
    for field in known:
        places = [at for at, each in enumerate(keys) if each == key(field)]
        places = places or [at for at, each in enumerate(keys) if ALIASES.get(each) == field]
        if len(places) > 1:
            twice = [shown(given[at]) for at in places]
            raise ValueError(f"{where} has {len(places)} columns for {field!r}: {twice}; leave one of them")
        if places:
            found[field] = places[0]
    rest = [name for at, name in enumerate(given) if at not in found.values()]
    nearly = {shown(name): meant for name in rest if (meant := _meant(name, [f for f in known if f not in found]))}
    hint = "".join(f". {name!r} is nearly {meant!r}: call it so, or leave it out" for name, meant in nearly.items())
    lacking = [name for name in needed if name not in found]
    if lacking:
        raise ValueError(
            f"{where} lacks the columns {lacking}; it has {[shown(name) for name in given]}. Accepted are "
            f"{list(known)}, of which {' and '.join(needed)} must be there{hint}"
        )
    if nearly:
        raise ValueError(f"{where} has columns that may be meant for others{hint}")
    return found


def unknown(names: Iterable[Any], found: dict[str, int]) -> list[str]:
    """The columns that are not known; not counting pandas' leading column of row numbers."""
    rest = [(at, shown(name)) for at, name in enumerate(names) if at not in found.values()]
    return [name for at, name in rest if at or key(name)]


def tell_unknown(names: Sequence[str], known: Sequence[str], where: str) -> None:
    """Warn about unused columns."""
    if names:
        tell(f"{where} has columns that are not used: {list(names)}; known are {list(known)}")


def tell(message: str) -> None:
    """Warn, pointing at the calling line outside this package."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(__name__.partition(".")[0]):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def key(name: Any) -> str:
    """The normalised form of a name, for comparing."""
    plain = unicodedata.normalize("NFKC", shown(name)).casefold()
    return re.sub(r"[\s_\-\ufeff\u200b]+", "", plain)


def _meant(name: Any, free: Sequence[str]) -> str | None:
    """The missing column that a name probably means, if any."""
    bare = key(name)
    # Matches "correct_answer" and "correctAnswer"; but an "image_id" is clearly not the sample's id.
    words = re.split(r"[\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", shown(name)).casefold())
    for field in free:
        like = difflib.SequenceMatcher(None, bare, key(field)).ratio() >= NEARLY
        inside = field != "id" and not {field, f"{field}s"}.isdisjoint(words)
        if like or inside or OTHER_NAMES.get(bare) == field:
            return field
    return None
