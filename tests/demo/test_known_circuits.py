"""Models whose circuit is known: their answers, what methods find in them, and the same by plain hooks."""

import itertools

import numpy as np
import pytest
import torch

from blip_trace_widget import BlipVqa, GaussianNoise, ImageSwap, State, Tracer, examples
from blip_trace_widget.dataset.cluster import Loader
from blip_trace_widget.demo.circuits import circuit_questions
from blip_trace_widget.demo.circuits.pictures import draw
from blip_trace_widget.states import BLOCKS
from helpers.reference import Hooked, damaged

NAMES = ["chain", "redundant", "both", "mlp"]
#: What is measured is off by no more.
OFF = 1e-6
#: Circuits of two carriers, and the direction in which a single one of them shows nothing.
BLIND = {"redundant": "disrupt", "both": "restore"}


@pytest.fixture(scope="module")
def circuits():
    return {name: BlipVqa.known_circuit(name, device="cpu") for name in NAMES}


@pytest.fixture(params=NAMES)
def circuit(request):
    return request.param


def swapped(model, number=4, **options):
    """A tracer of one of the model's examples, its other picture swapped in."""
    asked = examples(model)[number]
    return Tracer(model, asked.image, asked.question, corruption=ImageSwap(asked.other_image, **options))


def noisy(model, number=4, **options):
    asked = examples(model)[number]
    return Tracer(model, asked.image, asked.question, corruption=GaussianNoise(5.0, samples=20, **options))


def expected(truth, name, block, site, direction, shape):
    """What a grid must be: 1 at the true states, but 0 for one of two carriers in the direction that is blind."""
    grid = np.zeros(shape)
    if block != "question_encoder" or BLIND.get(name) != direction:
        for state in truth.states:
            if (state.block, state.site) == (block, site):
                grid[state.layer, state.position] = 1
    return grid


@pytest.mark.parametrize("name", NAMES)
def test_every_question_is_answered_right(circuits, name):
    """All 324, and those about the pictures that are swapped in, by transformers alone."""
    model = circuits[name]
    asked = list(circuit_questions(name))
    assert len(asked) == 324
    words = model.processor.tokenizer
    for question in {each.question for each in asked}:
        some = [each for each in asked if each.question == question]
        pictures = [picture for each in some for picture in (each.image, each.other_image)]
        given = model.processor(images=pictures, text=[question] * len(pictures), return_tensors="pt")
        answers = words.batch_decode(model.hf.generate(**given, max_new_tokens=4), skip_special_tokens=True)
        assert answers == [answer for each in some for answer in (each.answer, each.other_answer)]


def test_the_other_picture_differs_at_every_place():
    for asked in (*circuit_questions(), *circuit_questions("redundant")):
        assert all(one != other for one, other in zip(asked.layout, asked.other, strict=True))
        assert asked.answer != asked.other_answer


@pytest.mark.parametrize("make", [swapped, noisy], ids=["swap", "noise"])
@pytest.mark.parametrize("at", ["image_embeddings", "patch_embeddings"])
def test_grids_are_the_truth(circuits, circuit, make, at):
    """Every block that is reached, every site, both directions."""
    tracer = make(circuits[circuit], at=at)
    truth = circuits[circuit].truth.located(tracer.question_tokens)
    for block in BLOCKS:
        if not tracer.corruption.reaches(block):
            continue
        for site in BLOCKS[block].sites:
            for direction in ("restore", "disrupt"):
                found = tracer.trace(block, site, direction=direction).recovery
                wanted = expected(truth, circuit, block, site, direction, found.shape)
                assert np.abs(found - wanted).max() <= OFF, (block, site, direction)


@pytest.mark.parametrize("make", [swapped, noisy], ids=["swap", "noise"])
@pytest.mark.parametrize("direction", ["restore", "disrupt"])
def test_maps_of_heads_are_the_truth(circuits, circuit, make, direction):
    tracer = make(circuits[circuit])
    for block in ("question_encoder", "answer_decoder"):
        for site in ("self_attention", "cross_attention"):
            found = tracer.trace(block, site, head="all", direction=direction).recovery
            wanted = np.zeros(found.shape)
            for head in circuits[circuit].truth.heads:
                two = (block, site) != ("question_encoder", "self_attention") and circuit in BLIND
                if (head.block, head.site) == (block, f"{site}_out") and not (two and BLIND[circuit] == direction):
                    wanted[head.layer, head.head] = 1
            assert np.abs(found - wanted).max() <= OFF, (block, site)


def test_cutting_an_edge_costs_all_or_nothing(circuits, circuit):
    """The answer is lost without a head's edge, but where another carrier is enough; no other head is needed."""
    tracer = swapped(circuits[circuit])
    truth = circuits[circuit].truth.located(tracer.question_tokens)
    lost = 0 if circuit == "redundant" else 1
    true = {(head.block, head.layer, head.site, head.head) for head in truth.heads}
    for block in ("question_encoder", "answer_decoder"):
        for site in ("self_attention", "cross_attention"):
            for head in range(4):
                cut = tracer.trace_knockout(block, site=site, head=head)
                wanted = [lost * ((block, layer, f"{site}_out", head) in true) for layer in range(4)]
                found = tracer.clean.score - cut.scores
                if (block, site, head) == ("question_encoder", "self_attention", 0) and circuit in BLIND:
                    wanted[0] = lost  # [CLS] is told there which place is asked for
                assert np.abs(found - wanted).max() <= OFF, (block, site, head)


