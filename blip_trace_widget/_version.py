"""The version, which files and workers name."""

__version__ = "0.1.0"
