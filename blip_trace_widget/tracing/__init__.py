"""Clean, corrupted and patched runs of one question, and what they are scored by.

Ends: at results (`blip_trace_widget.results`); knows no widget and nothing of how a result is shown.
"""
