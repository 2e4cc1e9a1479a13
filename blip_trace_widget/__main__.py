"""Tracing a data set from the shell: ``python -m blip_trace_widget trace questions.csv --images DIR --out DIR``.

For: long runs without a notebook, on a server or in a batch system.
Cost: that of `blip_trace_widget.trace_dataset`.
Ends: at arguments, printed lines and an exit code: 0 when every sample is traced or skipped, 1 on an error, 2 on
arguments that cannot be used, 130 when interrupted. Finished samples are kept; the same command resumes.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from blip_trace_widget.choices import NOISE_KINDS, PLACES, PUBLISHED_PLACE
from blip_trace_widget.dataset import store
from blip_trace_widget.dataset.corruptions import Given
from blip_trace_widget.dataset.json_questions import read_gqa, read_vqa
from blip_trace_widget.dataset.pair_files import read_folders, read_mit_states
from blip_trace_widget.dataset.question_files import read_questions
from blip_trace_widget.dataset.samples import demo_samples
from blip_trace_widget.dataset.shards import read_webdataset
from blip_trace_widget.model import checkpoint
from blip_trace_widget.results.grid_spec import ANSWER
from blip_trace_widget.states import BLOCKS, DIRECTIONS, EVERYWHERE, HELD_SITES, SITES, TEXT_BLOCKS, State
from blip_trace_widget.tracing.corruption import GaussianNoise, ImageSwap, QuestionSwap, Scale
from blip_trace_widget.tracing.metrics import METRICS

EXAMPLES = """\
examples:
  the built-in model and 50 drawn scenes:
    python -m blip_trace_widget trace demo --limit 50 --out results
  pairs of them, every head of the attention to the picture, two scores:
    python -m blip_trace_widget trace demo --corruption ImageSwap --out results \\
        --sites cross_attention --head all --metric probability logit_difference
  COCO-QA, as Palit et al. publish it, with BLIP:
    python -m blip_trace_widget trace color_coco_qa.csv --images train2017 --out results \\
        --model Salesforce/blip-vqa-base --only-correct
  then, in a notebook: blip_trace_widget.TraceWidget.from_dataset("results")
