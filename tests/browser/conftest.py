"""One JupyterLab server and one Chromium for all browser tests; one file of them drives Firefox."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.notebooks import Notebook, write_notebook
from helpers.servers import TOKEN, Server
from helpers.waiting import PATIENCE

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-smooth-scrolling",
]
#: JupyterLab's, by plugin.
SETTINGS = {
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},  # a saved notebook shows the figure
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},  # a test's own saving is left out during another
}
HOW = "no {} found: install it (Debian: apt-get install {}) and have it on the PATH"
NO_CHROMIUM = HOW.format("Chromium", "chromium")
NO_FIREFOX = HOW.format("Firefox", "firefox-esr")


def pytest_collection_modifyitems(items):
    """Without the browser skip, and say how to get it; where nobody reads skips (CI), fail instead."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            needed, how = (FIREFOX, NO_FIREFOX) if item.path.stem == "test_firefox" else (CHROMIUM, NO_CHROMIUM)
            if needed is None and os.environ.get("CI") != "true":
                item.add_marker(pytest.mark.skip(reason=how))


@pytest.fixture(scope="session")
def firefox():
    if FIREFOX is None:
        pytest.fail(NO_FIREFOX)
    return FIREFOX


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    if CHROMIUM is None:
        pytest.fail(NO_CHROMIUM)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": 1280, "height": 900},
            timeout=PATIENCE,
        )
        context.set_default_timeout(PATIENCE)
        yield context
        context.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab server; (address, folder of its notebooks)."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "work"
    settings = home / "config" / "labconfig"
    for made in (folder, settings):
        made.mkdir(parents=True)
    # The debugger logs an error of its own when a kernel goes while it asks for its state.
    off = {"@jupyterlab/apputils-extension:announcements": True, "@jupyterlab/debugger-extension": True}
    (settings / "page_config.json").write_text(json.dumps({"disabledExtensions": off}))
    for plugin, chosen in SETTINGS.items():
        path = home / "config" / "lab" / "user-settings" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(chosen))
    command = ["jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    server = Server(command, folder, home)
    try:
        with server.serving() as address:
            yield address, folder
    finally:
        server.end()


@contextmanager
def notebooks(chromium, lab):
    """Open cells of code as a notebook and run them; at the end a page's uncaught errors fail the test."""
    address, folder = lab
    pages = []

    def opened(*cells, name="test.ipynb", width=1280, height=900, dark=False, run=True):
        path = folder / name
        if cells:
            write_notebook(path, *cells)
        page = chromium.new_page()
        notebook = Notebook(page, f"{address}/lab/tree/{name}?reset&token={TOKEN}")
        pages.append(notebook)
        notebook.size(width, height)
        notebook.load()
        notebook.dark(dark)
        if run:
            notebook.run_all()
        return notebook

    yield opened
    for notebook in pages:
        notebook.shut_down()
        notebook.page.close()
    for notebook in pages:
        assert notebook.errors == []


@pytest.fixture
def open_notebook(chromium, lab):
    """Open notebooks for one test."""
    with notebooks(chromium, lab) as opened:
        yield opened


@pytest.fixture(scope="module")
def open_for_file(chromium, lab):
    """Open notebooks for all tests of a file: opening takes far longer than most of what is tested."""
    with notebooks(chromium, lab) as opened:
        yield opened


@pytest.fixture(scope="session")
def shared(chromium, lab):
    """A notebook of three cells for the tests of several files; what is in them is up to each test."""
    with notebooks(chromium, lab) as opened:
        yield opened("", "", "", name="shared.ipynb", run=False)
