"""Samples: pictures with questions, from any source.

For: one type (`Sample`) for rows of question files, tables, and users' own programs.
Ends: at samples; `blip_trace_widget.dataset.batch` finds out whether pictures and answers can be used.
"""

from __future__ import annotations

import numbers
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.dataset import answers, cells, columns
from blip_trace_widget.dataset.cells import shown
from blip_trace_widget.pictures import as_image

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

PathLike: TypeAlias = "str | os.PathLike[str]"

#: Required columns.
NEEDED = ("image", "question")
#: Columns that make a pair of a sample, which every published format may have too.
PAIRED = ("foil", "other_image", "other_question", "region")
#: What the pairs of drawn scenes differ in.
PAIRS = ("image", "question")
#: A sample as a tuple, for messages.
TUPLE = "(image, question[, answer, foil, id, group, other_image, other_question, region])"
#: Side of a drawn picture, in pixels.
DRAWN = 128


class Sample(NamedTuple):
    """A picture and a question about it.

    Attributes:
        image: whatever `blip_trace_widget.pictures` reads: a path, a PIL image, an array, bytes.
        question: the question.
        answer: the answer to score; None: the model's own. Of several (VQA's ten) the most frequent one is scored, and
            the model's own is judged by VQA's rule; see `blip_trace_widget.dataset.answers`.
        foil: another answer with the same number of tokens, for ``metric="logit_difference"``.
        id: its name; "" for its number.
        group: the group that it is averaged with, for instance the kind of question.
        other_image: the partner picture, for ``corruption=ImageSwap``; of any kind that `image` may be.
        other_question: the partner question, of as many tokens, for ``corruption=QuestionSwap``.
        region: where the object is that the question is about: boolean (rows, columns) over image patches. It is stored
            with the results; a corruption is limited to it by a function, ``lambda sample: ImageSwap(
            sample.other_image, region=sample.region)``.
    """

    image: Any
    question: str
    answer: answers.Answers | None = None
    foil: str | None = None
    id: str = ""
    group: str = ""
    other_image: Any = None
    other_question: str | None = None
    region: Any = None


@dataclass(frozen=True)
class NamedPicture:
    """A picture file for workers that cannot access it.

    Attributes:
        name: its path.
        content: its bytes; None if it cannot be read.
        problem: why it cannot be read.
    """

    name: str
    content: bytes | None
    problem: str = ""

    def opened(self) -> Image.Image:
        """The picture.

        Raises:
            OSError, ValueError: if it cannot be read.
        """
        if self.content is None:
            raise OSError(self.problem)
        return as_image({"bytes": self.content, "path": self.name})


def as_samples(samples: Any) -> Iterator[Sample]:
    """Yield samples from an iterable of samples, tuples or mappings, or from a table.

    A table is a pandas DataFrame or a Hugging Face data set. For the names of columns and keys see
    `blip_trace_widget.dataset.columns`, for answers `blip_trace_widget.dataset.answers`.

    Raises:
        TypeError, ValueError: naming what was given and what is accepted; for a single sample when it is reached.
    """
    if isinstance(samples, (str, bytes, Mapping, Sample)) or not isinstance(samples, Iterable):
        splits = f", or one of its values {list(map(shown, samples))}" if isinstance(samples, Mapping) else ""
        raise TypeError(
            f"samples: expected an iterable of {TUPLE} or of mappings with these names, a pandas DataFrame, a Hugging "
            f"Face data set, or what a reader such as read_coco_qa gives{splits}; "
            f"got {type(samples).__name__}"
        )
    if hasattr(samples, "columns") and hasattr(samples, "to_dict"):
        return cleaned(_of_table(samples))
    names = getattr(samples, "column_names", None)
    rows = _Rows(getattr(samples, "features", None))
    if isinstance(names, (list, tuple)):  # report wrong names before anything is computed
        rows.places(tuple(names), "samples: the data set")
    return cleaned(rows.sample(number, given) for number, given in enumerate(_undecoded(samples)))


def _undecoded(samples: Any) -> Any:
    """A Hugging Face data set that yields undecoded pictures: its own decoding stops at the first damaged one.

    Data sets with a user's transform or mode, and streamed ones, are left unchanged.
    """
    features, now = getattr(samples, "features", None), getattr(samples, "format", None)
    if not isinstance(features, Mapping) or not isinstance(now, Mapping) or now["type"] == "custom":
        return samples
    pictures = {name: feature for name, feature in features.items() if type(feature).__name__ == "Image"}
    for name, feature in pictures.items():
        if feature.decode and feature.mode is None:
            samples = samples.cast_column(name, type(feature)(decode=False))
    return samples.with_format(None, columns=now["columns"]) if pictures and now["type"] else samples


