"""The widget in other hosts than JupyterLab: Jupyter Notebook, voila, marimo, and a page that has no kernel.

Each must show what is computed here. Nothing but the machine itself can be reached, neither by the pages nor by the
servers.
"""

import json
import re
import tarfile
from pathlib import Path

import anywidget
import pytest
from playwright.sync_api import expect

from blip_trace_widget import GaussianNoise, Tracer, examples
from helpers.lab_widget import CELL, SCREENSHOTS, SHOWN, leaves_shortcuts
from helpers.node import npm
from helpers.notebooks import LOADED, OPENED, write_notebook
from helpers.servers import TOKEN, Server
from helpers.waiting import PATIENCE, until

#: With functions of a user's that observe a result: one prints, the other into an output widget.
OBSERVED = (
    CELL
    + """
import ipywidgets
from IPython.display import display
out = ipywidgets.Output()
out.add_class("taken")
@out.capture()
def within(change):
    print("within", widget.runs["damage"])
widget.observe(within, "runs")
widget.observe(lambda change: print("printed", widget.runs["damage"]), "runs")
display(widget, out)"""
)
#: In one cell: of what a kernel says while no cell runs, nbclient saves nothing.
FILLED = """
from blip_trace_widget import TraceWidget
widget = TraceWidget()
for block in ("answer_decoder", "question_encoder"):
    widget.block = block
    widget.trace_all()
    widget.wait()
widget
"""
#: Milliseconds for four hosts and their kernels to start side by side.
STARTING = 3 * PATIENCE

MARIMO = """
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    from blip_trace_widget import TraceWidget

    widget = mo.ui.anywidget(TraceWidget())
    widget
    return mo, widget


@app.cell
def _(mo, widget):
    mo.md(f"Python has ν = {widget.noise}")
    return


if __name__ == "__main__":
    app.run()
"""
MARIMO_SETTINGS = "[runtime]\nauto_instantiate = true\n[ai]\nenabled = false\n"

#: What runs, beside `python -m`; all of them start at once.
COMMANDS = {
    "notebook": [
        *("notebook", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}"),
        *("--ServerApp.port_retries=0", "--ServerApp.root_dir=.", "--JupyterNotebookApp.expose_app_in_browser=True"),
    ],
    "voila": ["voila", "figure.ipynb", "--no-browser", "--Voila.ip=127.0.0.1", "--port={port}", f"--token={TOKEN}"],
    "marimo": [
        *("marimo", "--yes", "edit", "figure.py", "--headless", "--host=127.0.0.1", "--port={port}"),
        *(f"--token-password={TOKEN}", "--skip-update-check"),
    ],
    "nbconvert": ["nbconvert", "--to", "html", "--execute", "figure.ipynb"],
}

#: What a page made by nbconvert asks for: the npm packages that have it. anywidget's file comes with its wheel.
#: As a development dependency of js/, html-manager would bring 130 packages more.
PACKED = {
    "@jupyter-widgets/html-manager@1.0.15": (
        "sha512-5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA=="
    ),
    "requirejs@2.1.10": (
        "sha512-4JqdTihK3kOnT387LxCHuJZ/9QsKg2EIl7LmaW35PIyM4LwCI2jwyy4fy6pbY/ZZH2JoY/QEcb5PzULFPP6gcQ=="
    ),
}
REQUIRE = r"https://cdnjs\.cloudflare\.com/ajax/libs/require\.js/[\d.]+/require\.min\.js"
MANAGER = r"https://unpkg\.com/@jupyter-widgets/html-manager@[^/]+/dist/embed-amd\.js"
ANYWIDGET = r"https://cdn\.jsdelivr\.net/npm/anywidget@[^/]+/dist/index\.js"


class Guarded:
    """A page that reaches nothing but this machine and the files it is given."""

    def __init__(self, page):
        self.page = page
        self.files = {}  # a pattern of addresses: the file that is there
        self.served, self.refused, self.errors = [], [], []
        page.route("**/*", self._answer)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _answer(self, route):
        address = route.request.url
        for pattern, path in self.files.items():
            if re.fullmatch(pattern, address):
                self.served.append(pattern)
                return route.fulfill(path=path, content_type="text/javascript")
        if address.startswith(("http://127.0.0.1:", "data:", "blob:")):
            return route.continue_()
        self.refused.append(address)
        return route.abort()


