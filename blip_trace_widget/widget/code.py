"""Python code that computes again what is shown.

For: the page's "Copy as Python", and `TraceWidget.code`.
Cost: comparing the picture with the built-in ones.
Ends: at text, which is not run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_trace_widget.demo import examples
from blip_trace_widget.demo.circuits import circuit_of
from blip_trace_widget.display.export import OTHER, PICTURE
from blip_trace_widget.pictures import picture_hash
from blip_trace_widget.results.grid_spec import OF_STATES, GridSpec, Selection
from blip_trace_widget.states import State
from blip_trace_widget.tracing.corruption import Corruption, ImageSwap

if TYPE_CHECKING:
    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.results.found_states import FoundStates
    from blip_trace_widget.tracing.tracer import Tracer


#: What `repr` writes in another way in single quotes.
_ESCAPES = {'"': '\\"'}


def python(
    tracer: Tracer,
    spec: GridSpec,
    selected: Selection | None = None,
    image: str | None = None,
    picture_map: tuple[str, int, GridSpec | None] | None = None,
    strength: float = 1.0,
    also_under: Corruption | None = None,
    found: FoundStates | None = None,
) -> str:
    """Code for the trace in view, the patched run of the selection, and the map over the picture.

    Args:
        tracer: the tracer that is shown.
        spec: the grid in view.
        selected: the selection.
        image: an expression for the picture, if known.
        picture_map: direction of a map of image tokens, side of its squares, and where paths lead if it is of these.
        strength: what the selected states are multiplied by in a clean run; 1 for no such run.
        also_under: another corruption that the grid is held against.
        found: a set that was searched for.
    """
    selected = selected or Selection()
    names = {"BlipVqa", "Tracer", type(tracer.corruption).__name__}
    lines = ["", *_traced(spec)]
    if selected.cells:
        states = tracer.case.states(spec, selected.cells)
        listed = ["    [", *(f"        {_state(state)}," for state in states), "    ],"]
        lines += _patched(spec, selected, states)
        if strength != 1:
            lines += ["ablation = tracer.ablate(", *listed, f"    to={literal(strength)},", ")"]
    if selected.patches:
        mask = np.zeros(tracer.model.grid, dtype=bool)
        mask[tuple(zip(*selected.patches, strict=True))] = True
        lines += ["", *_mask("patches", mask)]
        lines += [f"effect = tracer.patch_image_tokens(patches, direction={literal(spec.direction)})"]
    if picture_map is not None:
        lines += _mapped(*picture_map)
    if found is not None:
        asked = {name: found.settings[name] for name in ("target", "among", "direction", "blocks")}
        lines += ["", f"found = tracer.find_states({_keywords(asked)})"]
    if "State(" in "".join(lines):
        names.add("State")
    shown = image or _picture(tracer.image, PICTURE, tracer.model)
    region = getattr(tracer.corruption, "region", None)
    before = [] if region is None else [*_mask("region", np.array(region)), ""]
    corruption, other = _corruption(tracer.corruption, tracer.model), ""
    if also_under is not None:
        names.add(type(also_under).__name__)
        other, made = _beside(also_under, tracer.corruption, tracer.model)
        if spec.is_plain:
            pair = [f"    [tracer.corruption, {other}],", f"    {_keywords(_asked(spec))},"]
            lines += ["", *made, "agreement = tracer.agreement(", *pair, ")"]
        else:
            names.add("Agreement")
            lines += ["", *made, f"under = tracer.with_corruption({other})"]
            lines += [*_traced(spec, "other", "under"), "agreement = Agreement((trace, other))"]
    arguments = [shown, literal(tracer.question)]
    arguments += [_keywords({name: value}) for name, value in tracer.given.items() if value is not None]
    arguments += [f"corruption={corruption}", f"metric={literal(tracer.metric.name)}"]
    swapped = hasattr(tracer.corruption, "sha256")
    # Not a file or a question of the user's that is called so.
    files = [PICTURE] if image is None and shown == literal(PICTURE) else []
    files += [OTHER] if swapped and literal(OTHER) in corruption else []
    notes = list(map(_saved, files))
    if "examples(" in shown + corruption + other:
        names.add("examples")
    top = ["import numpy as np", ""] if "np." in "".join([*before, *lines]) else []
    top += [f"from blip_trace_widget import {', '.join(sorted(names))}", "", *notes, *_model(tracer), *before]
    return "\n".join([*top, "tracer = Tracer(", "    model,", *(f"    {part}," for part in arguments), ")", *lines, ""])


def difference_code(kept: str, shown: str, *, same_pictures: bool) -> str:
    """Code for two traces and their difference; the second reuses what the first has loaded.

    Args:
        kept: code by `python` for the grid that is subtracted.
        shown: code by `python` for the grid in view.
        same_pictures: whether both use the same picture, and swap in the same one; else the first one's pictures get
            other names than those of the Export menu.
    """
    for name in () if same_pictures else (PICTURE, OTHER):
        kept = _renamed(kept, name)
    first = kept.splitlines()
    loaded = next(number for number, line in enumerate(first) if line.startswith("model = "))
    known = {line for line in first[: loaded + 1] if line}
    rest = "\n".join(line for line in shown.splitlines() if line not in known).strip("\n")
    return f"{kept}other = trace\n\n{rest}\ndifference = trace - other\n"


def _saved(name: str) -> str:
    return f"# {name} is saved by the widget's Export menu."


def _renamed(code: str, name: str) -> str:
    """Code by `python` with another name for one of the Export menu's pictures, where it is asked for one."""
    lines = code.splitlines()
    if _saved(name) not in lines:
        return code
    note = f"# kept_{name}, for the grid that was kept, is called {name} where the Export menu saves it."
    lines[lines.index(_saved(name))] = note
    argument = f"    {literal(name)}," if name == PICTURE else "    corruption="
    at = next(number for number, line in enumerate(lines) if line.startswith(argument))
    lines[at] = lines[at].replace(literal(name), literal(f"kept_{name}"))
    return "\n".join([*lines, ""])


