"""What a folder's tables hold, held against what they can hold: sizes before they are read, then what is never missing.

For: everything that reads a folder, which may have come from anywhere.
Cost: sums over columns, never over cells one by one.
Ends: at errors; `blip_trace_widget.dataset.settings` checks the settings, `blip_trace_widget.results.stored` what is in
the texts of a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from blip_trace_widget.checks import clipped, whole_number

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from blip_trace_widget.dataset.samples import PathLike

#: Most samples of a batch.
MAX_BATCH = 1 << 16
#: Most rows of a part, and most numbers in a column of it, that are read; a small file can claim any number of them.
MAX_ROWS, MAX_NUMBERS = 1 << 24, 1 << 28

#: Columns that are never null. The cells of a map of image tokens have no block, site, head, window or layer, those of
#: a knockout no direction and no corrupted score.
PRESENT = {
    "samples": ("sample", "group", "traced"),
    "cells": (
        *("sample", "intervention", "metric", "position", "token", "clean", "score", "indirect_effect", "scores"),
    ),
}
#: Columns that are never null in the cells of a grid, beside those.
OF_GRIDS = ("block", "site", "window", "direction", "layer", "corrupted")
#: The samples' columns that every traced sample has, and those that every scored one has.
TRACED, SCORED = ("question_tokens", "image", "answer"), ("clean", "corrupted", "total_effect")


@contextmanager
def undamaged(folder: PathLike, what: str) -> Iterator[None]:
    """Turn whatever is raised by damaged data into one error that says of what they are.

    Raises:
        ValueError: in place of it.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"folder: {os.fspath(folder)!r} is damaged: what it has of {what}: {clipped(repr(error))}"
        ) from error


def check_size(metadata: Any, most: int) -> None:
    """Hold the rows and numbers that a Parquet file claims against what there can be, before they are read.

    Args:
        metadata: the file's.
        most: most rows that it may have.

    Raises:
        ValueError: if there are more.
    """
    if metadata.num_rows > most:
        raise ValueError(f"it has {metadata.num_rows} rows, expected at most {most}")
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    for at in range(metadata.num_columns):
        numbers = sum(group.column(at).num_values for group in groups)
        if numbers > MAX_NUMBERS:
            raise ValueError(f"a column has {numbers} numbers, expected at most {MAX_NUMBERS}")


def check_present(table: pa.Table, names: Sequence[str]) -> None:
    """Check that nothing is missing in some columns, of which a table may have only a part.

    Raises:
        ValueError: naming the first in which a value is.
    """
    for name in names:
        if name in table.column_names and table[name].null_count:
            raise ValueError(f"{name}: a value is missing")


def check_samples(samples: pd.DataFrame, metrics: int) -> None:
    """Check that rows from files are of different samples, and that the traced ones have what averages need.

    Args:
        samples: the rows.
        metrics: by how many metrics runs are scored. A traced sample may lack scores of the first if there are others.

    Raises:
        ValueError: naming the column.
    """
    whole_number("sample", int(samples["sample"].min()) if len(samples) else 0, 0)
    if samples["sample"].duplicated().any():
        raise ValueError("sample: a number is there twice")
    traced = samples[samples["traced"]]
    scored = traced[traced["why"].isna()]
    if metrics == 1 and len(scored) < len(traced):
        raise ValueError("why: a traced sample has a reason to be skipped")
    for table, names in ((traced, TRACED), (scored, SCORED)):
        for name in names:
            if table[name].isna().any():
                raise ValueError(f"{name}: a traced sample has none")
    if samples.loc[~samples["traced"], "reason"].isna().any():
        raise ValueError("reason: a skipped sample has none")
    for name in ("group", "question"):
        samples[name].fillna("").map(str.encode)


def check_scored(told: Mapping[str, Any]) -> None:
    """Check what a traced sample has of a metric under which its answer is broken.

    Raises:
        ValueError: naming the column.
    """
    for name in (*SCORED, "corrupted_scores"):
        if told[name] is None:
            raise ValueError(f"metrics: {name}: a traced sample has none")
