"""The version.

For: files and workers, which name it.
Ends: at a text.
"""

__version__ = "0.1.0"
