"""The widget: traits, messages, jobs on the worker, undo, recordings that are played back.

Ends: at traits and messages; nothing is computed here but by asking `blip_trace_widget.tracing`.
"""
