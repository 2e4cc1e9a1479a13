"""The figure as a standalone SVG, drawn from the payloads that the widget sends to its front end.

For: saving the figure from a notebook, and a still picture of it where no JavaScript runs.
Cost: 10 ms and 50 kB, most of it the picture, for 50 cells; a second and 2 MB for an image encoder of 577 × 12 cells.
Ends: at a string of valid XML, without scripts or external references.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from blip_trace_widget.checks import brief, one_of
from blip_trace_widget.display import formatting, labels
from blip_trace_widget.display.colors import THEMES
from blip_trace_widget.display.formatting import Piece
from blip_trace_widget.display.held import held_note
from blip_trace_widget.display.svg import pane
from blip_trace_widget.display.svg.canvas import Canvas
from blip_trace_widget.display.svg.heatmap import Cells, Heatmap, read, read_difference
from blip_trace_widget.display.svg.pane import Marks
from blip_trace_widget.states import DIRECTIONS

__all__ = ["THEMES", "Marks", "svg"]

Payload = Mapping[str, Any]

WIDTH = 960
#: The two columns and the line between them, in pixels.
LEFT, LEFT_WIDTH, DIVIDE, RIGHT, RIGHT_WIDTH = 16, 256, 288, 304, 640
#: The columns of bars: run -> heading.
RUNS = (("clean", "clean"), ("corrupted", "with {}"), ("pinned", "pinned"), ("patched", "patched"))


def svg(
    *,
    runs: Payload | None,
    grid: Payload | None,
    detail: Payload | None,
    question: str,
    picture: bytes,
    show: str = "recovery",
    limit: float = 0.0,
    axes: str = "tokens",
    direction: str = "restore",
    window: int = 1,
    settings_line: str = "",
    marks: Marks | None = None,
    theme: str = "light",
    difference: Payload | None = None,
    agreement: Payload | None = None,
    note: str = "",
) -> str:
    """Draw the figure.

    Args:
        runs: `blip_trace_widget.display.protocol.Runs`; if this or one of the next two is empty, its part is omitted.
        grid: `blip_trace_widget.display.protocol.Grid`.
        detail: `blip_trace_widget.display.protocol.Detail`; its cells are outlined if they belong to this grid.
        question: the question.
        picture: JPEG; may be empty.
        show: what the colour shows: ``"recovery"``, ``"indirect_effect"`` or ``"score"``.
        limit: end of the colour scale; 0 to take it from the values.
        axes: the rows: ``"tokens"`` or ``"layers"``.
        direction: ``"restore"`` or ``"disrupt"``.
        window: how many neighbouring layers are patched together.
        settings_line: how the input was corrupted, in a few words.
        marks: overlays on the picture.
        theme: ``"light"`` or ``"dark"``.
        difference: `blip_trace_widget.display.protocol.GridDifference` of the grid, drawn instead of its values.
        agreement: the same; states how far the two agree, and outlines the cells on which they disagree.
        note: a note at the foot of the left column.

    Returns:
        the SVG's source.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is accepted.
    """
    _check(show, axes, direction, theme, limit)
    runs, detail, cells = runs or {}, detail or {}, read(grid) if grid else None
    sentence = _sentence(runs, detail, cells)
    caption = labels.caption(show, direction)
    if grid and difference:
        cells = read_difference(grid, difference, show)
        caption = f"{cells.shown(show).capitalize()}: {cells.text}"
    if cells and agreement and agreement["agreement"]:
        cells = replace(cells, apart=frozenset((layer, at) for layer, at in agreement["apart"]))
        caption += f". {agreement['agreement']}"
    canvas = Canvas(theme, WIDTH)
    canvas.add("title", None, f"Causal trace: {question}")
    heading = _heading(cells.grid, window) if cells else ""
    gate, sentence_text = runs["gate"]["text"] if runs else "", "".join(text for text, _ in sentence)
    described = [heading and f"{heading}: {caption}", gate, sentence_text, settings_line]
    canvas.add("desc", None, "\n".join(filter(None, described)))
    frame = canvas.rect(0.5, 0.5, WIDTH - 1, 0, "ground", stroke="line", rx=8)
    divide = canvas.rect(DIVIDE, 1, 1, 0, "line")
    bottom = _asked(canvas, runs, question, picture, settings_line, marks)
    if note:
        bottom = canvas.paragraph(LEFT, bottom + 30, [(note, False)], LEFT_WIDTH, 12, "muted") - 14

    y = 16.0
    if cells is not None:
        y = _grid(canvas, cells, runs, detail, (heading, caption), (show, direction, axes, limit))
    y = _answers(canvas, sentence, runs, detail, y, divided=cells is not None)
    height = math.ceil(max(bottom, y)) + 16
    canvas.root.set("height", str(height))
    canvas.root.set("viewBox", f"0 0 {WIDTH} {height}")
    frame.set("height", str(height - 1))
    divide.set("height", str(height - 2))
    return ET.tostring(canvas.root, encoding="unicode")


def _check(show: str, axes: str, direction: str, theme: str, limit: float) -> None:
    one_of("show", show, labels.SHOWS)
    one_of("axes", axes, labels.AXES)
    one_of("direction", direction, DIRECTIONS)
    one_of("theme", theme, THEMES)
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise TypeError(f"limit: expected a number, got {type(limit).__name__}")
    if not (math.isfinite(limit) and limit >= 0):
        raise ValueError(f"limit: expected a number above 0, or 0 for automatic, got {brief(limit)}")


def _grid(
    canvas: Canvas,
    cells: Cells,
    runs: Payload,
    detail: Payload,
    words: tuple[str, str],
    view: tuple[str, str, str, float],
) -> float:
    """Draw the heatmap under its heading and caption, with its legend; returns its bottom."""
    (heading, caption), (show, direction, axes, limit) = words, view
    old = _is_old(cells.grid, runs)
    canvas.text(RIGHT, 30, heading, font_weight="600")
    caption += ", for earlier settings" if old else ""
    end = canvas.paragraph(RIGHT, 50, [(caption, False)], RIGHT_WIDTH, 12, "muted")
    scale = cells.scale(show, falling=(runs.get("total_effect") or 0) < 0, limit=limit)
    metric = runs.get("metric", "probability")
    heatmap = Heatmap(canvas, cells, scale, show, metric, axes, (RIGHT, end - 10, RIGHT_WIDTH))
    end = heatmap.draw(cells.of(detail) if detail else [], pale=old)
    end = heatmap.legend(end + 14, direction, runs.get("error", ""))
    held = held_note(cells.grid.get("held", ""), cells.grid.get("kept", ""))
    for note in [] if old or cells.text else [*filter(None, [held]), *cells.grid["notes"]]:
        end = canvas.paragraph(RIGHT, end + 14, [(note, False)], RIGHT_WIDTH, 12, "muted") - 8
    return end


def _answers(
    canvas: Canvas, sentence: list[tuple[str, bool]], runs: Payload, detail: Payload, y: float, *, divided: bool
) -> float:
    """Draw the sentence and the bars below the grid; returns their bottom."""
    bars = detail.get("bars") or runs.get("bars") or {}
    bars = bars if bars.get("words") else {}  # an average has no words
    if divided and (sentence or bars):
        canvas.rect(RIGHT, y, RIGHT_WIDTH, 1, "line")
        y += 12
    if sentence:
        y = canvas.paragraph(RIGHT, y + 14, sentence, RIGHT_WIDTH) - 6
    return _bars(canvas, bars, runs.get("cause", "noise"), y) if bars else y


def _is_old(payload: Payload, runs: Payload) -> bool:
    """Whether a payload was computed for earlier settings than the shown runs."""
    return bool(payload.get("generation", 0) < runs.get("generation", 0))


def _sentence(runs: Payload, detail: Payload, cells: Cells | None) -> list[Piece]:
    """The sentence about the selected states; for a single one, consistent with its mark in the grid."""
    if not detail:
        return []
    negligible = detail["negligible"]
    if cells is not None and cells.grid["block"] == detail["block"]:
        here = cells.of(detail)
        if len(here) == len(detail["cells"]) == 1 and cells.known(here[0]):
            negligible = bool(cells.negligible[here[0]])
    pieces = formatting.sentence(detail, runs, negligible=negligible)
    return [*pieces, (" Computed for earlier settings.", False)] if _is_old(detail, runs) else pieces


def _heading(grid: Payload, window: int) -> str:
    """The states that the grid shows."""
    parts = [labels.label(grid["block"]).capitalize(), labels.site_and_head(grid["site"], grid.get("head"))]
    if grid.get("patch", 1) > 1:
        parts.append(f"squares of {grid['patch']} × {grid['patch']} tokens")
    if window > 1:
        parts.append(f"{window} layers together")
    return " · ".join(parts)


def _asked(
    canvas: Canvas, runs: Payload, question: str, picture: bytes, settings_line: str, marks: Marks | None
) -> float:
    """Draw the left column; returns its bottom."""
    y = 16.0
    if picture:
        pane.draw(canvas, picture, LEFT, y, LEFT_WIDTH, marks)
        y += LEFT_WIDTH + 12
        if marks is not None and marks.picture_map.get("text"):
            shown = marks.picture_map
            limits = f" ({shown['low']} … {shown['high']} {shown['unit']})" if shown["high"] else ""
            y = canvas.paragraph(LEFT, y + 8, [(shown["text"] + limits, False)], LEFT_WIDTH, 12, "muted")
    box = canvas.rect(LEFT + 0.5, y + 0.5, LEFT_WIDTH - 1, 0, "none", stroke="line", rx=5)
    end = canvas.paragraph(LEFT + 9, y + 21, [(question, False)], LEFT_WIDTH - 18) - 9
    box.set("height", str(end - y - 1))
    y = end + 16
    if runs:
        for name, name_shown in (("clean", "clean"), ("corrupted", "noisy" if runs["cause"] == "noise" else "damaged")):
            canvas.text(LEFT, y + 9, name_shown)
            canvas.bar(LEFT + 64, y, 136, runs[name]["share"], name, "trough")
            value = formatting.score(runs["metric"], runs[name]["score"])
            canvas.text(LEFT + LEFT_WIDTH, y + 9, value, anchor="end")
            y += 24
        answer, noisy = runs["clean"]["answer"], runs["corrupted"]["answer"]
        y = (
            canvas.paragraph(
                LEFT,
                y + 15,
                [(formatting.answer_text(answer) + (" (given)" if runs["given"] else ""), True)],
                LEFT_WIDTH,
                15,
            )
            - 14
        )
        differs = (
            []
            if noisy == answer or runs["given"]
            else [
                (f" · {'noisy' if runs['cause'] == 'noise' else 'damaged'} answer ", False),
                (formatting.answer_text(noisy, "“{}”"), True),
            ]
        )
        y = canvas.paragraph(LEFT, y + 13, [(runs["gate"]["text"], False), *differs], LEFT_WIDTH, 13, "muted") - 9
        canvas.text(
            LEFT, y + 15, f"Noise {runs['damage']}" if runs["cause"] == "noise" else runs["damage"].capitalize()
        )
        y += 20
    return canvas.paragraph(LEFT, y + 14, [(settings_line, False)], LEFT_WIDTH, 12, "muted") - 14


def _bars(canvas: Canvas, bars: Payload, cause: str, y: float) -> float:
    """Draw the words' probabilities in the clean, the corrupted and the patched run; returns the bottom."""
    runs = [(name, heading.format(cause)) for name, heading in RUNS if bars[name]]
    left, pitch = RIGHT + 80, (RIGHT_WIDTH - 80 + 16) / len(runs)
    for column, (_, heading) in enumerate(runs):
        canvas.text(left + column * pitch, y + 14, heading, 12, "muted")
    y += 22
    for row, word in enumerate(bars["words"]):
        canvas.text(left - 12, y + 15, word, anchor="end", room=68)
        for column, (name, _) in enumerate(runs):
            x, share = left + column * pitch, bars[name][row]
            canvas.bar(x, y + 6, pitch - 56, share or 0.0, name, "faint")
            if share is not None:
                canvas.text(x + pitch - 16, y + 15, formatting.percent(share), 12, "muted", "end")
        y += 22
    return y
