"""What is linked to the list of a data set: the selected cell, the chosen head, and groups side by side."""

import threading

import numpy as np
import pytest
from traitlets import TraitError

from blip_trace_widget import DatasetTrace, TraceWidget, word_roles
from blip_trace_widget.checks import conforms
from blip_trace_widget.display.protocol import Maps
from blip_trace_widget.widget.dataset import AVERAGE
from blip_trace_widget.widget.dataset_list import EXTREMES, PAGE
from blip_trace_widget.widget.dataset_maps import GROUP_HEADS, GROUPS, HEADS, MOST, NOTHING

LARGEST, SMALLEST = EXTREMES


@pytest.fixture
def widget(pairs):
    shown = TraceWidget.from_dataset(pairs)
    yield shown
    shown.close()


@pytest.fixture
def plain(dataset):
    """Of a data set without heads."""
    shown = TraceWidget.from_dataset(dataset, "ends")
    yield shown
    shown.close()


def numbers(widget):
    """The samples in sight, in order."""
    return [row["number"] for row in widget.listing["rows"]]


def drawn(panel):
    """(value, significant) of a small map, each (rows, columns)."""
    return np.frombuffer(panel["values"], "<f4").reshape(2, len(panel["rows"]), len(panel["columns"]))


def by_hand(found, layer, tokens):
    """Mean effect of the cells of a layer at some of each sample's tokens, by sample."""
    table = found.to_dataframe().query(f"block == 'question_encoder' and layer == {layer}")
    if "head" in table:
        table = table[(table["site"] == "block_output") & table["head"].isna()]
    return table[table["token"].isin(tokens)].groupby("sample")["indirect_effect"].mean()


# --- a cell and the list ---------------------------------------------------------------------------------------------


def test_selecting_a_cell_lists_the_extreme_samples_first(plain, dataset):
    assert not set(EXTREMES) & set(plain.listing["orders"])
    plain.selection = [(5, plain.grid["tokens"].index("[SEP]"))]
    assert plain.order == LARGEST
    assert set(EXTREMES) < set(plain.listing["orders"])
    effects = by_hand(dataset, 5, ["[SEP]"])
    order = effects.sort_values(ascending=False, kind="stable").index.tolist()
    assert numbers(plain) == order[:PAGE]
    assert f"this cell {effects[order[0]] * 100:.0f} points · total effect" in plain.listing["rows"][0]["effect"]
    plain.order = SMALLEST
    order = effects.sort_values(kind="stable").index.tolist()
    assert numbers(plain) == order[:PAGE]
    plain.find = "number"  # searched are groups too
    of_number = set(dataset.traced.query("group == 'number'")["sample"])
    assert numbers(plain) == [at for at in order if at in of_number][:PAGE]
    plain.find = ""
    plain.selection = []
    assert plain.order == "as given"
    assert numbers(plain) == list(range(PAGE))
    assert "this cell" not in plain.listing["rows"][0]["effect"]
    plain.selection = [(2, 0)]
    assert plain.order == SMALLEST  # as it was chosen before


def test_an_order_chosen_by_hand_stays(plain):
    plain.order = "question"
    plain.selection = [(5, 1)]
    assert plain.order == "question"
    assert "this cell" in plain.listing["rows"][0]["effect"]
    plain.order = LARGEST
    plain.selection = []
    assert plain.order == "question"


def test_a_sample_can_be_looked_at_without_losing_its_place(plain, dataset):
    plain.selection = [(5, 1)]
    order, interval = numbers(plain), plain.interval
    plain.chosen = order[0]
    assert (plain.order, numbers(plain), plain.interval) == (LARGEST, order, "")
    plain.selection = [(1, 1)]  # the sample's own cell
    assert numbers(plain) == order
    plain.chosen = AVERAGE
    assert (plain.selection, plain.order, plain.interval) == ([(5, 1)], LARGEST, interval)
    plain.group = "number"
    plain.wait(30)
    effects = dataset.mean("ends", group="number").aligned.effects[:, 5, 1]
    found = dataset.traced.query("group == 'number'")["sample"].to_numpy()
    assert (plain.selection, plain.order) == ([(5, 1)], LARGEST)  # the same role
    assert numbers(plain) == found[np.argsort(-effects, kind="stable")][:PAGE].tolist()
    plain.group = ""
    assert (plain.selection, numbers(plain)) == ([(5, 1)], order)
    plain.block = "answer_decoder"
    assert (plain.selection, plain.order) == ([], "as given")


