"""The front end's own checks, run with Node from a Python wheel, and that the committed bundle is what js/ builds."""

import gzip

import pytest

from helpers.node import npm
from helpers.paths import ROOT, STATIC

BUILT = ("widget.js", "widget.css", "dataset.js", "dataset.css", "page.js")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["typecheck", "lint", "test"])
def test_the_front_end_passes_its_own(js, script):
    npm(js, "run", script)


@pytest.mark.slow
def test_the_committed_bundle_is_what_js_builds(js):
    npm(js, "run", "build")
    for name in BUILT:
        built = (js.parent / "blip_trace_widget" / "static" / name).read_bytes()
        assert built == (STATIC / name).read_bytes(), f"static/{name} is out of date: run `npm run build` in js/"


def test_the_bundle_is_small_and_asks_nothing_of_the_network():
    bundle = (STATIC / "widget.js").read_bytes()
    assert len(bundle) < 100 * 1024
    assert len(gzip.compress(bundle, 9)) < 34 * 1024
    text = "".join((STATIC / name).read_text("utf-8") for name in BUILT)
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
