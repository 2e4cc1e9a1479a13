"""What a GPU gives: equality with the CPU on the built-in model, then times at BLIP base's size. At most four minutes.

    python tests/benchmarks/gpu.py [--device cuda] [--minutes 4] [--quick] [--small]

Prints Markdown for README.md beside this file, with the device's name. Each row is a way of computing: float32 as the
tracer computes (no TF32), float32 with TF32 let in, bfloat16, and float32 with the plain kernel of attention alone;
with its seconds and how far its grid is from the first one's. Ends with an error where the device and the CPU differ.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from blip_trace_widget import BlipVqa, GaussianNoise, Sample, State, Tracer, examples, trace_dataset
from blip_trace_widget.model import surroundings
from blip_trace_widget.model.limits import Limits
from blip_trace_widget.model.transfer import to_device

sys.path.insert(0, str(Path(__file__).parent))
from benchmark import base_size, clock, matrix_rate, paper_cell, subject

#: How far scores of the built-in model may be from the CPU's: at no noise, and at the paper's strength, where noise
#: amplifies rounding (float32 against float64 on the CPU: up to 6e-4 in log-probability).
BOUNDS = {0.0: 1e-5, 1.0: 1e-4, 5.0: 2e-3}
#: A model whose rows mean nothing but that the script runs.
SMALL = {"layers": 8, "heads": 4, "width": 64, "vision_layers": 2, "patches": 8, "vocabulary": 400, "spread": 0.12}
SMALL["intermediate_size"] = 2 * SMALL["width"]


def equality(device):
    """Largest differences of the built-in model's scores between the device and the CPU, by noise factor."""
    models = [BlipVqa.demo(device=place) for place in ("cpu", device)]
    found = {}
    for factor, bound in BOUNDS.items():
        apart = 0.0
        for example in list(examples())[:3]:
            noise = GaussianNoise(factor, samples=5)
            here, there = (
                Tracer(model, example.image, example.question, answer=example.answer, corruption=noise)
                for model in models
            )
            for ask in (
                lambda tracer: tracer.clean.scores,
                lambda tracer: tracer.corrupted.scores,
                lambda tracer: tracer.trace().samples,
                lambda tracer: tracer.trace("answer_decoder", "cross_attention", head=1).samples,
                lambda tracer: tracer.trace_image_tokens(patch=4).samples,
                lambda tracer: tracer.patch(State("question_encoder", 2, 1), "disrupt").scores,
            ):
                apart = max(apart, float(np.abs(ask(here) - ask(there)).max()))
        print(f"| built-in model, noise {factor:g} | {apart:.1e} | {bound:.0e} |")
        found[factor] = apart
    wrong = {factor: apart for factor, apart in found.items() if not apart <= BOUNDS[factor]}
    if wrong:
        raise SystemExit(f"the device and the CPU differ: {wrong}")


def ways(device):
    """Name -> (the weights' type, what is set while it runs)."""
    let_in = mock.patch.dict(surroundings._PRODUCTS, {device.type: nullcontext()})

    def tf32():
        stack = ExitStack()
        stack.enter_context(let_in)
        torch.set_float32_matmul_precision("high")
        stack.callback(torch.set_float32_matmul_precision, "highest")
        return stack

    return {
        "float32 (as it computes)": (torch.float32, ExitStack),
        "float32, TF32 let in": (torch.float32, tf32),
        "float32, plain attention": (torch.float32, lambda: sdpa_kernel(SDPBackend.MATH)),
        "bfloat16": (torch.bfloat16, ExitStack),
    }


def timed(model, device, samples):
    """Seconds of a grid of one and of several samples, a slider step, a cell, an image-token map; and the grid."""
    one, many = subject(model, 1), subject(model, samples)
    grid = one.trace()
    many.trace()
    factor = [1.0]

    def slide():
        factor[0] += 0.1
        _ = one.with_corruption(factor=factor[0]).total_effect

    side = max(model.grid)
    works = {
        "grid": one.trace,
        f"grid, {samples} samples": many.trace,
        "slider step": slide,
        "one cell": lambda: one.patch(State("question_encoder", 6, 4)),
        f"{side} × {side} map": lambda: one.trace_image_tokens(patch=1),
        "decoder grid": lambda: one.trace("answer_decoder"),
    }
    return {name: clock(work, device, 3) for name, work in works.items()}, grid.samples


