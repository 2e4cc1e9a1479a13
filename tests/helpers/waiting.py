"""Waiting for the thing itself, for as long as a machine of one busy core may need."""

import time

#: Milliseconds to wait for anything: far more than it takes, for a machine that does other work too.
PATIENCE = 120_000

#: Resolves when two frames have been drawn: by then everything has seen its new size.
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def until(page, condition, what):
    """Wait for a condition that cannot be waited for in the page itself."""
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what() if callable(what) else what}"
        page.wait_for_timeout(50)
