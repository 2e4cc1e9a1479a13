"""Answers as data sets give them, and how accurate the model's own answer is.

For: texts, whole numbers, and the several answers (ten, by ten people) that VQA has for a question.
Ends: at texts and an accuracy.

Source: answers are compared as in the VQA evaluation (Antol et al. 2015, arXiv 1505.00468, and its published code): in
lower case, without articles and punctuation, number words as digits, contractions with their apostrophe. Here both
sides are always normalised completely. With n answers, the model's accuracy is min(same / 3, 1), averaged over the n
ways to leave one answer out.
"""

from __future__ import annotations

import ast
import io
import itertools
import json
import re
import tokenize
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from blip_trace_widget.dataset.cells import is_absent, shown, text
from blip_trace_widget.dataset.columns import key

#: One answer, or several.
Answers: TypeAlias = "str | tuple[str, ...]"

#: Number of people who must have given an answer for it to be fully right.
PEOPLE = 3
#: From this accuracy an answer counts as right: two of ten people gave it.
RIGHT = 0.5

ACCEPTED = "a text, a whole number, or several of them (a list, also of {'answer': ...})"
ARTICLES = {"a", "an", "the"}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(NUMBERS)}
MARKS = ';/[]"{}()=+\\_-><@`,?!'
#: Characters, besides `MARKS`, that may enclose an answer, and that may end it.
QUOTES = "'\"‘’“”«»` "
ENDS = QUOTES + ".,:;?!…。！？"
APOSTROPHES = """
ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't shan't shouldn't
wasn't weren't won't wouldn't could've might've must've should've would've i'm i've you'd you'll you're you've he's
she's it'll that's there's they'd they'll they're they've we've what's where's who's who'd who'll who've how's why's
when's let's somebody's someone's something's everyone's nobody's ma'am o'clock y'all
"""
CONTRACTIONS = {word.replace("'", ""): word for word in APOSTROPHES.split()}


def read(value: Any) -> Answers | None:
    """An answer of a table as a text, several as a tuple of texts; None if there is none.

    Raises:
        TypeError, ValueError: if it is not an answer, or cannot be recognised as one.
    """
    if isinstance(value, str):
        value = _listed(value.strip())
    if isinstance(value, Mapping):
        value = _of_mapping(value)
    if not isinstance(value, str) and getattr(value, "shape", None) and callable(getattr(value, "tolist", None)):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        return _one(value)
    several = tuple(one for each in value if (one := _one(_of_mapping(each))) is not None)
    return (several if len(several) > 1 else several[0]) if several else None


def scored(given: Answers | None) -> str | None:
    """The answer whose score is traced: of several, the most frequent one, and of ties the first."""
    if given is None:
        return None
    several = (given,) if isinstance(given, str) else given
    commonest = Counter(map(normalised, several)).most_common(1)[0][0]
    return bare(Counter(one for one in several if normalised(one) == commonest).most_common(1)[0][0])


def bare(answer: str) -> str:
    """An answer without enclosing punctuation, which would be separate tokens that the model is not expected to say."""
    word = answer.lstrip(QUOTES).rstrip(ENDS)
    return word if word and "." not in word else answer  # "U.S." keeps its periods


def accuracy(own: str, given: Answers) -> float:
    """The accuracy of an answer, from 0 to 1.

    Given up to three answers, too few to leave one out, any of them is right.
    """
    several = (given,) if isinstance(given, str) else given
    same, count = sum(normalised(one) == normalised(own) for one in several), len(several)
    if count <= PEOPLE:
        return float(same > 0)
    without_one = same * min((same - 1) / PEOPLE, 1) + (count - same) * min(same / PEOPLE, 1)
    return without_one / count


def table_text(value: Any) -> str | None:
    """A sample's answer as text for a table; several as JSON."""
    if is_absent(value):
        return None
    return json.dumps(list(value), ensure_ascii=False) if _is_texts(value) else shown(value)


def normalised(answer: str) -> str:
    """The normalised form of an answer, for comparing."""
    flat = " ".join(answer.lower().replace("’", "'").split()).lstrip(QUOTES).rstrip(ENDS)
    kept = flat
    has_thousands = re.search(r"\d,\d", flat)
    for mark in MARKS:
        is_loose = f"{mark} " in flat or f" {mark}" in flat
        kept = kept.replace(mark, "" if is_loose or has_thousands else " ")
    kept = re.sub(r"\.(?!\d)", "", kept)
    words = [DIGITS.get(word, word) for word in kept.split() if word not in ARTICLES]
    return " ".join(CONTRACTIONS.get(word, word) for word in words) or flat or answer


def _one(value: Any) -> str | None:
    one = text(value)
    if one is None or isinstance(one, str):
        return one
    if isinstance(one, bool):
        raise TypeError(f"answer: expected {ACCEPTED}, got {one}: write the word that is meant, such as 'yes'")
    if isinstance(one, (int, float, complex)):
        raise ValueError(f"answer: expected {ACCEPTED}, got {shown(one)[:40]}: write it as a text")
    raise TypeError(f"answer: expected {ACCEPTED}, got {type(one).__name__}")


def _of_mapping(value: Any) -> Any:
    """The answer in a mapping of VQA's form, with other fields."""
    if not isinstance(value, Mapping):
        return value
    matches = [item for name, item in value.items() if key(name) == "answer"]
    if len(matches) != 1:
        raise ValueError(f"answer: expected {ACCEPTED}, got a mapping of {[shown(name) for name in value]}")
    return matches[0]


def _listed(written: str) -> Any:
    """A list written as text, in JSON or Python; anything else is returned unchanged.

    Raises:
        ValueError: if it looks like a list but is not one.
    """
    if written[:1] + written[-1:] not in ("[]", "()", "{}"):
        return written
    try:
        try:
            value = json.loads(written)
        except ValueError:
            value = _literal(written)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError) as error:
        if re.search(r"""['",]""", written):
            raise ValueError(f"answer: {written[:80]!r} looks like a list of answers and is none: {error}") from error
        return written
    return value if isinstance(value, (list, tuple, Mapping)) else written


def _literal(written: str) -> Any:
    """A Python literal; nothing in it is executed."""
    marks = [each.type for each in tokenize.generate_tokens(io.StringIO(written).readline) if each.type != tokenize.NL]
    if (tokenize.STRING, tokenize.STRING) in itertools.pairwise(marks):
        # NumPy prints lists of texts without commas; Python would join adjacent texts.
        raise ValueError("there are texts without a comma between them")
    return ast.literal_eval(written)


def _is_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, str) for each in value)