@pytest.mark.parametrize("make", [swapped, noisy], ids=["swap", "noise"])
@pytest.mark.parametrize("name", BLIND)
def test_both_carriers_together_are_all(circuits, name, make):
    tracer = make(circuits[name])
    truth = circuits[name].truth.located(tracer.question_tokens)
    pair = [s for s in truth.states if (s.block, s.layer, s.site) == ("question_encoder", 2, "block_output")]
    assert len(pair) == 2
    single = {"restore": float(name == "redundant"), "disrupt": float(name == "both")}
    for direction in ("restore", "disrupt"):
        for state in pair:
            assert abs(tracer.patch(state, direction=direction).recovery - single[direction]) <= OFF
        assert abs(tracer.patch(pair, direction=direction).recovery - 1) <= OFF


@pytest.mark.parametrize("make", [swapped, noisy], ids=["swap", "noise"])
def test_only_an_mlp_makes_what_is_fetched_into_what_is_read(circuits, make):
    """Restoring the early state brings all back, with later MLPs held nothing; by plain hooks, all in one run."""
    for name, severed in (("mlp", 0.0), ("chain", 1.0)):
        tracer = make(circuits[name])
        early = next(
            s
            for s in circuits[name].truth.located(tracer.question_tokens).states
            if (s.block, s.layer, s.site) == ("question_encoder", 1, "block_output")
        )
        assert abs(tracer.patch(early).recovery - 1) <= OFF
        hf, processor = circuits[name].hf, circuits[name].processor
        pixels = processor(images=tracer.image, return_tensors="pt")["pixel_values"]
        hooked = Hooked(
            hf, pixels, circuits[name].question_ids(tracer.question), circuits[name].answer_ids("answer", tracer.answer)
        )
        later = [State("question_encoder", layer, early.position, "mlp") for layer in (2, 3)]
        clean = circuits[name].embed_image(tracer.image)
        restored, held, base = [], [], []
        for corrupted in damaged_by(tracer, circuits[name]):
            value = hooked.run(clean, record={early})[1][early]
            logits, kept = hooked.run(corrupted, record=set(later))
            base.append(hooked.probability(logits))
            restored.append(hooked.probability(hooked.run(corrupted, {early: value})[0]))
            held.append(hooked.probability(hooked.run(corrupted, {early: value, **kept})[0]))
        total = tracer.clean.score - np.mean(base)
        assert abs((np.mean(restored) - np.mean(base)) / total - 1) <= OFF
        assert abs((np.mean(held) - np.mean(base)) / total - severed) <= OFF
        assert abs(tracer.patch(early, hold="mlp").recovery - severed) <= OFF


def parts_of(block, heads):
    """All that can write to the residual stream, as arguments: every head, and the MLP."""
    attentions = [site for site in ("self_attention_out", "cross_attention_out") if site in BLOCKS[block].sites]
    return [*itertools.product(attentions, range(heads)), ("mlp", None)]


def sending(tracer, into, block, site, head, direction):
    """The cells of a grid whose states reach a receiver: what they send is all or nothing."""
    found = tracer.trace_paths(into, block, site, direction, head=head).recovery
    assert np.abs(found - np.round(found)).max() <= OFF
    return {State(block, *map(int, cell), site, head) for cell in np.argwhere(np.round(found) == 1)}


def walked(tracer, direction):
    """From the answer to the parts that write to it, to those that write to these, and so on: edges and parts."""
    edges, found, left = set(), {"answer"}, ["answer"]
    blocks = [block for block in BLOCKS if tracer.corruption.reaches(block)]
    while left:
        into = left.pop()
        below = blocks if into == "answer" else blocks[: blocks.index(into.block) + 1]
        for block in below:
            edges |= {(sender, into) for sender in sending(tracer, into, block, "block_output", None, direction)}
            for site, head in parts_of(block, tracer.model.blocks[block].heads):
                parts = sending(tracer, into, block, site, head, direction) - found
                found |= parts
                left += parts
    return edges, found - {"answer"}


@pytest.mark.parametrize(("circuit", "make"), [*((name, swapped) for name in NAMES), ("chain", noisy)])
def test_a_walk_back_from_the_answer_finds_every_edge_and_no_other(circuits, circuit, make):
    """Down to the picture: heads, MLPs, and what they read; in the direction that is not blind."""
    tracer = make(circuits[circuit], at="patch_embeddings")
    truth = circuits[circuit].truth.located(tracer.question_tokens)
    seeing = "disrupt" if circuit == "both" else "restore"
    edges, parts = walked(tracer, seeing)
    assert edges == set(truth.edges)
    assert parts == {receiver for _, receiver in truth.edges} - {"answer"}
    assert {part for part in parts if part.head is not None} == set(truth.heads)
    if circuit in BLIND:  # a single one of two carriers is not seen: the walk ends at the MLP that counts them
        edges, parts = walked(tracer, BLIND[circuit])
        counts = State("answer_decoder", 2, 0, "mlp")
        assert parts == {counts}
        assert edges == {(sender, receiver) for sender, receiver in truth.edges if receiver in ("answer", counts)}


