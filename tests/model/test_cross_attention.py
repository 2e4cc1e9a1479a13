"""Cross-attention with keys projected, absorbed or swapped, against the model's own attention module."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from blip_trace_widget.model.cross_attention import AbsorbedKV, ImageKV, Projections, SwappedKV
from helpers.problems import EXAMPLES
from helpers.random_models import random_model


@st.composite
def attentions(draw):
    """A random model's question encoder, rows of queries (S, C x n, D) and tokens (S, T, D)."""
    heads = draw(st.sampled_from([1, 2, 4]))
    model = random_model(seed=draw(st.integers(0, 1000)), heads=heads, width=8 * heads)
    model.hf.double()  # what is held here is the algebra, not the rounding
    samples, runs, rows, tokens = (draw(st.integers(1, 4)) for _ in range(4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    queries = torch.randn(samples, runs * rows, 8 * heads, generator=generator, dtype=torch.float64)
    seen = torch.randn(samples, tokens + 1, 8 * heads, generator=generator, dtype=torch.float64)
    return model.question_encoder.layers, runs, queries, seen


def plain(layers, layer, queries, tokens):
    """The module's own context vectors and weights of one batch."""
    with torch.no_grad():
        return layers[layer].crossattention.self(queries, encoder_hidden_states=tokens)


def close(ours, exact):
    torch.testing.assert_close(ours, exact, atol=1e-9, rtol=1e-9)


@EXAMPLES
@given(attentions(), st.floats(0, 5))
def test_projected_and_absorbed_equal_the_module(problem, strength):
    layers, _, queries, tokens = problem
    clean = torch.randn(1, *tokens.shape[1:], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        image = ImageKV(layers, Projections(layers, clean, bias=True))
        noisy = image.plus(Projections(layers, tokens, bias=False), strength)
        for kv, seen in (
            (image, clean.expand(len(queries), -1, -1)),
            (noisy, clean + strength * tokens),
            (AbsorbedKV(layers, tokens[:, None]), tokens),
            (AbsorbedKV(layers, clean[:, None]), clean.expand(len(queries), -1, -1)),
        ):
            context, weights = plain(layers, 1, queries, seen)
            close(kv.context(1, queries), context)
            close(kv.weights(1, queries), weights)
            if seen is tokens or len(queries) == 1:  # edges are cut where every row has its own
                nothing = torch.zeros(1, queries.shape[1], seen.shape[1], dtype=torch.bool)
                close(kv.context(1, queries, nothing), context)


@EXAMPLES
@given(attentions(), st.data())
def test_every_run_may_have_tokens_of_its_own(problem, data):
    layers, runs, queries, tokens = problem
    samples, _, width = queries.shape
    sets = data.draw(st.sampled_from([1, samples]))
    own = torch.randn(sets, runs, *tokens.shape[1:], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        found = AbsorbedKV(layers, own).context(0, queries).view(samples, runs, -1, width)
    for run in range(runs):
        exact, _ = plain(layers, 0, queries.view(samples, runs, -1, width)[:, run], own[:, run].expand(samples, -1, -1))
        close(found[:, run], exact)


@EXAMPLES
@given(attentions(), st.data())
def test_swapped_tokens_equal_the_module_on_mixed_tokens(problem, data):
    layers, runs, queries, tokens = problem
    samples, _, width = queries.shape
    count_of_tokens = tokens.shape[1]
    clean = torch.randn(1, count_of_tokens, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    taken = st.lists(st.integers(0, count_of_tokens - 1), min_size=1, max_size=count_of_tokens, unique=True)
    groups = [data.draw(taken) for _ in range(runs)]
    base, source = clean, tokens
    if data.draw(st.booleans()):
        base, source = source, base
    with torch.no_grad():
        memories = [ImageKV(layers, Projections(layers, seen, bias=True)) for seen in (base, source)]
        found = SwappedKV(layers, *memories, groups).context(0, queries).view(samples, runs, -1, width)
    for run, group in enumerate(groups):
        mixed = base.expand(samples, -1, -1).clone()
        mixed[:, group] = source[:, group]
        close(found[:, run], plain(layers, 0, queries.view(samples, runs, -1, width)[:, run], mixed)[0])


def test_without_any_edge_nothing_flows():
    layers = random_model().question_encoder.layers
    tokens, queries = torch.randn(1, 3, 16), torch.randn(1, 2, 16)
    cut = torch.tensor([[[True, True, True], [True, False, True]]])
    with torch.no_grad():
        projected = ImageKV(layers, Projections(layers, tokens, bias=True)).context(0, queries, cut)
        absorbed = AbsorbedKV(layers, tokens[:, None]).context(0, queries, cut)
    for context in (projected, absorbed):
        assert (context[0, 0] == 0).all()
        only = plain(layers, 0, queries[:, 1:], tokens[:, 1:2])[0]
        torch.testing.assert_close(context[:, 1:], only, atol=1e-5, rtol=1e-5)
