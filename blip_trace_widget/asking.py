"""What a widget is asked: from an input that changes to one request of the conductor, and back where that fails.

For: wiring of inputs, undo and redo. A trait that is set, a picture or a model that is given become one request; what
was refused is taken back.
Cost: a request returns in under a millisecond; a model that is given is loaded first.
Ends: here is no mathematics and no order of work; see `blip_trace_widget.conductor`. What a trait accepts is
`blip_trace_widget.controls`'.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any

from PIL import Image

from blip_trace_widget import figure
from blip_trace_widget.conductor import Conductor
from blip_trace_widget.controls import DAMAGE, VIEW
from blip_trace_widget.corruption import ImageSwap
from blip_trace_widget.demo import examples
from blip_trace_widget.grids import Chosen
from blip_trace_widget.history import History
from blip_trace_widget.model import BlipVqa
from blip_trace_widget.model_of import as_model
from blip_trace_widget.pictures import ImageLike, as_image
from blip_trace_widget.playback import CLOSED, Player
from blip_trace_widget.shown import Shown
from blip_trace_widget.tracer import Tracer

#: What is patched: cells of the grid, or patches of the picture; choosing one lets the other go.
SELECTED = ("selection", "patches")
#: The traits that are taken back together with what is no trait: the pictures, a given answer.
ASKED = ("question", "foil", "metric", "example", *SELECTED, *DAMAGE, *VIEW)
#: The tracer's arguments that traits stand for; those that are not named here make up its corruption.
ARGUMENTS = {"question": "question", "foil": "foil", "metric": "metric"}
#: Those that are typed: what was refused is named.
TEXTS = ("question", "foil", "other_question")


class Asking(Shown):
    """Acts on inputs."""

    _history: History
    #: The answer that was given, and the path of the picture.
    _answer: str | None
    _path: str | None

    def _listen(self) -> None:
        """Act on what is set from here on."""
        self._act_on(["question"], self._on_question)
        self._act_on(["example"], self._on_example)
        self._act_on(["metric", "foil"], self._on_scoring)
        self._act_on(DAMAGE, self._on_damage)
        self._act_on(VIEW, self._on_view)
        self._act_on(SELECTED, self._on_selection)
        self._act_on(["overlay", "square"], self._on_overlay)

    @property
    def tracer(self) -> Tracer:
        """The tracer of what is shown; after a change of inputs the new one is there once it is computed (`wait`)."""
        return self._conductor.tracer

    @property
    def _closed(self) -> str:  # type: ignore[override]
        return CLOSED if isinstance(self._conductor, Player) else ""

    # --- inputs that are no traits -----------------------------------------------------------------------------------

    @property
    def model(self) -> BlipVqa:
        """The model. Another one (a `BlipVqa`, a hub id or a folder) keeps what fits it, and says what it does not."""
        return self.tracer.model

    @model.setter
    def model(self, model: BlipVqa | str | os.PathLike[str]) -> None:
        self._needs_model("model")
        given = as_model(model)
        with self._conductor.lock:
            if given is not self.model:
                self._use_model(given)

    @property
    def image(self) -> Image.Image:
        """The picture, RGB; may be set to whatever `Tracer` takes."""
        return self._image

    @image.setter
    def image(self, image: ImageLike) -> None:
        self._needs_model("image")
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        self._change_subject(image=as_image(image), path=path)

    @property
    def answer(self) -> str:
        """The answer that is scored: the given one, else the model's own. None lets a given one go."""
        return self.tracer.answer if self._answer is None else self._answer

    @answer.setter
    def answer(self, answer: str | None) -> None:
        self._needs_model("answer")
        if answer is not None:
            self.model.answer_ids("answer", answer)
        with self._conductor.lock:
            self._answer = answer
            self._conductor.change(answer=answer)
            self._remember()

    def _needs_model(self, name: str) -> None:
        self._needs_open()
        if self._closed:
            raise ValueError(f"{name}: {self._closed}")

    def _needs_open(self) -> None:
        if self._gone:
            raise RuntimeError(
                f"this {type(self).__name__} was closed; {self.instead}"
                if not self._closed
                else f"this {type(self).__name__} was closed; load what it showed again"
            )

    def _use_model(self, model: BlipVqa) -> None:
        """Go on with another model, and let go what it cannot take."""
        asked = len(model.question_ids(self.question))  # refused before anything changes
        dropped = []
        if self._answer is not None and not _taken(lambda: model.answer_ids("answer", self._answer or "")):
            self._answer = None
            dropped.append("answer")
        foil, metric = self.foil, self.metric
        if foil and not _taken(lambda: model.answer_ids("foil", foil)):
            foil = ""
            dropped.append("foil")
        grid, before = model.grid, self._conductor
        region = self.region
        if region is not None and grid != self.model.grid:
            region = None
            dropped.append("region")
        other = self.other_question
        if self.corruption == "QuestionSwap" and not _taken(lambda: len(model.question_ids(other)) == asked):
            other = self.question
            dropped.append("other_question")
        assert isinstance(before, Conductor)
        damage = figure.corruption(
            {name: getattr(self, name) for name in DAMAGE} | {"region": region, "other_question": other}, self._swapped
        )
        square = min(self.square, max(grid))
        tracer = Tracer(model, self._image, self.question, answer=self._answer, corruption=damage)
        cells, patches = list(self.selection), list(self.patches)
        layers = {name: len(block.layers) for name, block in model.blocks.items()}
        if any(layer >= layers[self.block] for layer, _ in cells):
            cells = []
            dropped.append("selection")
        if any(row >= grid[0] or column >= grid[1] for row, column in patches):
            patches = []
            dropped.append("patches")
        after = Conductor(tracer, self, before.view, square, before)
        before.close()
        with self.together():
            self._conductor = after
            nothing: dict[str, Any] = {
                name: {} for name in ("runs", "grid", "detail", "pinned", "curve", "picture_map")
            }
            self.show_traits(**nothing, grids=[], heads={}, generation=after.generation, selection=[], patches=[])
            self.show_traits(**figure.asked(tracer), square=square, example=self.example if model.built_in else -1)
            view = self._fitting(self._view())
            self.show_traits(**view._asdict())
            after.look_at(view)
            self.show_traits(selection=cells, patches=patches)
            self._select()
            after.painter.choose(self.overlay, self.square)
            after.begin()
            if foil:  # of as many tokens as the answer? that is known once it is computed
                self.show_traits(foil=foil, metric=metric)
                after.change(foil=foil, metric=metric)
            self._history = History(self._asked())
            self._show_steps()
            if dropped:
                self.show_traits(error=f"model: {', '.join(dropped)} did not fit {model.name} and was let go")

    # --- what changes ------------------------------------------------------------------------------------------------

    def _change_subject(self, example: int = -1, path: str | None = None, **changes: Any) -> None:
        """Another image or question, which has an answer of its own; a foil was for the old one."""
        with self._conductor.lock:
            self.show_traits(example=example, foil="")
            if self.metric == "logit_difference":
                self.show_traits(metric="probability")
                changes["metric"] = "probability"
            self._answer = None
            self._image = changes.get("image", self._image)
            if "image" in changes:  # what was marked on the old picture means nothing on the new one
                self._path = path
                self.show_traits(patches=[], region=None)
                if self.block == "image_encoder":  # its cells are parts of the picture
                    self.show_traits(selection=[])
                if self._swap is not None and self._swap is self._chance_swap:
                    self._swap = None
                    self.show_traits(other_picture=b"")
            if "question" in changes:  # its tokens are others
                self.show_traits(selection=[])
            self._select()
            self._conductor.change(answer=None, foil=None, corruption=self._asked_damage(), **changes)
            self._remember()

    def _use_other(self, swap: ImageSwap) -> None:
        shown = figure.picture(swap.image)
        with self._conductor.lock:
            self._swap = swap
            self.show_traits(other_picture=shown, corruption="ImageSwap")
            self._conductor.change(corruption=self._asked_damage())
            self._remember()

    def _asked_damage(self) -> Any:
        """The corruption that the traits ask for; another question must have as many tokens as this one."""
        model = self.tracer.model
        if self.corruption == "QuestionSwap":
            other = model.question_ids(self.other_question) if self.other_question else []
            if len(other) != len(model.question_ids(self.question)):
                self.show_traits(other_question=self.question)
        elif self.corruption == "ImageSwap" and not self.other_picture:
            self.show_traits(other_picture=figure.picture(self._swapped().image))
        return self._damage()

    def _on_question(self, _name: str) -> None:
        self._change_subject(question=self.question)

    def _on_example(self, _name: str) -> None:
        if self.example >= 0:
            chosen = examples()[self.example]
            self.show_traits(question=chosen.question)
            self._change_subject(self.example, image=chosen.image, question=chosen.question)

    def _on_scoring(self, name: str) -> None:
        changes: dict[str, Any] = {"metric": self.metric} if name == "metric" else {"foil": self.foil or None}
        if not self.foil and self.metric == "logit_difference":
            changes["metric"] = "probability"
            self.show_traits(metric="probability")
        self._conductor.change(**changes)
        self._remember()

    def _on_damage(self, name: str) -> None:
        damage = self._asked_damage() if name == "corruption" else self._damage()
        view = self._fitting(self._view())
        if view != self._view():
            self.show_traits(**view._asdict())
            self._conductor.look_at(view)
        self._conductor.change(corruption=damage)
        self._remember("noise" if name == "noise" else None)  # the slider is moved, the rest is set

    def _on_view(self, _name: str) -> None:
        view = self._fitting(self._view())
        self.show_traits(**view._asdict())
        self._conductor.look_at(view)
        self._remember()

    def _on_selection(self, name: str) -> None:
        if getattr(self, name):
            self.show_traits(**{other: [] for other in SELECTED if other != name})
        self._select()
        self._remember()

    def _on_overlay(self, _name: str) -> None:
        self._conductor.painter.choose(self.overlay, self.square)

    def _chosen(self) -> Chosen:
        return Chosen(tuple(self.selection), tuple(self.patches))

    def _select(self) -> None:
        """Patch what the traits say is selected."""
        if self.patches:
            self._conductor.select_patches(self.patches)
        else:
            self._conductor.select(self.selection)

    # --- undo and redo -----------------------------------------------------------------------------------------------

    def _asked(self) -> dict[str, Any]:
        """All that was asked, the pictures too."""
        return {
            **{name: getattr(self, name) for name in ASKED},
            "image": self._image,
            "answer": self._answer,
            "swap": self._swap,
            "path": self._path,
        }

    def _remember(self, gesture: str | None = None) -> None:
        self._history.add(self._asked(), gesture)
        self._show_steps()

    def _show_steps(self) -> None:
        self.show_traits(steps={"undo": self._history.can_undo, "redo": self._history.can_redo})

    def _step(self, *, back: bool) -> None:
        with self._conductor.lock:
            now = self._history.present
            asked = self._history.undo() if back else self._history.redo()
            if asked is None:
                return
            self._image, self._answer, self._path = asked["image"], asked["answer"], asked["path"]
            with self.together():
                if asked["swap"] is not self._swap:
                    self._swap = asked["swap"]
                    other = b"" if self._swap is None else figure.picture(self._swap.image)
                    self.show_traits(other_picture=other)
                self.show_traits(**{name: asked[name] for name in ASKED if name not in SELECTED})
                self._show_steps()
            changed = {name for name in asked if asked[name] is not now[name] and asked[name] != now[name]}
            changes: dict[str, Any] = {
                name: asked[name] for name in ("image", "question", "answer", "metric") if name in changed
            }
            if "foil" in changed:
                changes["foil"] = asked["foil"] or None
            if changed & {*DAMAGE, "swap"}:
                changes["corruption"] = self._damage()
            if changed & set(VIEW):
                self._conductor.look_at(self._view())
            if changes:
                self._conductor.change(**changes)
            self.show_traits(**{name: asked[name] for name in SELECTED})
            self._select()

    def go_back(self, tracer: Tracer, refused: Collection[str]) -> None:
        """Show those inputs as a tracer has them whose change was refused; others may be wished for just now."""
        with self._conductor.lock:
            before, inputs = self._asked(), figure.asked(tracer)
            good = self._history.last(lambda step: all(step[name] == value for name, value in inputs.items()))
            swap = tracer.corruption if "corruption" in refused else None
            if isinstance(swap, ImageSwap) and swap != self._damage():
                self._swap = swap
                self.show_traits(other_picture=figure.picture(swap.image))
            back = {name: value for name, value in inputs.items() if ARGUMENTS.get(name, "corruption") in refused}
            if "answer" in refused:
                self._answer = tracer.given["answer"]
            if "image" in refused:
                self._image, self._path = tracer.image, good["path"] if good else None
            if {"image", "question"} & set(refused):
                back["example"] = good["example"] if good else -1
            self.show_traits(**back)
            if before != (now := self._asked()):
                self._history.mend(now)
            texts = [name for name in TEXTS if before[name] != now[name] and before[name] not in self.error]
            if self.error and texts:
                said = ", ".join(f"{name} {before[name]!r}" for name in texts)
                self.show_traits(error=f"{self.error} (refused: {said})")
            self._show_steps()

    def _positions(self) -> int | None:
        return self._conductor.positions(self.block)


def _taken(check: Callable[[], Any]) -> bool:
    """Whether a check lets something pass."""
    try:
        return check() is not False
    except (ValueError, TypeError):
        return False