def test_samples_without_the_role_come_last(dataset):
    def roles(tokens):
        return ["how" if token == "how" else "rest" for token in tokens]

    widget = TraceWidget.from_dataset(dataset, align=roles)
    widget.selection = [(4, widget.grid["tokens"].index("how"))]
    has = by_hand(dataset, 4, ["how"])
    for order in (LARGEST, SMALLEST):
        widget.order = order
        assert numbers(widget) == has.sort_values(ascending=order == SMALLEST, kind="stable").index.tolist()[:PAGE]
        widget.first = 200 - PAGE
        assert not set(numbers(widget)) & set(has.index)
    assert widget.listing["rows"][-1]["effect"].startswith("this cell no such token · total effect")
    widget.close()


# --- heads -----------------------------------------------------------------------------------------------------------


def test_the_map_of_heads_is_that_of_heads(widget, pairs):
    assert widget.mapped["choices"] == [NOTHING, HEADS, GROUPS, GROUP_HEADS]
    assert widget.mapped["panels"] == []  # nothing is computed before it is asked for
    widget.maps = HEADS
    assert widget.mapped["note"] == "averaging: 0 of 1 are there"
    widget.wait(30)
    conforms("mapped", widget.mapped, Maps)
    (panel,) = widget.mapped["panels"]
    found = pairs.heads()
    np.testing.assert_allclose(drawn(panel)[0], found.recovery, rtol=1e-5)
    np.testing.assert_array_equal(drawn(panel)[1], found.significant)
    assert (panel["text"], widget.mapped["note"]) == ("24 samples", "")
    widget.group = "color"
    widget.wait(30)
    np.testing.assert_allclose(drawn(widget.mapped["panels"][0])[0], pairs.heads("color").recovery, rtol=1e-5)


def test_a_chosen_head_is_shown_and_sorts_the_samples(widget, pairs):
    widget.maps = HEADS
    widget.picked = [5, 2]
    widget.wait(30)
    assert (widget.block, widget.site, widget.head) == ("question_encoder", "cross_attention_out", 2)
    expected = pairs.mean("ends", site="cross_attention_out", head=2)
    np.testing.assert_array_equal(widget.mean.recovery, expected.recovery)
    found = pairs.heads()
    effects = dict(zip(found.numbers, found.aligned.effects[:, 5, 2], strict=True))
    maps = [pairs.head_map(number, site="cross_attention_out").indirect_effect for number in list(effects)]
    np.testing.assert_allclose(list(effects.values()), [each[5, 2] for each in maps], atol=1e-6)
    assert widget.order == LARGEST
    assert numbers(widget) == sorted(effects, key=lambda number: -effects[number])[:PAGE]
    assert "this head" in widget.listing["rows"][0]["effect"]
    told = widget.mapped["told"]
    assert f"Layer 5, head 2: recovery {found.recovery[5, 2] * 100:.0f} %, 95 % interval" in told
    assert f"{found.attention.object[5, 2] * 100:.0f} % of its attention on the object" in told
    widget.selection = [(5, 1)]  # a cell of its grid
    assert "this cell" in widget.listing["rows"][0]["effect"]
    widget.selection = []
    assert "this head" in widget.listing["rows"][0]["effect"]
    again = {}
    exec(widget.code, again)
    again["widget"].wait(30)
    assert numbers(again["widget"]) == numbers(widget)
    np.testing.assert_array_equal(again["widget"].mean.recovery, expected.recovery)
    again["widget"].close()
    widget.picked = []
    assert (widget.head, widget.order) == (None, "as given")
    assert widget.mean is not None


def test_a_head_is_let_go_where_another_grid_is_chosen_and_found_from_a_sample(widget):
    widget.chosen = 3
    widget.picked = [1, 0]
    widget.wait(30)
    assert (widget.chosen, widget.head, widget.picked) == (AVERAGE, 0, [1, 0])
    widget.picked = [4, 0]  # the same grid
    assert "Layer 4, head 0" in widget.mapped["told"]
    widget.site = "block_output"
    assert widget.picked == []
    assert widget.order == "as given"


def test_of_two_heads_chosen_quickly_the_later_is_shown(pairs):
    gate = threading.Event()

    def roles(tokens):
        assert gate.wait(30)
        return word_roles(tokens)

    gate.set()
    widget = TraceWidget.from_dataset(pairs, align=roles)
    widget.maps = HEADS
    widget.wait(30)
    gate.clear()
    widget.picked = [5, 1]
    widget.picked = [5, 2]
    gate.set()
    widget.wait(30)
    assert (widget.picked, widget.head) == ([5, 2], 2)
    expected = pairs.mean(word_roles, site="cross_attention_out", head=2)
    np.testing.assert_array_equal(widget.mean.recovery, expected.recovery)
    widget.close()


def test_a_head_chosen_in_the_figure_is_averaged_on_a_worker(widget, pairs):
    widget.site, widget.head = "cross_attention_out", 3
    assert widget.interval == "averaging head 3 of all groups …"
    widget.wait(30)
    np.testing.assert_array_equal(widget.mean.recovery, pairs.mean("ends", site=widget.site, head=3).recovery)
    assert widget.interval == ""


