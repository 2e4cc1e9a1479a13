"""The payload of a flow: arrows between groups of tokens, as wide as what is lost without them.

For: the page's picture of it.
Ends: at a JSON-ready dictionary, `blip_trace_widget.display.protocol.FlowPicture`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from blip_trace_widget.choices import metric_properties
from blip_trace_widget.display import protocol
from blip_trace_widget.display.formatting import percent, points
from blip_trace_widget.display.payloads import number
from blip_trace_widget.results.flow import PARTS, Flow


def flow(result: Flow, generation: int) -> protocol.FlowPicture:
    """What is lost without each pair, at the layer where that is most."""
    losses, metric = result.lost, result.settings["metric"]
    told = percent if metric_properties(metric).percent else partial(points, metric)
    layers = [int(np.abs(np.nan_to_num(row)).argmax()) for row in losses]
    groups = list(dict.fromkeys(group for edge in result.edges for group in (edge.source, edge.target)))
    window = result.settings["window"]
    columns = [[group.name for group in groups if group.part == part] for part in PARTS]
    return {
        "generation": generation,
        "columns": [column for column in columns if column],
        "arrows": [
            {
                "ends": (edge.source.name, edge.target.name),
                "value": number(float(row[layer])),
                "text": f"{edge.name}: {told(float(row[layer]))} lost around layer {layer} of the "
                f"{edge.block.replace('_', ' ')}",
            }
            for edge, row, layer in zip(result.edges, losses, layers, strict=True)
        ],
        "text": f"What the clean run loses where one group no longer attends to another, in {window} layers "
        "around the one where that is most. Little lost does not mean that nothing travels there: others may "
        "carry the same.",
    }
