"""A notebook in a real JupyterLab: written, opened, run and asked; and what other hosts of notebooks share with it."""

import json
import re

import nbformat
import pytest
from playwright.sync_api import expect

from helpers.waiting import DRAWN, until

#: A page has a notebook.
OPENED = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext"
#: Waits until it has a kernel: what is run earlier is dropped.
LOADED = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const widget = app.shell.currentWidget;
    await widget.revealed;
    await widget.sessionContext.ready;
    await widget.sessionContext.session.kernel.info;
    if (app.shell.leftCollapsed === false) app.shell.collapseLeft();
}"""
#: Errors of JupyterLab's own: a kernel ended while it was asked for a thread for the messages of widgets; a page that
#: is slow looked for the widgets of a saved notebook before it had read them.
HOSTS_OWN = re.compile(
    r"Canceled future for \w+_subshell_request|subshell creation failed|Error: widget model not found"
)


def write_notebook(path, *cells):
    """A file with these cells of code."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    code = [nbformat.v4.new_code_cell(source) for source in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata=kernel), path)


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page, address):
        self.page, self.address = page, address
        self.errors = []
        self.root = page.get_by_test_id("blip-trace").first
        page.on("pageerror", lambda error: self._complain(str(error)))
        page.on("console", lambda message: self._complain(message.text) if message.type == "error" else None)

    def _complain(self, error):
        if not HOSTS_OWN.search(error):
            self.errors.append(error)

    def load(self):
        """Load the page, again if need be, and wait until it has a kernel."""
        self.page.goto(self.address)
        self.page.wait_for_function(OPENED)
        self.page.evaluate(LOADED)

    def reload(self):
        """Load the page again until its widgets are there: JupyterLab may look for them too early and give up."""
        lost = self.page.get_by_text("Error displaying widget").first

        def restored():
            self.load()
            expect(self.root.or_(lost).first).to_be_visible()
            return self.root.is_visible()

        self.until(restored, "the widgets of the notebook")

    def command(self, name, **arguments):
        self.page.evaluate(
            "async ([name, given]) => { await window.jupyterapp.commands.execute(name, given); }", [name, arguments]
        )

    def size(self, width=1280, height=900):
        """The size of the window."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate(DRAWN)

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
        light = "light => document.body.dataset.jpThemeLight === light"
        self.page.wait_for_function(light, arg="false" if dark else "true")

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
        until(self.page, condition, what)

    def shut_down(self):
        self.page.evaluate("() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown()")

    def cell(self, layer, position, root=None):
        return (root or self.root).locator(f'[data-layer="{layer}"][data-position="{position}"]').first

    def cells(self, state, root=None):
        return (root or self.root).locator(f'[role="gridcell"][data-state="{state}"]')
