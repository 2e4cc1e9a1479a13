"""Clean, corrupted and patched runs of one question, and their scores.

For: everything that is computed with the model.
Ends: at results (`blip_trace_widget.results`). It imports no widget and nothing that displays a result.
"""
