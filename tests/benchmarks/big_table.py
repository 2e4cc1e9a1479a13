"""What it costs to open, average and browse a traced data set as large as the published ones; see README.md.

``python tests/benchmarks/big_table.py [SAMPLES]`` generates a folder and prints, for each step, CPU seconds,
megabytes read, and the peak in megabytes above what the imports hold.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

#: Step -> what is done; `found` and `widget` are there from the steps of that name on.
STEPS = {
    "open": "found = DatasetTrace.load(folder)",
    "average, ends": "found.mean('ends')",
    "average, words": "found.mean('words')",
    "widget with its average": "widget = TraceWidget.from_dataset(found)",
    "search": "widget.find = 'circle color'",
    "sort": "widget.order = 'total effect, largest first'",
    "turn the page": "widget.first = 80",
    "choose a sample": "widget.chosen = 777",
    "switch the group": "widget.group = 'color'",
    "its average": "widget.wait()",
}


def status(name):
    """A figure of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def read():
    """Megabytes that this process has read from files."""
    return int(Path("/proc/self/io").read_text().split()[1]) / 2**20


def measured(folder):
    """Yield each step with seconds, MB read and the peak in MB above the imports."""
    import bqplot  # noqa: F401 - what a widget imports late is no memory of the table's
    import pandas as pd  # noqa: F401
    import pyarrow.acero  # noqa: F401

    from blip_trace_widget import DatasetTrace, TraceWidget
    from blip_trace_widget.dataset import averages  # noqa: F401
    from blip_trace_widget.widget import dataset_average  # noqa: F401

    names = {"DatasetTrace": DatasetTrace, "TraceWidget": TraceWidget, "folder": folder}
    base = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for step, code in STEPS.items():
        before, began = read(), time.process_time()
        exec(code, names)
        yield step, time.process_time() - began, read() - before, status("VmHWM") - base


def main():
    if sys.argv[1:2] == ["--measure"]:
        for step in measured(sys.argv[2]):
            print(*step, sep="\t", flush=True)
        return
    from helpers.big_tables import PUBLISHED, big_table

    with tempfile.TemporaryDirectory() as place:
        folder = big_table(Path(place) / "big", int(sys.argv[1]) if sys.argv[1:] else PUBLISHED)
        # A process of its own: making the table imports torch.
        run = subprocess.run(
            [sys.executable, __file__, "--measure", folder], check=True, capture_output=True, text=True
        )
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    for step, seconds, mb, peak in rows:
        print(f"| {step} | {float(seconds):.2f} | {float(mb):.0f} | {float(peak):.0f} |")
    print(f"| all | {sum(float(row[1]) for row in rows):.2f} | {sum(float(row[2]) for row in rows):.0f} | |")


if __name__ == "__main__":
    main()