def test_what_the_picture_sends_directly_goes_to_those_that_look_there(circuits, circuit):
    tracer = swapped(circuits[circuit])
    truth = circuits[circuit].truth.located(tracer.question_tokens)
    direction = "disrupt" if circuit == "both" else "restore"
    patch = next(sender.position for sender, _ in truth.edges if sender.block == "image_encoder")
    looking = {receiver for sender, receiver in truth.edges if sender.block == "image_encoder"}
    for receiver in {receiver for _, receiver in truth.edges} - {"answer"}:
        wanted = np.zeros(9)
        wanted[patch - 1] = receiver in looking
        found = tracer.trace_image_paths(receiver, direction=direction).recovery
        assert np.abs(found.ravel() - wanted).max() <= OFF, receiver


def damaged_by(tracer, model):
    """The damaged image embeddings, one a sample, by the tests' own means."""
    corruption = tracer.corruption
    return damaged(model.embed_image(tracer.image), corruption, lambda: model.embed_image(corruption.image))


def test_truth_is_made_of_states_heads_and_edges(circuits):
    truth = circuits["chain"].truth
    fetched, gathered = State("question_encoder", 1, "place"), State("question_encoder", 2, "[CLS]")
    first = State("question_encoder", 1, "place", "cross_attention_out", 2)
    second = State("question_encoder", 2, "[CLS]", "self_attention_out", 1)
    third = State("answer_decoder", 1, "[DEC]", "cross_attention_out", 0)
    assert truth.heads == (first, second, third)
    assert set(truth.edges) == {
        *((State("image_encoder", layer, "patch"), first) for layer in range(2)),
        (fetched, second),
        (gathered, third),
        (State("question_encoder", 3, "[CLS]"), third),
        *((State("answer_decoder", layer, "[DEC]"), "answer") for layer in (1, 2, 3)),
    }
    detects = State("question_encoder", 2, "place", "mlp")
    assert {
        (fetched, detects),
        (State("question_encoder", 2, "place"), State("question_encoder", 3, "[CLS]", "self_attention_out", 1)),
    } <= set(circuits["mlp"].truth.edges)
    located = truth.located(["[CLS]", "what", "is", "at", "the", "top", "?", "[SEP]"])
    assert State("question_encoder", 1, 5) in located.states
    assert located.edges[0][0] == State("image_encoder", 0, 2)
    for tokens in (["[CLS]", "what"], ["left", "right"]):
        with pytest.raises(ValueError, match=r"tokens: expected one of \['left', 'right', 'top', 'bottom'\], once"):
            truth.located(tokens)


def test_only_they_have_a_truth(demo, small):
    assert demo.truth is None
    assert small.truth is None


def test_they_are_made_by_name_and_shared(circuits, circuit):
    model = circuits[circuit]
    assert BlipVqa.known_circuit(circuit, device="cpu") is model
    assert model.name == f"known circuit: {circuit}"
    assert BlipVqa.from_pretrained(model.name, device="cpu") is model
    assert Tracer(model.name, draw(["red"] * 4), "what color is at the left?").model.truth == model.truth
    assert model.provenance["revision"] is None
    assert len({other.provenance["weights"] for other in circuits.values()}) == 4
    assert Loader.of(model) == Loader(model.name, None, "float32")


def test_chain_is_the_first(circuits):
    assert BlipVqa.known_circuit(device="cpu") is circuits["chain"]


@pytest.mark.parametrize("wrong", ["ring", "Chain", "", 3, None])
def test_another_circuit_is_refused_with_those_there_are(wrong):
    with pytest.raises(
        (TypeError, ValueError), match=r"^name: expected one of \['chain', 'redundant', 'both', 'mlp'\]"
    ):
        BlipVqa.known_circuit(wrong)


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ValueError, match=r"device: 'meta:7'|device: "):
        BlipVqa.known_circuit(device="cuda:99" if not torch.cuda.is_available() else "nowhere")


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_they_answer_in_any_type(circuit, dtype):
    model = BlipVqa.known_circuit(circuit, device="cpu", dtype=dtype)
    tracer = swapped(model, 7)
    assert tracer.clean.answer == examples(model)[7].answer
    assert tracer.corrupted.answer == examples(model)[7].other_answer


def test_examples_are_the_models_own(circuits, circuit, demo):
    shown = examples(circuits[circuit])
    assert shown == examples(f"known circuit: {circuit}")
    assert len({(each.place, each.answer) for each in shown}) == len(shown) == 12
    assert examples(demo) == examples() == examples("known circuit: ring")