def playback(path: str | None) -> str:
    """Code that shows a recording."""
    shown = "trace" if path is None else literal(path)
    note = [] if path is not None else ["# trace: what the widget was handed"]
    return "\n".join(["from blip_trace_widget import TraceWidget", "", *note, f"TraceWidget.from_trace({shown})", ""])


def _mask(name: str, mask: NDArray[np.bool_]) -> list[str]:
    """Lines that build a boolean mask, one for each rectangle of equal rows."""
    lines = [f"{name} = np.zeros({mask.shape}, dtype=bool)"]
    top = 0
    for bottom in range(1, mask.shape[0] + 1):
        if bottom < mask.shape[0] and (mask[bottom] == mask[top]).all():
            continue
        edges = np.flatnonzero(np.diff(mask[top].astype(int), prepend=0, append=0))
        lines += [f"{name}[{top}:{bottom}, {left}:{right}] = True" for left, right in edges.reshape(-1, 2)]
        top = bottom
    return lines


def _model(tracer: Tracer) -> list[str]:
    model = tracer.model
    circuit = circuit_of(model.name) if model.built_in else None
    if model.built_in:
        return ["model = BlipVqa.demo()" if circuit is None else f"model = BlipVqa.known_circuit({literal(circuit)})"]
    if not model.source:
        return [f"model = BlipVqa(...)  # {_escaped(model.name[:100], '')}: a model that the widget was handed"]
    dtype = str(model.dtype).removeprefix("torch.")
    options = {"dtype": None if dtype == "float32" else dtype, "revision": model.revision}
    given = "".join(f", {name}={literal(value)}" for name, value in options.items() if value is not None)
    return [f"model = BlipVqa.from_pretrained({literal(model.source)}{given})"]


def _picture(image: Image.Image, otherwise: str, model: BlipVqa) -> str:
    """An expression for a picture: a built-in one, or a file saved by the Export menu."""
    shown = "examples()" if circuit_of(model.name) is None else "examples(model)"
    sha256 = picture_hash(image)
    for index, example in enumerate(examples(model)):
        for name, known in (("image", "sha256"), ("other_image", "other_sha256")):
            if getattr(example, known, None) == sha256:
                return f"{shown}[{index}].{name}"
    return literal(otherwise)


