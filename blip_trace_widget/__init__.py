"""Causal tracing of BLIP's visual question answering, in a notebook.

For: the public names. Each is imported at its first use: importing the package does not import torch.
Ends: at names; every one of them lives in a room below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blip_trace_widget._version import __version__ as __version__

if TYPE_CHECKING:
    from blip_trace_widget.choices import MetricName as MetricName
    from blip_trace_widget.choices import NoiseKind as NoiseKind
    from blip_trace_widget.dataset.averages import Comparison, MeanTrace
    from blip_trace_widget.dataset.edges import Edges
    from blip_trace_widget.dataset.estimate import DatasetPlan
    from blip_trace_widget.dataset.json_questions import read_gqa, read_vqa
    from blip_trace_widget.dataset.merging import merge
    from blip_trace_widget.dataset.pair_files import read_folders, read_mit_states, read_svo_probes
    from blip_trace_widget.dataset.question_files import read_clevr, read_coco_qa, read_questions
    from blip_trace_widget.dataset.run import trace_dataset
    from blip_trace_widget.dataset.samples import Sample, demo_samples
    from blip_trace_widget.dataset.shards import read_webdataset
    from blip_trace_widget.dataset.traced import DatasetTrace
    from blip_trace_widget.dataset.word_roles import word_roles
    from blip_trace_widget.demo import examples
    from blip_trace_widget.model.blip import BlipVqa
    from blip_trace_widget.results.agreement import Agreement
    from blip_trace_widget.results.differences import Difference
    from blip_trace_widget.results.effect_grid import CellEffect
    from blip_trace_widget.results.flow import Flow
    from blip_trace_widget.results.found_states import FoundStates
    from blip_trace_widget.results.maps import HeadTrace, ImageTokenTrace
    from blip_trace_widget.results.noise_curve import NoiseCurve, SuggestedFactor
    from blip_trace_widget.results.recovery_curve import RecoveryCurve
    from blip_trace_widget.results.run import Effect, Run
    from blip_trace_widget.results.trace import Trace, load_trace
    from blip_trace_widget.results.verification import Verification
    from blip_trace_widget.states import BlockName as BlockName
    from blip_trace_widget.states import Direction as Direction
    from blip_trace_widget.states import SiteName as SiteName
    from blip_trace_widget.states import State
    from blip_trace_widget.tracing.ablation import Ablation
    from blip_trace_widget.tracing.corruption import (
        Corruption,
        GaussianNoise,
        ImageSwap,
        MeanAblation,
        QuestionSwap,
        Scale,
    )
    from blip_trace_widget.tracing.knockout import Knockout, KnockoutTrace
    from blip_trace_widget.tracing.readings import Attention, LogitLens
    from blip_trace_widget.tracing.tracer import Tracer
    from blip_trace_widget.widget.widget import TraceWidget


_HOMES = {
    "Ablation": "tracing.ablation",
    "Agreement": "results.agreement",
    "Attention": "tracing.readings",
    "BlipVqa": "model.blip",
    "BlockName": "states",
    "CellEffect": "results.effect_grid",
    "Comparison": "dataset.averages",
    "Corruption": "tracing.corruption",
    "DatasetPlan": "dataset.estimate",
    "DatasetTrace": "dataset.traced",
    "Difference": "results.differences",
    "Direction": "states",
    "Edges": "dataset.edges",
    "Effect": "results.run",
    "Flow": "results.flow",
    "FoundStates": "results.found_states",
    "GaussianNoise": "tracing.corruption",
    "HeadTrace": "results.maps",
    "ImageSwap": "tracing.corruption",
    "ImageTokenTrace": "results.maps",
    "Knockout": "tracing.knockout",
    "KnockoutTrace": "tracing.knockout",
    "LogitLens": "tracing.readings",
    "MeanAblation": "tracing.corruption",
    "MeanTrace": "dataset.averages",
    "MetricName": "choices",
    "NoiseCurve": "results.noise_curve",
    "NoiseKind": "choices",
    "QuestionSwap": "tracing.corruption",
    "RecoveryCurve": "results.recovery_curve",
    "Run": "results.run",
    "Sample": "dataset.samples",
    "Scale": "tracing.corruption",
    "SiteName": "states",
    "State": "states",
    "SuggestedFactor": "results.noise_curve",
    "Trace": "results.trace",
    "Verification": "results.verification",
    "TraceWidget": "widget.widget",
    "Tracer": "tracing.tracer",
    "demo_samples": "dataset.samples",
    "examples": "demo",
    "load_trace": "results.trace",
    "merge": "dataset.merging",
    "read_clevr": "dataset.question_files",
    "read_coco_qa": "dataset.question_files",
    "read_folders": "dataset.pair_files",
    "read_gqa": "dataset.json_questions",
    "read_mit_states": "dataset.pair_files",
    "read_questions": "dataset.question_files",
    "read_svo_probes": "dataset.pair_files",
    "read_vqa": "dataset.json_questions",
    "read_webdataset": "dataset.shards",
    "trace_dataset": "dataset.run",
    "word_roles": "dataset.word_roles",
}

__all__ = [  # noqa: RUF022 - in the order in which one meets them
    "BlipVqa",
    "Tracer",
    "TraceWidget",
    "State",
    "GaussianNoise",
    "Scale",
    "ImageSwap",
    "QuestionSwap",
    "MeanAblation",
    "Corruption",
    "Run",
    "Effect",
    "Trace",
    "CellEffect",
    "Difference",
    "HeadTrace",
    "ImageTokenTrace",
    "NoiseCurve",
    "SuggestedFactor",
    "RecoveryCurve",
    "Agreement",
    "Verification",
    "Attention",
    "LogitLens",
    "Knockout",
    "KnockoutTrace",
    "Flow",
    "FoundStates",
    "Ablation",
    "examples",
    "load_trace",
    "trace_dataset",
    "Edges",
    "DatasetPlan",
    "DatasetTrace",
    "merge",
    "word_roles",
    "MeanTrace",
    "Comparison",
    "Sample",
    "read_coco_qa",
    "read_clevr",
    "read_vqa",
    "read_gqa",
    "read_svo_probes",
    "read_mit_states",
    "read_folders",
    "read_webdataset",
    "read_questions",
    "demo_samples",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