def questions(model, device, noise_samples, *, together):
    """Seconds a question of a data set: two batches of eight about eight pictures each, one length, block and answer.

    Scored by divergence, of which noise makes much even in a random model; such a one does not know when to end.
    """
    settings = model.hf.text_decoder.generation_config
    longest, settings.max_length, model.limits = settings.max_length, 3, Limits(together=together)
    generator, question = np.random.default_rng(0), subject(model, 1).question
    pictures = [generator.integers(0, 256, (384, 384, 3), dtype=np.uint8) for _ in range(16)]
    noise = GaussianNoise(5.0, samples=noise_samples)

    def work():
        with tempfile.TemporaryDirectory() as out:
            samples = [Sample(picture, question, "red") for picture in pictures]
            options = {"metric": "kl_divergence", "progress": False, "batch_size": 8}
            found = trace_dataset(samples, model, out, "question_encoder", corruption=noise, **options)
            assert found.counts["traced"] == len(samples)

    try:
        return clock(work, device) / len(pictures)
    finally:
        settings.max_length, model.limits = longest, Limits()


def details(model, device, samples):
    """Rows of what stands beside a grid: the published algorithm, the ViT, the noise, data sets, looks at the model."""
    rows = []

    def row(what, seconds):
        rows.append(f"| {what} | {seconds:.3g} s |")

    tracer = subject(model, 10)
    pixels = model.processor.image_processor(images=tracer.image, return_tensors="pt")["pixel_values"].to(device)
    ids = torch.tensor([tracer.case.bases.question_ids], device=device)
    start = torch.tensor([[model.start_id]], device=device)
    cells = model.layers * len(tracer.question_tokens)
    row("(a) the paper's algorithm", clock(lambda: paper_cell(model, pixels, ids, start, 5, 3), device, 3) * cells)
    row("the ViT's pass", clock(lambda: model.embed_image(tracer.image), device, 3))
    noise, shape = tracer.corruption, tracer.case.bases.image.clean_tokens().shape
    row("noise of ten samples, drawn on the CPU", clock(lambda: noise.bank(*shape), device, 3))
    row("the same, brought to the device", clock(lambda: to_device(noise.bank(*shape), device), device, 3))
    for together, how in ((False, "one by one"), (True, "runs together")):
        seconds = questions(model, device, samples, together=together)
        row(f"a question of a data set, {samples} samples, {how}", seconds)
    row("a look whether the weights are the same", clock(model.glance, device, 5))
    row("admission (`BlipVqa(...)`)", clock(lambda: BlipVqa(model.hf, model.processor), device, 3))
    if device.type != "cpu" or model.image_token_count < 100:
        before = tracer.with_corruption(at="patch_embeddings", samples=1)
        shape = f"{len(model.image_encoder.layers)} × {model.image_token_count}"
        row(f"{shape} image-encoder grid, one sample", clock(lambda: before.trace("image_encoder"), device))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=4.0, help="begin nothing new after this")
    parser.add_argument("--quick", action="store_true", help="two samples in place of ten, for trying the script")
    parser.add_argument("--small", action="store_true", help="a small model, for trying it where there is only a CPU")
    asked = parser.parse_args()
    device, began = torch.device(asked.device), time.monotonic()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(
        f"### {name}, torch {torch.__version__}\n",
        "| equality with the CPU | largest difference | bound |",
        "| --- | ---: | ---: |",
        sep="\n",
    )
    equality(device)
    samples, first, models = 2 if asked.quick else 10, None, {}
    for way, (dtype, setting) in ways(device).items():
        if time.monotonic() - began > asked.minutes * 60:
            print(f"| {way} | not run: out of time |")
            continue
        if dtype not in models:
            models.clear()  # one at a time in the device's memory
            model = base_size(torch.device("cpu"), **(SMALL if asked.small else {}))
            models[dtype] = BlipVqa(model.hf.to(device, dtype), model.processor, name=model.name)
        with setting():
            seconds, grid = timed(models[dtype], device, samples)
            # Where a CPU has no bfloat16 of its own, more rows would take minutes.
            rate = matrix_rate(device, dtype, rows=16 if asked.small else 1024) / 1e12
        if first is None:
            first = grid
            print("\n| way | " + " | ".join(seconds) + " | matrix rate | from the first |")
            print("| --- | " + "---: | " * (len(seconds) + 2))
        apart = np.abs(grid - first).max()
        print(
            f"| {way} | "
            + " | ".join(f"{each:.3g} s" for each in seconds.values())
            + f" | {rate:.3g} TFLOP/s | {apart:.1e} |"
        )
        if way.endswith("(as it computes)"):
            beside = details(models[dtype], device, samples)
    print("\n| beside it | seconds |\n| --- | ---: |\n" + "\n".join(beside))
    print(f"\nin all {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
