"""From one question to a data set: many samples traced, stored, averaged and compared.

For: figures over hundreds of questions, with intervals. Data flows one way: samples → batch → rows → store → traced →
alignment → averages → widget; plan says what is computed, run decides what is left to do, cluster where it is done.
Cost: see `blip_trace_widget.dataset.batch`. Needs pyarrow, and for a cluster dask.distributed (extra ``data``).
Ends: at `DatasetTrace` and its results; `blip_trace_widget.TraceWidget.from_dataset` shows it.
"""