@pytest.fixture
def guarded(chromium):
    page = chromium.new_page()
    page.set_viewport_size({"width": 1280, "height": 1000})
    yield Guarded(page)
    page.close()


def start(name, folder):
    """A command that serves the figure, or writes a page with it, in a folder of its own."""
    home = folder / "home"
    (home / "xdg" / "marimo").mkdir(parents=True)
    (home / "xdg" / "marimo" / "marimo.toml").write_text(MARIMO_SETTINGS)
    write_notebook(folder / "figure.ipynb", FILLED if name == "nbconvert" else OBSERVED)
    (folder / "figure.py").write_text(MARIMO, "utf-8")
    return Server(COMMANDS[name], folder, home)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """All hosts; they start side by side."""
    started = {}
    try:
        for name in COMMANDS:
            started[name] = start(name, tmp_path_factory.mktemp(name))
        yield started
    finally:
        for host in started.values():
            host.process.terminate()
        for host in started.values():
            host.end()


@pytest.fixture(scope="module")
def computed(demo):
    """What the built-in example gives at a noise factor: its tracer and its grid, layers × positions."""
    example = examples()[0]
    tracer = Tracer(demo, example.image, example.question)

    def at(noise):
        noisy = tracer.with_corruption(GaussianNoise(noise))
        return noisy, noisy.trace().recovery

    return at


def in_percent(score):
    """A score as it is shown."""
    return f"{100 * score:.0f} %"


def is_complete(root, tracer, recovery):
    """Question, answer, scores and every cell are those that are computed here."""
    expect(root.get_by_test_id("question")).to_have_value(tracer.question)
    expect(root.get_by_test_id("answer")).to_have_text(tracer.answer)
    expect(root.get_by_test_id("clean-score")).to_have_text(in_percent(tracer.clean.score))
    expect(root.get_by_test_id("corrupted-score")).to_have_text(in_percent(tracer.corrupted.score))
    expect(root.get_by_role("gridcell")).to_have_count(recovery.size)
    expect(root.locator('[role="gridcell"][data-state="value"]')).to_have_count(recovery.size)
    cells = root.get_by_role("gridcell").evaluate_all("all => all.map(({dataset}) => ({...dataset}))")
    for cell in cells:
        exact = recovery[int(cell["layer"])][int(cell["position"])]
        assert float(cell["value"]) == pytest.approx(exact, abs=SHOWN), cell
    picture = root.locator("img").first
    until(root.page, lambda: picture.evaluate("({naturalWidth}) => naturalWidth > 0"), "the picture is there")


def takes_a_hand(page, computed):
    """The figure appears, and does what a hand asks: a cell, less noise, the whole grid."""
    root = page.get_by_test_id("blip-trace")
    expect(root).to_have_count(1, timeout=STARTING)
    clean, corrupted = (root.get_by_test_id(f"{run}-score") for run in ("clean", "corrupted"))
    expect(clean).to_have_text(re.compile(r"\d"))
    expect(corrupted).to_have_text(re.compile(r"\d"))
    before = corrupted.text_content()

    values = root.locator('[role="gridcell"][data-state="value"]')
    cell = root.locator('[data-layer="5"][data-position="5"]')
    expect(values).to_have_count(0)
    cell.click()
    expect(cell).to_have_attribute("data-state", "value")
    expect(root.get_by_test_id("sentence")).to_contain_text("noise took")

    slider = root.get_by_test_id("noise-slider")
    for _ in range(2):
        slider.press("PageDown")
    expect(root.get_by_test_id("noise-number")).to_have_value("3.0")
    expect(corrupted).not_to_have_text(before)

    root.get_by_test_id("trace-all").click()
    is_complete(root, *computed(3.0))
    return root


def photograph(page, name):
    SCREENSHOTS.mkdir(exist_ok=True)
    page.mouse.move(0, 0)
    page.screenshot(path=SCREENSHOTS / f"host-{name}.png")


