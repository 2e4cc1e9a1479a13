"""Formatting numbers and effects; the Python twin of js/src/format.ts and sentence.ts.

For: figures drawn without a browser that read like the widget.
Ends: at text; `blip_trace_widget.display.svg` places it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from blip_trace_widget.choices import metric_properties
from blip_trace_widget.display.labels import site_and_head

#: Units of time: its seconds, its name, and the number of seconds from which the next unit is used.
UNITS = ((1, "s", 100), (60, "min", 3600), (3600, "h", math.inf))

#: A piece of text, and whether it is bold.
Piece = tuple[str, bool]


def fixed(value: float, decimals: int) -> str:
    """A number with a fixed number of decimals and a true minus sign; rounds half up, as in JavaScript."""
    if math.isinf(value):
        return "Infinity" if value > 0 else "−Infinity"
    digits = format(Decimal(abs(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP, Context(400)), "f")
    return f"−{digits}" if value < 0 and float(digits) else digits


def limit(value: float) -> str:
    """An end of a scale, with as many decimals as it has."""
    return fixed(value, max(0, -int(Decimal(repr(float(value))).normalize().as_tuple().exponent)))


def percent(value: float | None, margin: float | None = None) -> str:
    """A share: "58 % ± 4 %"."""
    return _with_margin(value, margin, 100, _few(value), 2, " %")


def plain(value: float | None, margin: float | None = None) -> str:
    """A plain number: "0.47 ± 0.03"."""
    return _with_margin(value, margin, 1, 2, 4, "")


def score(metric: str, value: float | None, margin: float | None = None) -> str:
    """A score: a probability as a percentage, any other metric as it is."""
    return percent(value, margin) if metric_properties(metric).percent else plain(value, margin)


def points(metric: str, value: float | None, margin: float | None = None) -> str:
    """A difference of two scores; of two percentages it is in points."""
    if not metric_properties(metric).percent:
        return plain(value, margin)
    return f"{_with_margin(value, margin, 100, _few(value), 2, '')} points"


def answer_text(answer: str, quoted: str = "{}") -> str:
    """An answer put into the template `quoted`, or a note if the model's answer is empty."""
    return quoted.format(answer) if answer else "none: it says nothing"


