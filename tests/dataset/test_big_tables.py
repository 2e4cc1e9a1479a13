"""A table a quarter as large as the published ones is opened, averaged and browsed, and what it needs is read once.

`benchmarks/big_table.py` measures one of the full size, whose memory is twice as much.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.big_tables import PUBLISHED, big_table
from helpers.paths import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="bytes read and peak memory are Linux's to say")
def test_memory_and_reads_are_bounded(tmp_path):
    folder = big_table(tmp_path / "big", PUBLISHED // 4)
    size = {
        table: sum(path.stat().st_size for path in (folder / table).iterdir()) / 2**20 for table in ("samples", "cells")
    }
    script = str(ROOT / "tests" / "benchmarks" / "big_table.py")
    run = subprocess.run([sys.executable, script, "--measure", folder], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    steps = {
        step: (float(mb), float(peak)) for step, _, mb, peak in (line.split("\t") for line in run.stdout.splitlines())
    }
    assert max(peak for _, peak in steps.values()) < 220
    read = {step: mb for step, (mb, _) in steps.items()}
    assert read["open"] < size["samples"] * 1.5  # small files are read whole, once, and no cells
    assert read["average, ends"] < size["cells"] / 2  # no noise samples' scores
    for again in ("average, words", "widget with its average", "its average"):
        assert read[again] < 5, again  # the cells are not read again, for a group either
    for page in ("search", "sort", "turn the page", "switch the group", "choose a sample"):
        assert read[page] < 5, page
