"""The widget: traits, messages, jobs on the worker, undo, playback of recordings.

For: figures in a notebook that respond while the model computes.
Ends: at traits and messages; everything is computed by `blip_trace_widget.tracing`.
"""