def cleaned(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield samples with questions, answers and names normalised to texts, and regions to masks."""
    for number, sample in enumerate(samples):
        answer = sample.answer
        with suppress(TypeError, ValueError):  # keep an invalid answer, to be reported in its row
            answer = answers.read(answer)
        yield sample._replace(
            question=cells.text(sample.question),
            answer=answer,
            foil=cells.text(sample.foil),
            id=cells.name(sample.id, str(number)),
            group=cells.name(sample.group, ""),
            other_image=None if cells.is_absent(sample.other_image) else sample.other_image,
            other_question=cells.text(sample.other_question),
            region=cells.mask(sample.region),
        )


class _Rows:
    """Turns tuples and mappings into samples; warns about each unknown key of the mappings once."""

    def __init__(self, features: Any) -> None:
        self._features = features if isinstance(features, Mapping) else {}
        self._places: dict[tuple[Any, ...], dict[str, int]] = {}
        self._warned: set[str] = set()

    def sample(self, number: int, given: Any) -> Sample:
        """A sample from any accepted kind of row.

        Raises:
            TypeError, ValueError: naming what was given and what is accepted.
        """
        if isinstance(given, Sample):
            return given
        if isinstance(given, Mapping):
            names = tuple(given)
            places = self.places(names, f"samples: number {number}")
            return Sample(**{field: self._value(names[at], given[names[at]]) for field, at in places.items()})
        if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= len(Sample._fields):
            many = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
            raise TypeError(f"samples: number {number} should be {TUPLE}, got {type(given).__name__}{many}")
        return Sample(*given)

    def places(self, names: tuple[Any, ...], where: str) -> dict[str, int]:
        """The index of each known name; warns about unknown ones.

        Raises:
            ValueError: as `blip_trace_widget.dataset.columns.find`.
        """
        if names not in self._places:
            found = columns.find(names, Sample._fields, NEEDED, where)
            new = [name for name in columns.unknown(names, found) if name not in self._warned]
            columns.tell_unknown(new, Sample._fields, where)
            self._warned.update(new)
            self._places[names] = found
        return self._places[names]

    def _value(self, name: Any, value: Any) -> Any:
        """A value; Hugging Face's class labels are turned from numbers into names."""
        spell = getattr(self._features.get(name), "int2str", None)
        is_number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return spell(int(value)) if callable(spell) and is_number else value


def _of_table(table: pd.DataFrame) -> Iterator[Sample]:
    names = list(table.columns)
    found = columns.find(names, Sample._fields, NEEDED, "samples: the table")
    columns.tell_unknown(columns.unknown(names, found), Sample._fields, "samples: the table")
    of_fields = [table[names[at]] for at in found.values()]
    return (Sample(**dict(zip(found, row, strict=True))) for row in zip(*of_fields, strict=True))


@dataclass(frozen=True)
class DrawnSamples:
    """Scenes of the built-in model with questions about them; see `demo_samples`.

    Attributes:
        n: number of samples.
        seed: seed of scenes and questions.
    """

    n: int
    seed: int
    pairs: str | None = None

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Sample]:
        from blip_trace_widget.demo.questions import KINDS, sample
        from blip_trace_widget.demo.scenes import draw

        for number in range(self.n):
            kind = KINDS[number % len(KINDS)]
            rng = random.Random(f"{self.seed}/{number}")  # noqa: S311 - not for secrets
            if self.pairs is None:
                drawn = sample(rng, kind)
                yield Sample(draw(drawn.scene, DRAWN), drawn.question, drawn.answer, None, str(number), kind)
            else:
                yield self._pair(rng, kind)._replace(id=str(number), group=kind)

    def _pair(self, rng: random.Random, kind: str) -> Sample:
        from blip_trace_widget.demo.pairs import image_pair, question_pair
        from blip_trace_widget.demo.scenes import draw

        pair = (image_pair if self.pairs == "image" else question_pair)(rng, kind)
        return Sample(
            draw(pair.scene, DRAWN),
            pair.question,
            pair.answer,
            pair.foil,
            other_image=None if pair.other_scene is None else draw(pair.other_scene, DRAWN),
            other_question=pair.other_question,
            region=pair.region,
        )


def demo_samples(n: int, seed: int = 0, pairs: Literal["image", "question"] | None = None) -> DrawnSamples:
    """Unseen scenes like those that the built-in model was trained on, each with a question.

    Args:
        n: number of samples; each is drawn when it is reached, so any number is fine.
        seed: seed of scenes and questions; with the same seed, the first ones are the same for every `n`.
        pairs: semantic minimal pairs. ``"image"``: each sample has an `other_image` in which one attribute of an object
            that the question is about differs: its colour, shape or place. ``"question"``: an `other_question` in which
            one word differs, the name of a shape or colour. The partner's right answer, of as many tokens as the
            answer, is the `foil`; `region` is where the object is in the picture, over the built-in model's 8 x 8
            patches (for a model with others: ``sample._replace(region=None)``).

    Returns:
        samples with the right answers, alternating between the groups ``color``, ``object``, ``number`` and
        ``location``.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.

    Source: semantic minimal pairs and symmetric token replacement, Golovanevsky et al. 2024 (NOTICE, arXiv 2406.16320).
    """
    asked = None if pairs is None else one_of("pairs", pairs, PAIRS)
    return DrawnSamples(whole_number("n", n, 1), whole_number("seed", seed, 0), asked)