def capitalised(text: str) -> str:
    """The text with its first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def seconds_left(seconds: float) -> str:
    """About how much time is left, in words."""
    count, unit = next((seconds / size, unit) for size, unit, end in UNITS if seconds < end)
    return f"{fixed(count, 0 if unit == 'min' or count >= 10 else 1)} {unit} left"


def _few(value: float | None) -> int:
    return 1 if value and abs(value) < 0.01 else 0


def _with_margin(
    value: float | None, margin: float | None, factor: float, fallback: int, most_decimals: int, unit: str
) -> str:
    """Rounded to the first digit of the margin, which is left out where it is unknown or too small to show."""
    if value is None or not math.isfinite(value):
        return "–"
    error = (margin or 0.0) * factor
    if not (error > 0 and math.isfinite(error)):
        return fixed(value * factor, fallback) + unit
    # Rounding may carry 0.096 to 0.1: the shown digit decides.
    decimals = min(most_decimals, max(0, -int(f"{error:.0e}".partition("e")[2])))
    shown, spread = fixed(value * factor, decimals) + unit, fixed(error, decimals)
    return f"{shown} ± {spread}{unit}" if float(spread) else shown


def token_name(tokens: Sequence[str], position: int) -> str:
    """A token in quotation marks, with its position if the same word occurs twice."""
    token = tokens[position] if position < len(tokens) else ""
    return f"“{token}”" + (f" (token {position})" if tokens.count(token) > 1 else "")


def layers_name(layer: int, window: int, layers: int) -> str:
    """The layers in a window around a layer."""
    start = layer - window // 2
    first, last = max(0, start), min(layers - 1, start + window - 1)
    return f"layer {first}" if first == last else f"layers {first}–{last}"


def sentence(detail: Mapping[str, Any], runs: Mapping[str, Any], *, negligible: bool) -> list[Piece]:
    """The sentence about the selected states; where others are held, with the numbers without and with that.

    Args:
        detail: `blip_trace_widget.display.protocol.Detail`.
        runs: `blip_trace_widget.display.protocol.Runs`; may be empty.
        negligible: whether the effect cannot be distinguished from 0.
    """
    if detail.get("into"):
        return _sent(detail, runs, negligible)
    held, free = detail.get("held"), detail.get("free")
    if held and held["itself"]:
        one = len(detail["cells"]) == 1
        ends = ("is", "itself", "it is") if one else ("are", "themselves", "they are")
        [(name, _), *rest] = _subject(detail)
        return [
            (capitalised(name), True),
            *rest,
            (" {1} held {0} {2}: {3} not patched.".format(held["kept"], *ends), False),
        ]
    verb = "damaging" if detail["direction"] == "disrupt" else "restoring"
    holding = "" if held is None else f"with {held['phrase']} held {held['kept']}, "
    if free is None:  # one number alone
        return [
            (capitalised(f"{holding}{verb} "), False),
            *_subject(detail),
            *_outcome(detail, detail, runs, negligible),
        ]
    first = _outcome(free, detail, runs, free["negligible"], "")
    start = [(capitalised(f"{verb} "), False), *_subject(detail), *first]
    return [*start, (f"; {holding}", False), *_second(detail, runs, negligible)]


def _outcome(
    numbers: Mapping[str, Any], detail: Mapping[str, Any], runs: Mapping[str, Any], negligible: bool, stop: str = "."
) -> list[Piece]:
    """What came of patching: "brings back 58 % of what the noise took."; without a `stop` something follows."""
    effect, recovery, disrupting = numbers["indirect_effect"], numbers["recovery"], detail["direction"] == "disrupt"
    if effect is None:
        return [(f": the score is not a number{stop}", False)]
    doubt = (", not distinguishable from 0" if negligible else "") + stop
    after = _after(detail, runs) if stop else ""
    if recovery is None:
        return [(" changes the score by ", False), (_change(effect, numbers, detail), True), (doubt + after, False)]
    against = recovery < -5e-4 and not negligible  # what would be shown as 0 takes nothing away
    if disrupting:
        verb, of = (" adds " if against else " costs "), " of the total effect"
    else:
        verb, of = (
            (" takes away a further " if against else " brings back "),
            f" of what the {detail['cause']} took",
        )
    amount = percent(-recovery if against else recovery, numbers["recovery_margin"])
    return [(verb, False), (amount, True), (of + doubt + after, False)]


def _sent(detail: Mapping[str, Any], runs: Mapping[str, Any], negligible: bool) -> list[Piece]:
    """What a sender sends directly: "Restoring layer 2 at “color” sends 25 % of what the noise took directly to …"."""
    effect, recovery, disrupting = detail["indirect_effect"], detail["recovery"], detail["direction"] == "disrupt"
    into = (detail["into"], True)
    start = [("Damaging " if disrupting else "Restoring ", False), *_subject(detail)]
    if effect is None:
        return [*start, (": the score is not a number.", False)]
    if detail["dead"]:
        return [*start, (" sends nothing directly to ", False), into, (" by construction: no path leads there.", False)]
    doubt = f"{', not distinguishable from 0' if negligible else ''}.{_after(detail, runs)}"
    if recovery is None:
        changed = [(" changes the score by ", False), (_change(effect, detail, detail), True)]
        return [*start, *changed, (" directly through ", False), into, (doubt, False)]
    against = recovery < -5e-4 and not negligible
    if disrupting:
        verb, of = (" sends a gain of " if against else " sends a loss of "), " of the total effect directly to "
    else:
        verb = " sends a further loss of " if against else " sends "
        of = f" of what the {detail['cause']} took directly to "
    amount = percent(-recovery if against else recovery, detail["recovery_margin"])
    return [*start, (verb, False), (amount, True), (of, False), into, (doubt, False)]


def _second(detail: Mapping[str, Any], runs: Mapping[str, Any], negligible: bool) -> list[Piece]:
    """The number with what is held, after the one without."""
    effect, recovery = detail["indirect_effect"], detail["recovery"]
    if effect is None:
        return [("the score is not a number.", False)]
    doubt = ", not distinguishable from 0" if negligible else ""
    if detail["held"]["dead"]:
        doubt = " by construction, for nothing gets past it"
    amount = _change(effect, detail, detail) if recovery is None else percent(recovery, detail["recovery_margin"])
    return [(amount, True), (f"{doubt}.{_after(detail, runs)}", False)]


def _change(effect: float, numbers: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    """By how much the score changes; the effect of damage is counted as a loss, so that its sign turns round."""
    return points(detail["metric"], -effect if detail["direction"] == "disrupt" else effect, numbers["margin"])


def _after(detail: Mapping[str, Any], runs: Mapping[str, Any]) -> str:
    """What follows the numbers: why there is no recovery, or no error."""
    alone = f" {capitalised(detail['error'])}." if detail.get("error") else ""
    if detail["recovery"] is not None:
        return alone
    gate = runs.get("gate", {"open": True})
    return f" Recovery {'is not defined here.' if gate['open'] else 'is not shown: ' + gate['text'] + '.'}{alone}"


def _subject(detail: Mapping[str, Any]) -> list[Piece]:
    """What was patched, such as "layer 10 at “circle”"."""
    if detail["patches"]:
        row, column = detail["patches"][0]
        count = len(detail["patches"])
        return [(f"patch {row},{column}" if count == 1 else f"these {count} patches", True), (" of the picture", False)]
    if len(detail["cells"]) != 1:
        return [(f"these {len(detail['cells'])} states", True)]
    [(layer, position)] = detail["cells"]
    part = "" if detail["site"] == "block_output" else f" ({site_and_head(detail['site'], detail['head'])})"
    name = layers_name(layer, detail["window"], detail["layers"]) + part
    return [(name, True), (" at ", False), (token_name(detail["tokens"], position), True)]