@pytest.mark.slow
def test_jupyter_notebook(guarded, hosts, computed):
    with hosts["notebook"].serving() as address:
        guarded.page.goto(f"{address}/notebooks/figure.ipynb?token={TOKEN}", timeout=STARTING)
        guarded.page.wait_for_function(OPENED)
        guarded.page.evaluate(LOADED)
        guarded.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        takes_a_hand(guarded.page, computed)
        expect(guarded.page.locator(".taken")).to_contain_text("within ν 3.0")
        expect(guarded.page.locator(".jp-OutputArea-output", has_text="printed ν 3.0").last).to_be_visible()
        photograph(guarded.page, "notebook")
        leaves_shortcuts(guarded.page)
    assert guarded.refused == []
    assert [error for error in guarded.errors if "reading 'schema'" not in error] == []  # Notebook's own


@pytest.mark.slow
def test_voila(guarded, hosts, computed):
    with hosts["voila"].serving() as address:
        guarded.page.goto(f"{address}/?token={TOKEN}", timeout=STARTING)
        takes_a_hand(guarded.page, computed)
        expect(guarded.page.locator(".taken")).to_contain_text("within ν 3.0")
        photograph(guarded.page, "voila")
    assert [refused for refused in guarded.refused if "fontawesome" not in refused] == []  # voila's own
    assert guarded.errors == []


@pytest.mark.slow
def test_marimo(guarded, hosts, computed):
    with hosts["marimo"].serving() as address:
        guarded.page.goto(f"{address}/?access_token={TOKEN}", timeout=STARTING)
        said = guarded.page.get_by_text("Python has ν =").last
        expect(said).to_have_text("Python has ν = 5.0", timeout=STARTING)
        takes_a_hand(guarded.page, computed)
        expect(said).to_have_text("Python has ν = 3.0")
        photograph(guarded.page, "marimo")
    assert guarded.refused == []
    assert guarded.errors == []


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The scripts that a page made by nbconvert asks for, by patterns of their addresses."""
    folder = tmp_path_factory.mktemp("scripts")
    packed = json.loads(npm(folder, "pack", "--json", "--prefer-offline", *PACKED))
    assert {each["id"]: each["integrity"] for each in packed} == PACKED
    for each in packed:
        with tarfile.open(folder / each["filename"]) as archive:
            archive.extractall(folder / each["name"], filter="data")
    return {
        REQUIRE: folder / "requirejs" / "package" / "require.js",
        MANAGER: folder / "@jupyter-widgets" / "html-manager" / "package" / "dist" / "embed-amd.js",
        ANYWIDGET: Path(anywidget.__file__).parent / "nbextension" / "index.js",
    }


@pytest.mark.slow
def test_a_page_made_by_nbconvert(guarded, hosts, computed, scripts):
    with hosts["nbconvert"].logged() as host:
        assert host.process.wait(STARTING / 1000) == 0
    html = host.folder / "figure.html"
    guarded.files.update(scripts)
    guarded.page.route(html.as_uri(), lambda route: route.continue_())
    guarded.page.goto(html.as_uri())
    root = guarded.page.get_by_test_id("blip-trace")
    expect(root).to_have_count(1)
    tracer, recovery = computed(5.0)
    is_complete(root, tracer, recovery)

    for layer, position, point in ((5, 5, "hover"), (3, 2, "focus")):
        getattr(root.locator(f'[data-layer="{layer}"][data-position="{position}"]'), point)()
        tooltip = root.locator(".bt-tooltip")
        expect(tooltip).to_contain_text(f"layer {layer} · “{tracer.question_tokens[position]}”")
        expect(tooltip).to_contain_text(f"recovery{in_percent(recovery[layer][position])}")
        SCREENSHOTS.mkdir(exist_ok=True)
        guarded.page.screenshot(path=SCREENSHOTS / f"host-nbconvert-{point}.png")
        guarded.page.mouse.move(0, 0)
        expect(tooltip).to_have_count(0 if point == "hover" else 1)

    for control in ("question", "noise-slider", "choose-picture", "export", "undo"):
        expect(root.get_by_test_id(control)).to_be_disabled()
    expect(root.get_by_text("no answer from the kernel")).to_be_visible()
    root.get_by_test_id("block-answer_decoder").click()
    expect(root.locator('[role="gridcell"][data-state="value"]')).to_have_count(len(recovery))

    assert sorted(guarded.served) == sorted(scripts), "each once"
    beside = html.with_name("anywidget.js").as_uri()  # looked for first, and not there
    assert [refused for refused in guarded.refused if refused != beside and "mathjax" not in refused] == []
    assert guarded.errors == []