# --- groups ----------------------------------------------------------------------------------------------------------


def test_groups_beside_each_other_are_their_means(widget, pairs):
    widget.maps = GROUPS
    widget.wait(30)
    panels = widget.mapped["panels"]
    assert [panel["group"] for panel in panels] == pairs.groups
    for panel in panels:
        expected = pairs.mean("ends", group=panel["group"])
        assert panel["rows"] == list(expected.roles)
        np.testing.assert_allclose(drawn(panel), [expected.recovery.T, expected.significant.T], rtol=1e-5)
    widget.group = panels[1]["group"]
    widget.wait(30)
    np.testing.assert_allclose(drawn(panels[1])[0], widget.mean.recovery.T, rtol=1e-5)


def test_differences_are_those_of_compare(widget, pairs):
    widget.maps, widget.minus = GROUPS, "color"
    widget.wait(30)
    assert [panel["group"] for panel in widget.mapped["panels"]] == [name for name in pairs.groups if name != "color"]
    for panel in widget.mapped["panels"]:
        expected = pairs.compare(panel["group"], "color", "ends")
        np.testing.assert_allclose(drawn(panel), [expected.difference.T, expected.significant.T], rtol=1e-5, atol=1e-9)
        assert panel["text"] == "6 − 6 samples"
    widget.maps = GROUP_HEADS
    widget.wait(30)
    assert widget.mapped["title"] == "Question encoder: heads of cross-attention, each group − color"
    for panel in widget.mapped["panels"]:
        one, other = (pairs.heads(group).indirect_effect for group in (panel["group"], "color"))
        np.testing.assert_allclose(drawn(panel)[0], one - other, atol=1e-6)


@pytest.mark.parametrize(
    ("trait", "value", "told"),
    [
        ("maps", "pies", "maps: expected one of"),
        ("minus", "smell", "minus: expected one of"),
        ("picked", [99, 0], "picked: expected a layer and a head of the question_encoder, 0 to 5 and 0 to 3"),
        ("picked", [1], "picked: expected a layer and a head"),
    ],
)
def test_what_is_not_there_is_refused(widget, trait, value, told):
    with pytest.raises(TraitError, match=told):
        setattr(widget, trait, value)
    assert widget.picked == []


def test_without_heads_there_are_groups_alone(plain):
    assert plain.mapped["choices"] == [NOTHING, GROUPS]
    with pytest.raises(TraitError, match="of no site were all heads traced"):
        plain.picked = [0, 0]


def test_one_group_without_heads_has_no_maps(dataset):
    widget = TraceWidget.from_dataset(dataset.select("number"))
    assert widget.mapped["choices"] == []
    widget.close()


def test_more_groups_than_there_is_room_for_are_named(dataset):
    samples = dataset.samples.assign(group=[f"kind {number % (MOST + 2)}" for number in dataset.samples["sample"]])
    many = DatasetTrace(dataset.folder, dataset.settings, samples)
    widget = TraceWidget.from_dataset(many, "ends")
    widget.maps = GROUPS
    widget.wait(60)
    assert len(widget.mapped["panels"]) == MOST
    assert widget.mapped["note"] == f"not shown, since there is room for {MOST}: kind 8, kind 9"
    widget.close()


def test_no_handler_averages_and_the_later_choice_holds(dataset):
    gate, threads = threading.Event(), set()

    def roles(tokens):
        assert gate.wait(30)
        threads.add(threading.get_ident())
        return word_roles(tokens)

    gate.set()
    widget = TraceWidget.from_dataset(dataset, align=roles)
    threads.clear()
    gate.clear()
    widget.set_state({"maps": GROUPS})  # as the front end does
    assert [panel["values"] for panel in widget.mapped["panels"]] == [b""] * 4
    assert widget.mapped["note"] == "averaging: 0 of 4 are there"
    widget.set_state({"minus": "color"})
    gate.set()
    widget.wait(60)
    assert threads
    assert threading.get_ident() not in threads
    assert [panel["text"] for panel in widget.mapped["panels"]] == ["50 − 50 samples"] * 3
    widget.close()


def test_a_group_that_cannot_be_averaged_says_why(pairs):
    samples = pairs.samples.assign(group=["one"] + ["other"] * (len(pairs) - 1))
    widget = TraceWidget.from_dataset(DatasetTrace(pairs.folder, pairs.settings, samples))
    widget.maps, widget.minus = GROUP_HEADS, "other"
    widget.wait(30)
    assert widget.mapped["panels"][0]["text"] == "'one' has 1 traced samples, expected 2 or more"
    assert widget.error == ""
    widget.close()
