"""Whatever ends the look at a changed model early, the change is not lost: the next run looks again."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from blip_trace_widget import BlipVqa, State
from blip_trace_widget.model.weights import SMALL, Watch
from helpers.changed_models import ask, at_random, hook, layer, plain_hf, wrap
from helpers.random_models import words
from helpers.scarce import NO_ROOM, Operations, operations_of_look

CELL = State("question_encoder", 0, 2)
ERRORS = [KeyboardInterrupt(), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")]
#: Operations of a look that fail, of each kind of change and error.
PLACES = 4


@contextmanager
def one_number(hf):
    """In place: counted, but among the numbers that are sampled it need not be."""
    weight = layer(hf).intermediate.dense.weight
    before = weight[0, 1].item()
    with torch.no_grad():
        weight[0, 1] = 300.0
    yield
    with torch.no_grad():
        weight[0, 1] = before


def ended_by(error, number, look):
    """End a look at one of its operations."""

    def fail():
        raise error

    with pytest.raises((type(error), torch.OutOfMemoryError)) as caught, Operations(number, fail):
        look()
    assert error in (caught.value, caught.value.__cause__)  # of memory it is told in words


def told(model):
    provenance = model.provenance
    return provenance["weights"], provenance.get("changed")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("change", [hook, one_number])
def test_a_look_that_fails_anywhere_loses_no_change(change, error):
    """The hook was ignored for ever, and the edited number not seen: the old score, by the old weights' name."""
    hf = plain_hf()
    model = wrap(hf)
    tracer = ask(model)
    before, plain = tracer.patch(CELL).score, told(model)
    count = operations_of_look(model, change(hf))
    with change(hf):
        fresh = wrap(hf)
        wanted, changed = ask(fresh).patch(CELL).score, told(fresh)
    assert abs(wanted - before) > 1e-4
    assert changed != plain
    step = count // PLACES
    for place in (*range(ERRORS.index(error) * step // len(ERRORS), count, step), count - 1):
        assert told(model) == plain
        with change(hf):
            ended_by(error, place, model.glance)
            assert tracer.patch(CELL).score == pytest.approx(wanted, abs=1e-6)
            assert told(model) == changed
    assert tracer.patch(CELL).score == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_change_taken_back_after_a_look_that_failed(share):
    """What the look had begun to take over is taken back too."""
    hf = plain_hf()
    model = wrap(hf)
    tracer = ask(model)
    before, plain = tracer.patch(CELL).score, told(model)
    number = int(share * operations_of_look(model, hook(hf)))
    with hook(hf):
        ended_by(KeyboardInterrupt(), number, model.glance)
    assert told(model) == plain
    assert tracer.patch(CELL).score == before
    assert model.plain


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_hook_that_is_refused_stays_so_after_a_proof_that_was_interrupted(share):
    """One Ctrl-C, and it was accepted."""
    hf = plain_hf()
    model = wrap(hf)
    tracer = ask(model)
    before = tracer.clean.score
    number = int(share * operations_of_look(model, hook(hf, at_random)))
    with hook(hf, at_random):
        ended_by(KeyboardInterrupt(), number, model.glance)
        for _ in range(2):
            with pytest.raises(ValueError, match=r"text_encoder\.encoder\.layer\.1 gives another output here"):
                tracer.patch(CELL)
    assert tracer.clean.score == before


def test_a_refusal_needs_no_second_look():
    hf = plain_hf()
    model = wrap(hf)
    tracer = ask(model)
    with Operations() as unchanged:
        model.glance()
    with hook(hf, at_random):
        model.glance()
        with Operations() as refused, pytest.raises(ValueError, match="gives another output here"):
            tracer.patch(CELL)
    assert refused.count == unchanged.count


@pytest.mark.parametrize("error", NO_ROOM)
def test_memory_that_runs_out_in_a_proof_is_no_refusal(error):
    """It was said to fail on a small random input, for ever, though memory was free again."""
    hf = plain_hf()
    model = wrap(hf)
    tracer = ask(model)
    scarce = [error]

    def full(*_):
        if scarce:
            raise scarce.pop()

    with hook(hf, full):
        with pytest.raises(torch.OutOfMemoryError, match="memory: not even one run") as caught:
            tracer.patch(CELL)
        assert caught.value.__cause__ is error
        assert tracer.patch(CELL).score == ask(wrap(hf)).patch(CELL).score
        scarce.append(error)
        with pytest.raises(torch.OutOfMemoryError, match="memory: not even one run") as caught:
            wrap(hf)
        assert caught.value.__cause__ is error
        wrap(hf)


def test_memory_that_runs_out_for_the_small_picture_is_no_refusal():
    hf = plain_hf()

    class Full:
        def __call__(self, **_options):
            raise MemoryError

    given = SimpleNamespace(tokenizer=words(), image_processor=Full())
    with pytest.raises(torch.OutOfMemoryError, match="memory: not even one run"):
        BlipVqa(hf, given)


def test_a_reading_that_ends_early_leaves_a_large_model_to_be_read_again():
    """The numbers read were taken over before they were compared, and not read again for a while."""
    large = nn.Linear(1, SMALL)
    watch = Watch(large)
    with Operations() as look:
        assert Watch(large).look() == (False, False)
        both = look.count
        Watch(large)
    comparing = 2 * both - look.count - 1
    large.weight.data[5] += 1
    ended_by(KeyboardInterrupt(), comparing, watch.look)
    assert watch.look() == (False, True)


def test_a_model_that_changes_while_it_runs_is_refused_once():
    """Its proof changes it: that was examined again at every look."""
    hf = plain_hf()
    model = wrap(hf)
    layer(hf).register_buffer("count", torch.zeros(1))

    def counts(module, *_):
        module.count.add_(1)

    layer(hf).register_forward_hook(counts)
    model.glance()
    version, count = model.version, layer(hf).count.item()
    for _ in range(3):
        with pytest.raises(ValueError, match="changes weights or buffers while it runs"):
            ask(model).patch(CELL)
    assert (model.version, layer(hf).count.item()) == (version, count)