The same command goes on with a run that has ended in any way.
Exit codes: 0 done, 1 an error, 2 arguments that cannot be used, 130 interrupted.
"""

#: Formats of questions by name; a table tells by its columns which one it is.
READERS: dict[str, Callable[[Any], Any]] = {
    "table": lambda asked: read_questions(asked.questions, asked.images, asked.missing, asked.limit),
    "vqa": lambda asked: read_vqa(
        asked.questions, asked.annotations, asked.images, missing=asked.missing, limit=asked.limit
    ),
    "gqa": lambda asked: read_gqa(asked.questions, asked.images, missing=asked.missing, limit=asked.limit),
    "mit_states": lambda asked: read_mit_states(asked.questions, limit=asked.limit),
    "folders": lambda asked: read_folders(asked.questions, asked.question, limit=asked.limit),
    "webdataset": lambda asked: read_webdataset(asked.questions, asked.limit),
}
#: Those whose pictures are there with the questions.
WITH_PICTURES = ("mit_states", "folders", "webdataset")
#: Attention edges that can be cut, by name: what `blip_trace_widget.Edges` is told.
KNOCKOUTS: dict[str, dict[str, Any]] = {
    "picture": {"block": "question_encoder"},
    "object": {"block": "question_encoder", "keys": "object"},
    "background": {"block": "question_encoder", "keys": "background"},
    "question": {"block": "answer_decoder"},
}
#: Corruptions by name: the pairs of drawn scenes that each needs.
SWAPS = {"ImageSwap": "image", "QuestionSwap": "question"}

#: A state as a word of the shell, and one.
STATE, EXAMPLE = "BLOCK.LAYER.TOKEN.SITE[.HEAD]", "question_encoder.4.color.mlp"

DTYPES = ("float32", "float64", "bfloat16", "float16")

#: Patterns of the Python arguments that messages name -> the shell's options.
FLAGS = {
    r"\bmissing='(error|skip)'": r"--missing \1",
    r"\bonly_correct=True": "--only-correct",
    r"\bcorruption\.factor\b": "--noise",
    r"\bcorruption\.(kind|samples|seed|at)\b": r"--\1",
    r"\bcorruption\.positions\b": "--words",
    r"\bgrids (?=was )": "--blocks and --sites ",
    r"\bonly_correct (?=was )": "--only-correct ",
    r"(?<!\S)(model|dtype|metric)s? (?=was )": r"--\1 ",
    r"(?<!\S)image_map(?= was |:)": "--image-map",
    r"(?<!\S)heads\.\w+ (?=was )": "--head ",
    r"(?<!\S)knockout\.(\w+)\.\w+ (?=was )": r"--knockout \1 ",
    r"^(images|annotations|missing|limit|kind|seed|at|out|model|device|dtype):": r"--\1:",
    r"^(metric|blocks|sites|head|window|direction|hold|receivers):": r"--\1:",
    r"^hold, receivers:": "--hold, --receivers:",
    r"(?<!\S)(hold|receivers)(?= was )": r"--\1",
    r"^(csv|samples|shards):": "questions:",
    r"^blocks, sites:": "--blocks, --sites:",
    r"(?<=: )blocks=(?=\[)": "--blocks ",
    r"(?<= and )sites=(?=\[)": "--sites ",
    r"(?<= with )head=(?=\[)": "--head ",
    r"^factor:": "--noise:",
    r"^positions:": "--words:",
    r"^client:": "--scheduler:",
    r"^block:": "--blocks:",
    r"^site:": "--sites:",
    r"\buse BlipVqa\.demo\(\) for the built-in model\b": "leave out --model for the built-in model",
    r"\bBlipVqa\.from_pretrained\(folder\) with a folder\b": "--model with a folder",
}


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    root = argparse.ArgumentParser(
        prog="python -m blip_trace_widget",
        description="Causal tracing of BLIP's visual question answering.",
        allow_abbrev=False,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    trace = commands.add_parser(
        "trace",
        help="trace every question of a file into a folder of Parquet tables",
        description="Ask BLIP every question of a file, damage the image until the answer is lost, and find out\nwhich "
        "hidden states bring it back. Results: two Parquet tables, a row a sample and a row a cell.",
        epilog=EXAMPLES,
        usage="%(prog)s QUESTIONS --out DIR [option ...]",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26),
        allow_abbrev=False,
    )
    for part in (_add_files, _add_model, _add_noise, _add_grids, _add_run):
        part(trace.add_argument)
    _add_merge(commands)
    return root


def _add_merge(commands: Any) -> None:
    merge = commands.add_parser(
        "merge",
        help="merge folders that were traced with the same settings into a new one",
        description="Merge folders that were traced with the same settings into a new one; they stay as they are.",
        allow_abbrev=False,
    )
    merge.add_argument("folders", nargs="+", metavar="FOLDER", help="a folder of results; two or more")
    merge.add_argument("--out", metavar="DIR", required=True, help="the new folder")


def _add_files(add: Callable[..., Any]) -> None:
    """What is asked, and where the results go."""
    add(
        "questions",
        help="a CSV file with the columns image, question (and answer, foil, id, group, other_image, other_question, "
        "region), or in COCO-QA's, CLEVR's or SVO-Probes' format; a file or folder of another --format; or "
        "demo for drawn scenes",
    )
    add("--format", choices=list(READERS), default="table", metavar="NAME", help=_one_of(READERS, "table"))
    add("--annotations", metavar="FILE", help="with --format vqa: the answers")
    add("--question", metavar="TEXT", help="with --format folders, such as 'is this person {first} or {second}?'")
    add("--images", metavar="DIR", help="the folder of the pictures that the file names")
    add("--out", metavar="DIR", required=True, help="the folder for the results; to go on, the one of before")


def _add_model(add: Callable[..., Any]) -> None:
    """Which model, and where it runs."""
    add("--model", metavar="ID", help="a hub id or a folder; default the built-in model")
    add("--device", metavar="NAME", help="such as cpu or cuda:0; default the GPU if there is one")
    add("--dtype", choices=DTYPES, default=DTYPES[0], metavar="NAME", help=_one_of(DTYPES, DTYPES[0]))


def _add_noise(add: Callable[..., Any]) -> None:
    """How the image or question is corrupted."""
    corruptions = ("GaussianNoise", *SWAPS)
    add(
        "--corruption",
        choices=corruptions,
        default=corruptions[0],
        metavar="NAME",
        help=_one_of(corruptions, corruptions[0]),
    )
    add("--noise", type=float, default=5.0, metavar="FACTOR", help="noise factor (default %(default)g)")
    add("--scale", type=float, metavar="FACTOR", help="instead of noise, image tokens times a factor")
    add(
        "--kind", choices=NOISE_KINDS, default=NOISE_KINDS[0], metavar="NAME", help=_one_of(NOISE_KINDS, NOISE_KINDS[0])
    )
    add("--at", choices=PLACES, default=PUBLISHED_PLACE, metavar="NAME", help=_one_of(PLACES, PUBLISHED_PLACE))
    add("--words", nargs="+", metavar="W", help="with --at question_embeddings: which get noise (default all)")
    add("--samples", type=int, default=10, metavar="N", help="noise samples a question (default %(default)d)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the noise (default %(default)d)")


def _add_grids(add: Callable[..., Any]) -> None:
    """What is computed: all that is listed, combined."""

    def several(option: str, choices: Iterable[str], *default: str, told: str = "") -> None:
        names, letter, shown = list(choices), option[2].upper(), (told,) if told else default
        add(option, nargs="+", choices=names, default=list(default), metavar=letter, help=_one_of(names, *shown))

    several("--metric", METRICS, "probability")
    several("--blocks", BLOCKS, *TEXT_BLOCKS, told="the last two")
    several("--sites", SITES, "block_output")
    add("--head", nargs="+", type=head, default=[None], metavar="N", help="heads by number, all, or whole (default)")
    add("--window", nargs="+", type=int, default=[1], metavar="N", help="layers patched together (default 1)")
    several("--direction", DIRECTIONS, "restore")
    add("--image-map", type=int, metavar="K", help="also patch squares of K x K image tokens")
    several("--knockout", KNOCKOUTS)
    add("--hold", nargs="+", type=held, metavar="H", help=f"sites ({EVERYWHERE}), or states as {STATE}")
    add("--receivers", nargs="+", type=held, metavar="R", help=f"paths into {ANSWER}, or such states")


def _add_run(add: Callable[..., Any]) -> None:
    """Which questions, and who computes."""
    add("--only-correct", action="store_true", help="skip questions that the model does not answer as the file says")
    add("--missing", choices=("error", "skip"), default="error", metavar="NAME", help="pictures: error (default), skip")
    add("--plan", action="store_true", help="say how long it will take and what it needs on disk, and end")
    add("--limit", type=int, metavar="N", help="only the first N questions")
    add("--scheduler", metavar="ADDRESS", help="a dask scheduler whose workers compute, such as tcp://10.0.0.1:8786")


def _one_of(names: Iterable[str], *default: str) -> str:
    """The names that an option takes, in a help text."""
    return ", ".join(names) + f" (default {' '.join(default) or 'none'})"


def head(text: str) -> int | str | None:
    """A head by number, ``all`` of them, or the ``whole`` attention.

    Raises:
        ValueError: if it is none of these.
    """
    return {"all": "all", "whole": None}[text] if text in ("all", "whole") else int(text)


def held(text: str) -> str | State:
    """What is held, or what receives: a word, or a state as `STATE` says, whose position is a number or a token.

    Raises:
        argparse.ArgumentTypeError: if it is neither.
    """
    # A token may have a point in it, or be one.
    found = re.fullmatch(r"(\w+)\.(\d+)\.(.+)\.([a-z_]+)(?:\.(\d+))?", text)
    if found is None:
        if text in (*HELD_SITES, EVERYWHERE, ANSWER):
            return text
        raise argparse.ArgumentTypeError(
            f"expected one of {[*HELD_SITES, EVERYWHERE, ANSWER]}, or {STATE} such as {EXAMPLE}, got {text!r}"
        )
    block, layer, position, site, head = found.groups()
    at = int(position) if position.isdecimal() else position
    try:
        return State(block, int(layer), at, site, None if head is None else int(head))  # type: ignore[arg-type]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: those after the program's name; default `sys.argv`.

    Raises:
        SystemExit: with code 2, for arguments that cannot be used.
    """
    asked = parser().parse_args(arguments)
    if asked.command == "merge":
        return _done(_merge, asked, "nothing was written")
    _check(asked)
    kept = f"what was finished is kept in {asked.out}, the same command goes on"
    return _done(_trace, asked, "nothing was written" if asked.plan else kept)


