"""A widget whose model's weights somebody edits."""

import numpy as np
import pytest
import torch

from helpers.changed_models import (
    ANSWER,
    PICTURE,
    QUESTION,
    ask,
    layer,
    plain_hf,
    wrap,
)
from helpers.widgets import quick_widget


@pytest.mark.parametrize("edit", ["counted", "behind the counter"])
def test_a_widget_computes_a_filled_grid_anew_after_an_edit(edit):
    model = wrap(plain_hf())
    shown = quick_widget(PICTURE, QUESTION, model=model, answer=ANSWER, metric="log_probability")
    try:
        shown.trace_all()
        shown.wait(60)
        before = shown.trace.samples
        weight = layer(model.hf, 0).intermediate.dense.weight
        with torch.no_grad():
            (weight if edit == "counted" else weight.data).mul_(3)
        shown.trace_all()
        shown.wait(60)
        fresh = ask(wrap(model.hf)).trace().samples
        assert not np.allclose(fresh, before)
        np.testing.assert_allclose(shown.trace.samples, fresh, atol=1e-5)
    finally:
        shown.close()
