"""What a run will take, said beforehand: held against the run."""

import pytest

from blip_trace_widget import DatasetPlan, DatasetTrace, demo_samples, trace_dataset
from blip_trace_widget.__main__ import main
from helpers.dataset_runs import NOISE, trace


def planned(samples, demo, folder, **options):
    return trace_dataset(samples, demo, folder, corruption=NOISE, plan=True, **options)


def on_disk(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


@pytest.mark.parametrize("size", [1, 16])
def test_cells_and_disk_are_those_of_the_run(tmp_path, demo, size):
    plan = planned(demo_samples(40), demo, tmp_path / "out", batch_size=size)
    assert list(tmp_path.iterdir()) == []
    found = trace(tmp_path / "out", 40, size)
    assert isinstance(plan, DatasetPlan)
    assert (plan.samples, plan.timed) == (40, 10)
    assert plan.cells == pytest.approx(len(found.to_dataframe()), rel=0.15)
    assert plan.bytes == pytest.approx(on_disk(tmp_path / "out"), rel=0.15)
    assert plan.seconds == pytest.approx(40 * plan.seconds_each)
    assert plan.seconds_each > 0
    assert repr(plan).startswith(f"DatasetPlan(40 samples, about {plan.cells:,} cells, ")


def test_few_samples_are_all_traced_and_none_is_refused(tmp_path, demo):
    plan = planned(list(demo_samples(3)), demo, tmp_path / "out")
    found = trace(tmp_path / "out", 3)
    assert plan.cells == len(found.to_dataframe())
    assert plan.bytes == pytest.approx(on_disk(tmp_path / "out"), rel=0.02)
    with pytest.raises(ValueError, match="samples: expected one or more, got none"):
        planned([], demo, tmp_path / "other")


def test_the_timed_ones_are_spread_and_skipped_ones_said(tmp_path, demo):
    opened = []

    class Listed(list):
        def __iter__(self):
            for at, sample in enumerate(super().__iter__()):
                opened.append(at)
                yield sample

    samples = [(tmp_path / "nowhere.png", "what is it?")] * 50 + list(demo_samples(50))
    plan = planned(Listed(samples), demo, tmp_path / "out")
    assert opened == list(range(100))
    assert (plan.timed, plan.traced) == (10, 5)
    assert "10 were timed, 5 of them skipped" in repr(plan)


def test_a_stream_of_unknown_length_is_said_to_be_one(tmp_path, demo):
    plan = planned(iter(list(demo_samples(12))), demo, tmp_path / "out")
    assert (plan.samples, plan.cells, plan.seconds, plan.bytes) == (None, None, None, None)
    assert repr(plan).startswith("DatasetPlan(an unknown number of samples, each ")
    assert "the first 10 were timed" in repr(plan)
    assert planned(iter(list(demo_samples(4))), demo, tmp_path / "out").samples == 4


def test_what_a_run_refuses_a_plan_refuses(tmp_path, demo):
    (tmp_path / "file").write_text("mine")
    for options, told in (({"sites": "attention"}, "sites"), ({"plan": 1}, "plan: expected True or False")):
        with pytest.raises((TypeError, ValueError), match=told):
            trace_dataset(demo_samples(2), demo, tmp_path / "out", **{"plan": True, **options})
    with pytest.raises(NotADirectoryError, match="out: "):
        planned(demo_samples(2), demo, tmp_path / "file")


@pytest.mark.parametrize(
    ("seconds", "bytes_", "told"),
    [
        (0.0001, 1.0, ("0.05 s", "32.5 KB")),
        (1.0, 4000.0, ("8 min", "2.03 MB")),
        (70.0, 1e7, ("9 h 43 min", "5 GB")),
        (2000.0, 10.0, ("11 d 13 h", "37 KB")),
    ],
)
def test_it_is_said_in_words(seconds, bytes_, told):
    plan = DatasetPlan(500, 10, 10, 216.0, seconds, bytes_, 16, 1000)
    assert "about 108,000 cells" in repr(plan)
    for words in told:
        assert words in repr(plan)


def test_the_shell_says_it(tmp_path, capsys):
    arguments = ["trace", "demo", "--limit", "30", "--out", str(tmp_path / "out"), "--samples", "2"]
    assert main([*arguments, "--plan"]) == 0
    assert capsys.readouterr().out.startswith("30 samples, about ")
    assert list(tmp_path.iterdir()) == []
    assert isinstance(DatasetTrace.load(trace(tmp_path / "out", 2).folder), DatasetTrace)
