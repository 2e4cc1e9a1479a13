"""Frozen numbers: runs, grids, curves, their statistics, tables, plots and files.

Ends: at data; needs neither torch nor transformers, and knows no widget and no message of one.
"""
