"""Servers that tests start, each in a home and on a port of its own."""

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

from helpers.waiting import PATIENCE

TOKEN = "browser-tests"

#: Below those that the system hands out by itself; each process of a test run has some of its own to begin with.
_ports = itertools.count(20_000 + 20 * os.getpid() % 10_000)


def free_port():
    """A port of 127.0.0.1 at which nobody listens."""
    with socket.socket() as probe:
        while True:
            port = next(_ports)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """A command of Python's that runs in a folder, with settings and data of its own in another.

    Args:
        arguments: after ``python -m``; ``{port}`` stands for its port.
        folder: it runs there.
        home: exists.
    """

    def __init__(self, arguments, folder, home):
        port = free_port()
        self.folder, self.address, self._log = folder, f"http://127.0.0.1:{port}", home / "log.txt"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "HOME": str(home),
            "JUPYTER_TOKEN": TOKEN,
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "IPYTHONDIR": str(home / "ipython"),
            "XDG_CONFIG_HOME": str(home / "xdg"),
            "OMP_NUM_THREADS": "1",  # the models are tiny: more threads only wait for each other
            # Whatever would be asked of the network goes nowhere.
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
            **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
        }
        command = [sys.executable, "-m", *(argument.format(port=port) for argument in arguments)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)

    @contextmanager
    def logged(self):
        """Where something fails, the log is shown."""
        try:
            yield self
        except BaseException:
            print(self._log.read_text())
            raise

    @contextmanager
    def serving(self):
        """The address, as soon as there is an answer from it."""
        with self.logged():
            end = time.monotonic() + PATIENCE / 1000
            while not self._answers():
                assert self.process.poll() is None, "the server has ended"
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.1)
            yield self.address

    def _answers(self):
        try:
            urllib.request.urlopen(self.address, timeout=5).close()
        except urllib.error.HTTPError:
            return True  # it wants the token
        except OSError:
            return False
        return True

    def end(self):
        """Have it end."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
