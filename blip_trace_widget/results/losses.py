"""What a clean run loses where something in it is cut or changed.

For: knockout, ablation, flow and a data set's cuts, which all say it alike.
Ends: at numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blip_trace_widget.choices import metric_properties
from blip_trace_widget.results.numerics import quiet


@quiet
def relative(loss: ArrayLike, clean: ArrayLike) -> NDArray[np.float64]:
    """Losses / scores of the clean runs, in the shape of both; NaN where the latter are 0."""
    whole = np.asarray(clean, dtype=np.float64)
    return np.asarray(np.asarray(loss, dtype=np.float64) / np.where(whole == 0, np.nan, whole))


def lost(metric: str, loss: ArrayLike, clean: ArrayLike) -> NDArray[np.float64]:
    """What is lost: a share of a clean probability, else in the metric's units; above 0 is worse."""
    properties = metric_properties(metric)
    if properties.percent:
        return relative(loss, clean)
    return -np.asarray(loss) if properties.rises else np.asarray(loss)