def _check(asked: Any) -> None:
    """Refuse options of `trace` that do not go together."""
    if asked.limit is not None and asked.limit < 1:
        parser().error(f"argument --limit: expected 1 or more, got {asked.limit}")
    if asked.questions != "demo" and asked.images is None and asked.format not in WITH_PICTURES:
        parser().error("the following arguments are required: --images (where the pictures of the file are)")
    if (asked.format == "folders") != (asked.question is not None):
        parser().error("argument --question: --format folders needs it, and no other has it")
    if asked.annotations is not None and asked.format != "vqa":
        parser().error("argument --annotations: only with --format vqa")
    if asked.scheduler and asked.device:
        parser().error("argument --device: the workers behind --scheduler use the devices that they have")
    if asked.corruption in SWAPS:
        for option, given in (("--scale", asked.scale), ("--words", asked.words)):
            if given is not None:
                parser().error(f"argument {option}: not with --corruption {asked.corruption}")
        if asked.at != PUBLISHED_PLACE:
            parser().error(f"argument --at: {asked.corruption} has no other place than {PUBLISHED_PLACE} here")
    if "image_encoder" in asked.blocks and (asked.at != "patch_embeddings" or asked.corruption in SWAPS):
        parser().error("argument --blocks: image_encoder has something to trace only with --at patch_embeddings")
    if asked.questions == "demo" and asked.corruption not in SWAPS and "logit_difference" in asked.metric:
        parser().error("argument --metric: logit_difference needs a foil, and the drawn scenes have none")


