"""Where things lie in the repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "blip_trace_widget" / "static"
#: What version 0.1.0 wrote.
OLD_FILES = ROOT / "tests" / "data" / "0.1.0"
