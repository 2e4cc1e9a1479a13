"""One JupyterLab server and one Chromium for all browser tests; one file of them drives Firefox."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

TOKEN = "browser-tests"
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
]
#: Milliseconds to wait for anything: far more than it takes, for a machine that does other work too.
PATIENCE = 30_000
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
            profile, executable_path=CHROMIUM, headless=True, args=FLAGS, viewport={"width": 1280, "height": 900}
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
    manager = home / "config" / "lab" / "user-settings" / "@jupyter-widgets" / "jupyterlab-manager"
    manager.mkdir(parents=True)
    (manager / "plugin.jupyterlab-settings").write_text(
        json.dumps({"saveState": True})
    )  # a saved notebook shows the figure
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTER_TOKEN": TOKEN,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "OMP_NUM_THREADS": "1",  # the models are tiny: more threads only wait for each other
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    log = (home / "server.log").open("w")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=1)
            break
        except OSError:
            if server.poll() is not None:
                pytest.fail((home / "server.log").read_text())
            time.sleep(0.2)
    yield address, folder
    server.terminate()
    server.wait(20)


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page, address):
        self.page, self.address = page, address
        self.errors = []
        self.root = page.get_by_test_id("blip-trace").first
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def load(self):
        """Load the page, again if need be, and wait until it has a kernel."""
        self.page.goto(self.address)
        self.page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=60_000)
        self.page.evaluate(
            """async () => {
                const app = window.jupyterapp;
                await app.restored;
                const widget = app.shell.currentWidget;
                await widget.revealed;
                await widget.sessionContext.ready;
                await widget.sessionContext.session.kernel.info;
                if (app.shell.leftCollapsed === false) app.shell.collapseLeft();
            }"""
        )

    def command(self, name, **arguments):
        self.page.evaluate(
            "async ([name, given]) => { await window.jupyterapp.commands.execute(name, given); }", [name, arguments]
        )

    def size(self, width=1280, height=900):
        """The size of the window."""
        self.page.set_viewport_size({"width": width, "height": height})

    def write(self, *cells):
        """Put code into the first cells, and none into the others, without running it."""
        self.page.evaluate(
            """cells => window.jupyterapp.shell.currentWidget.content.widgets.forEach(
                ({model}, place) => model.sharedModel.setSource(cells[place] ?? ''))""",
            cells,
        )

    def run_all(self):
        self.command("notebook:run-all-cells")

    def dark(self, dark):
        self.command("apputils:change-theme", theme="JupyterLab Dark" if dark else "JupyterLab Light")

    def python(self, code):
        """Run code in the notebook's kernel beside the cells; what it prints."""
        return self.page.evaluate(
            """async code => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute({code, store_history: false});
                let printed = '';
                future.onIOPub = message => {
                    if (message.header.msg_type === 'stream') printed += message.content.text;
                    if (message.header.msg_type === 'error') printed += message.content.traceback.join('\\n');
                };
                await future.done;
                return printed;
            }""",
            code,
        ).strip()

    def ask(self, expression):
        """The value of an expression in the kernel; NaN stays NaN."""
        printed = self.python(f"import json\nprint(json.dumps({expression}))")
        try:
            return json.loads(printed)
        except json.JSONDecodeError:
            pytest.fail(printed)

    def counters(self):
        """What the page holds after its garbage is collected: bytes of JavaScript, DOM nodes, listeners."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("HeapProfiler.enable")
        session.send("HeapProfiler.collectGarbage")
        session.send("Performance.enable")
        found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        session.detach()
        return {name: found[name] for name in ("JSHeapUsedSize", "Nodes", "JSEventListeners")}

    def until(self, condition, what):
        """Wait for a condition that cannot be waited for in the page."""
        end = time.monotonic() + PATIENCE / 1000
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}"
            self.page.wait_for_timeout(50)

    def shut_down(self):
        self.page.evaluate("() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown()")

    def cell(self, layer, position, root=None):
        return (root or self.root).locator(f'[data-layer="{layer}"][data-position="{position}"]').first

    def cells(self, state, root=None):
        return (root or self.root).locator(f'[role="gridcell"][data-state="{state}"]')


@contextmanager
def notebooks(chromium, lab):
    """Open cells of code as a notebook and run them; at the end a page's uncaught errors fail the test."""
    address, folder = lab
    pages = []

    def opened(*cells, name="test.ipynb", width=1280, height=900, dark=False, run=True):
        path = folder / name
        if cells:
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            code = [nbformat.v4.new_code_cell(source) for source in cells]
            nbformat.write(nbformat.v4.new_notebook(cells=code, metadata=kernel), path)
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
    """A notebook of two cells for the tests of several files; what is in them is up to each test."""
    with notebooks(chromium, lab) as opened:
        yield opened("", "", name="shared.ipynb", run=False)