def _done(work: Callable[[Any], None], asked: Any, interrupted: str) -> int:
    """Do it, and return the exit code."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            work(asked)
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return 130
    except (TypeError, ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"error: {in_flags(str(error))}", file=sys.stderr)
        return 1
    return 0


def in_flags(message: str) -> str:
    """A message of the package in which Python's arguments are replaced by the shell's options."""
    for pattern, flag in FLAGS.items():
        message = re.sub(pattern, flag, message)
    return message


def _show_warning(message: Warning | str, *_: Any, **_more: Any) -> None:
    """Print one line, as for errors; where in the code it was raised does not concern users of the shell."""
    print(f"warning: {in_flags(str(message))}", file=sys.stderr)


def _merge(asked: Any) -> None:
    from blip_trace_widget import merge

    merged = merge(asked.folders, asked.out)
    print(merged.summary)
    print(f"results: {Path(asked.out).absolute()}")


def _trace(asked: Any) -> None:
    # Check everything that can be wrong before importing torch and loading a model, which both take long.
    corruption = _corruption(asked)
    samples = _samples(asked)
    store.arrow()
    store.check_place(asked.out)
    if asked.device:
        checkpoint.check_device(asked.device)
    if asked.model:
        checkpoint.check(asked.model)
    client = _client(asked.scheduler)

    from blip_trace_widget import BlipVqa, Edges, trace_dataset

    # With a scheduler the model is loaded here only to know what the workers should load.
    options = {"device": "cpu" if asked.scheduler else asked.device, "dtype": asked.dtype}
    model = BlipVqa.from_pretrained(asked.model, **options) if asked.model else BlipVqa.demo(**options)
    what = (samples, model, asked.out, asked.blocks, asked.sites, corruption, asked.metric)
    options = {
        name: getattr(asked, name) for name in ("head", "window", "direction", "image_map", "only_correct", "hold")
    }
    options["receivers"] = ANSWER if asked.receivers == [ANSWER] else asked.receivers
    options["knockout"] = {name: Edges(**KNOCKOUTS[name]) for name in asked.knockout} or None
    if asked.plan:
        print(trace_dataset(*what, plan=True, **options).summary)
        return
    results = trace_dataset(*what, client, progress=True, **options)
    skipped = results.samples[~results.samples["traced"]]
    for _, row in skipped.iterrows():
        print(f"skipped: {row['id']}: {row['reason']} ({in_flags(row['why'])})")
    print(f"results: {Path(asked.out).absolute()}")


def _corruption(asked: Any) -> Given:
    try:
        if asked.scale is not None:
            return Scale(asked.scale, at=asked.at)
        noise = GaussianNoise(asked.noise, asked.kind, asked.samples, asked.seed, at=asked.at, positions=asked.words)
    except (TypeError, ValueError) as error:
        # Here `samples` is the number of noise samples; everywhere else, the questions.
        raise ValueError(re.sub(r"^samples: ", "--samples: ", str(error))) from error
    return {"ImageSwap": ImageSwap, "QuestionSwap": QuestionSwap}.get(asked.corruption, noise)


def _samples(asked: Any) -> Any:
    if asked.questions == "demo":
        return demo_samples(asked.limit or 200, pairs=SWAPS.get(asked.corruption))  # type: ignore[arg-type]
    try:
        return READERS[asked.format](asked)
    except (TypeError, ValueError, OSError) as error:
        if asked.format not in WITH_PICTURES:
            raise
        raise type(error)(re.sub(r"^images:", "questions:", str(error))) from error


def _client(address: str | None) -> Any:
    if address is None:
        return None
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError('--scheduler needs distributed: pip install "blip_trace_widget[data]"') from error
    try:
        return Client(address, timeout="30s")
    except (OSError, ValueError) as error:
        raise OSError(f"--scheduler: {address!r} could not be reached: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
