"""What was computed can be read, drawn, averaged and played without torch: in a fresh process, one after the other."""

import json
import subprocess
import sys

import pytest

from helpers.paths import OLD_FILES as FILES

#: What is imported by whoever only looks.
HEAVY = "{'torch', 'transformers'}"
DONE = {
    "a trace": "load_trace(files / 'trace.safetensors').to_dataframe()",
    "its difference": "load_trace(files / 'trace.safetensors') - load_trace(files / 'trace.safetensors')",
    "its figure": "load_trace(files / 'trace.safetensors').export(out / 'figure.svg')",
    "its page": "load_trace(files / 'trace.safetensors').save_html(out / 'page.html')",
    "a file of its own": "load_trace(files / 'trace.safetensors').save(out / 'trace')",
    "a recording": "recording.save(recording.load(files / 'recording.safetensors'), out / 'recording')",
    "a data set": "found = DatasetTrace.load(files / 'dataset'); found.to_dataframe(); found.traces(1)",
    "its average": "DatasetTrace.load(files / 'dataset').mean().to_dataframe()",
    "its average as a trace": "from blip_trace_widget.widget.dataset_average import average; "
    "from blip_trace_widget.widget.dataset_means import Means; "
    "means = Means(DatasetTrace.load(files / 'dataset'), None); "
    "average(means, '', list(means.specs))[0].export(out / 'average.svg')",
    "what is played": "from blip_trace_widget.widget.replay import Replay; "
    "Replay(recording.load(files / 'recording.safetensors'), None)",
    "a widget of it": "TraceWidget.from_trace(files / 'recording.safetensors').export(out / 'figure.svg')",
    "a widget of a data set": "TraceWidget.from_dataset(files / 'dataset').save_html(out / 'page.html')",
    "a click": "widget = TraceWidget.from_trace(files / 'recording.safetensors'); "
    "widget.selection = [(1, 1)]; widget.noise = 2.0; widget.undo(); widget.code",
    "corruptions": "GaussianNoise(2.0), MeanAblation('zero'), QuestionSwap('what is it?')",
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """What of the heavy was newly there after each, and an error where there was one."""
    names = "DatasetTrace, GaussianNoise, MeanAblation, QuestionSwap, TraceWidget, load_trace"
    lines = [
        "import json, sys, traceback",
        "from pathlib import Path",
        f"from blip_trace_widget import {names}",
        "from blip_trace_widget.results import recording",
        f"files, out = Path({str(FILES)!r}), Path({str(tmp_path_factory.mktemp('out'))!r})",
        "told, there = {}, set()",
        f"for name, code in {DONE!r}.items():",
        "    try:",
        "        exec(code)",
        f"        told[name] = sorted({HEAVY} & set(sys.modules) - there)",
        "    except Exception:",
        "        told[name] = traceback.format_exc()",
        f"    there |= {HEAVY} & set(sys.modules)",
        "print(json.dumps(told))",
    ]
    run = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", DONE)
def test_no_torch_is_imported_for(imported, name):
    assert imported[name] == []
