"""How much each head of the question encoder looks at a region of the picture, and how much beside it.

For: data sets, which average it over questions.
Cost: the attention weights of the clean run, layer by layer.
Ends: at numbers; `blip_trace_widget.dataset.head_means` averages them.

Source: the functions of cross-attention heads, Golovanevsky et al. 2024 (NOTICE, arXiv 2406.16320).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.model.computing import Computing
from blip_trace_widget.tracing.question import Question

#: What is told of a head's attention, a mean over the question's tokens: shares of the whole, which is 1.
SHARES = ("object", "background", "largest_background")


def region_attention(question: Question, region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Cross-attention of the clean run's question encoder to a region of the picture, (3, layers, heads): see `SHARES`.

    Args:
        question: the question.
        region: (rows, columns) of image patches.

    Returns:
        the share on the region's patches, on all others, and on the one of those others that gets most; what is missing
        to 1 goes to the class token. Means over the question's tokens, special ones included.

    Raises:
        ModelChangedError: if somebody changed the model meanwhile.
    """
    inside = np.concatenate([[False], region.ravel()])
    outside = np.concatenate([[False], ~region.ravel()])
    block, found = question.model.question_encoder, []
    with Computing(question.model):
        clean = question.bases.clean()
        for layer in range(len(block.layers)):
            weights = block.weights("cross_attention", layer, clean.encoder, clean.image_view.kv)[0]
            mean = weights.double().mean(dim=1).cpu().numpy()  # (heads, image tokens)
            largest = mean[:, outside].max(axis=1, initial=0.0)
            found.append([mean[:, inside].sum(axis=1), mean[:, outside].sum(axis=1), largest])
    return np.stack(found, axis=1)
