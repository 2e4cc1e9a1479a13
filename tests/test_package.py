"""The package as a whole: types, style, a light import, and a wheel that works alone."""

import ast
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

import blip_trace_widget
from helpers.paths import ROOT


def python(*arguments, executable=sys.executable, **options):
    run = subprocess.run([str(executable), *arguments], capture_output=True, text=True, timeout=600, **options)
    assert run.returncode == 0, f"{' '.join(arguments)[:200]}\n{run.stdout[-4000:]}\n{run.stderr[-4000:]}"
    return run.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def types():
    """What mypy says; it runs beside all other tests of this file."""
    with ThreadPoolExecutor() as beside:
        yield beside.submit(python, "-m", "mypy", cwd=ROOT)


def test_style():
    python("-m", "ruff", "check", ".", cwd=ROOT)
    python("-m", "ruff", "format", "--check", ".", cwd=ROOT)


def test_importing_the_package_and_the_examples_imports_no_torch():
    heavy = "{'torch', 'transformers', 'anywidget', 'pandas', 'matplotlib', 'bqplot'}"
    code = f"import sys, blip_trace_widget; blip_trace_widget.examples(); print(sorted({heavy} & set(sys.modules)))"
    assert python("-c", code) == "[]"


def test_every_public_name_is_there_and_documented():
    for name in blip_trace_widget.__all__:
        value = getattr(blip_trace_widget, name)
        assert value.__doc__, name
        assert name in dir(blip_trace_widget)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = blip_trace_widget.nothing


def test_every_module_says_what_it_is_for_and_where_it_ends():
    for path in sorted((ROOT / "blip_trace_widget").rglob("*.py")):
        if path.name in ("__init__.py", "_version.py"):  # rooms are described by what is in them
            continue
        opening = path.read_text("utf-8").split('"""')[1]
        for word in ("For:", "Ends:"):
            assert f"\n{word}" in opening, path


def raised(node):
    """Names of the exceptions that a function raises itself, not caught by a `try` around them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Try) and child.handlers:
            for part in (*child.handlers, *child.orelse, *child.finalbody):
                yield from raised(part)
        elif isinstance(child, ast.Raise) and child.exc is not None:
            name = ast.unparse(child.exc.func if isinstance(child.exc, ast.Call) else child.exc).rpartition(".")[2]
            if name.isidentifier() and name[0].isupper():  # else a function, a variable or an expression
                yield name
        elif not isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            yield from raised(child)


def public_functions(node, docs=""):
    """The public functions and methods in a module or class, with their docstrings; a class's stands for `__init__`."""
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child, ast.get_docstring(child) or "")
        elif isinstance(child, ast.FunctionDef) and child.name in ("__init__", "__post_init__"):
            yield child, docs
        elif isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
            yield child, ast.get_docstring(child) or ""


def test_docstrings_name_the_exceptions_that_are_raised():
    for path in sorted((ROOT / "blip_trace_widget").rglob("*.py")):
        for function, docs in public_functions(ast.parse(path.read_text("utf-8"))):
            missing = set(raised(function)) - set(re.findall(r"\w+", docs.partition("Raises:")[2]))
            assert not missing, f"{path}:{function.lineno}: {function.name} raises {missing}"


@pytest.mark.slow
def test_the_wheel_installs_alone_and_traces(tmp_path):
    """Built as users get it; in an empty environment that borrows only the dependencies' files."""
    python("-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("static/widget.js", "static/widget.css", "demo/model/model.safetensors", "py.typed"):
        assert f"blip_trace_widget/{needed}" in names
    assert sum(name.endswith(".png") for name in names) >= 8
    assert not [name for name in names if name.startswith(("js/", "tests/", "notebooks/"))]

    venv.create(tmp_path / "empty")
    executable = tmp_path / "empty" / ("Scripts" if os.name == "nt" else "bin") / "python"
    python("-m", "pip", "--python", str(executable), "install", "-q", "--no-deps", str(wheel))
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    code = f"""
import sys, json
sys.path += {borrowed!r}
import blip_trace_widget
from blip_trace_widget import BlipVqa, Tracer, TraceWidget, examples
example = examples()[0]
trace = Tracer(BlipVqa.demo(), example.image, example.question).trace()
widget = TraceWidget()
widget.wait(60)
made = [blip_trace_widget.__file__, trace.complete, example.answer, widget.runs["clean"]["answer"]]
print(json.dumps([*made, "bqplot" in sys.modules]))
"""
    printed = python("-I", "-c", code, executable=executable, cwd=tmp_path).splitlines()[-1]
    home, complete, answer, shown, charts = json.loads(printed)
    assert str(tmp_path / "empty") in home
    assert complete
    assert shown == answer
    assert not charts, "a widget without its panel needs no bqplot"


@pytest.mark.slow
def test_types(types):
    # The last test of this file: see `types`.
    types.result()