def _beside(other: Corruption, present: Corruption, model: BlipVqa) -> tuple[str, list[str]]:
    """An expression for another corruption beside the present one, and the lines that must come before it."""
    region, same = getattr(other, "region", None), getattr(present, "region", None)
    picture = OTHER if getattr(other, "sha256", "") == getattr(present, "sha256", None) else f"kept_{OTHER}"
    named = _corruption(other, model, "region" if region == same else "other_region", picture)
    before = [] if region in (None, same) else _mask("other_region", np.array(region))
    note = f"# {picture}: the picture that was swapped in"
    return named, [note, *before] if literal(picture) in named and picture != OTHER else before


def _corruption(corruption: Corruption, model: BlipVqa, region: str = "region", picture: str = OTHER) -> str:
    """An expression for a corruption, given the names of its region and of its picture's file."""
    settings = corruption.settings()
    where = "" if settings.pop("region", None) is None else f"region={region}"
    first = f"{_picture(corruption.image, picture, model)}, " if isinstance(corruption, ImageSwap) else ""
    rest = _keywords({name: value for name, value in settings.items() if name not in ("type", "sha256")})
    return f"{settings['type']}({', '.join(filter(None, (first.removesuffix(', '), rest, where)))})"


def literal(value: Any) -> str:
    """A value as a Python literal; texts in double quotes, as most formatters write them."""
    return f'"{_escaped(value)}"' if isinstance(value, str) else repr(value)


def _escaped(text: str, special: str = '"\\') -> str:
    """A text of printable characters alone, as in a Python literal: none ends a line or turns its direction."""
    return "".join(
        each if each.isprintable() and each not in special else _ESCAPES.get(each, repr(each)[1:-1]) for each in text
    )


def literal_or_none(path: str | None) -> str | None:
    """A path as a Python literal, or None."""
    return None if path is None else literal(path)


def _keywords(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={literal(value)}" for name, value in values.items() if value is not None)


def _traced(spec: GridSpec, name: str = "trace", tracer: str = "tracer") -> list[str]:
    """Lines that compute a grid."""
    if spec.is_plain:
        return [f"{name} = {tracer}.trace({_keywords(_asked(spec))})"]
    first = [] if spec.receivers is None else _several("", spec.receivers)
    method = "trace" if spec.receivers is None else "trace_paths"
    more = [f"    {_keywords(_asked(spec))},", *_several("hold=", spec.hold), *_several("through=", spec.through)]
    return [f"{name} = {tracer}.{method}(", *first, *more, ")"]


def _mapped(direction: str, square: int, paths: GridSpec | None) -> list[str]:
    """Lines that compute a map of image tokens."""
    if paths is None or paths.receivers is None:
        return [f"picture_map = tracer.trace_image_tokens(patch={square}, direction={literal(direction)})"]
    options = f"    patch={square}, direction={literal(direction)},"
    rest = [options, *_several("through=", paths.through), ")"]
    return ["picture_map = tracer.trace_image_paths(", *_several("", paths.receivers), *rest]


def _patched(spec: GridSpec, selected: Selection, states: Sequence[State]) -> list[str]:
    """Lines that patch the selection; the grid's cells where all of it is held."""
    left = spec.free(states)
    if not left:
        return [f"cells = [{', '.join(f'trace[{layer}, {position}]' for layer, position in selected.cells)}]"]
    listed, direction = _several("", left), f"    direction={literal(spec.direction)},"
    if spec.receivers is None:
        return ["effect = tracer.patch(", *listed, direction, *_several("hold=", spec.hold), ")"]
    rest = [*_several("", spec.receivers), direction, *_several("through=", spec.through)]
    return ["effect = tracer.patch_path(", *listed, *rest, ")"]


def _several(before: str, items: Sequence[str | State] | str) -> list[str]:
    """Lines that list words and states as an argument; none for nothing."""
    if isinstance(items, str):
        return [f"    {before}{literal(items)},"]
    shown = [literal(item) if isinstance(item, str) else _state(item) for item in items]
    return [f"    {before}[", *(f"        {item}," for item in shown), "    ],"] if shown else []


def _asked(spec: GridSpec) -> dict[str, Any]:
    """A grid as `Tracer.trace` takes it, but for states; the words of one that does nothing are left out."""
    asked = {name: value for name, value in spec._asdict().items() if name not in OF_STATES}
    if spec.patch == 1:
        del asked["patch"]
    if spec.receivers is not None:
        del asked["window"]
    return asked


def _state(state: State) -> str:
    return f"State({_keywords(vars(state))})"
