"""Frozen results: runs, grids and curves, with their statistics, tables, plots and files.

For: everything that keeps, analyses or shows what was computed.
Ends: at data; imports neither torch nor transformers, nor anything of the widget and its messages.
"""
