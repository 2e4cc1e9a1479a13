"""What the tracer costs at BLIP base's size, beside the paper's algorithm and plain hooks: prints a table.

    python tests/benchmarks/benchmark.py [--threads 2] [--rounds 3] [--quick] [--only dataset]

Random weights of BLIP base's sizes (12 layers, width 768, 384 px, 9 question tokens, float32). All in one process, in
turn, medians of several rounds: read the ratios, for machines are noisy. (a) is the published algorithm: for every cell
two ViT passes and a forward of clean and corrupted run as a batch of two under hooks, timed on 6 cells and multiplied.
(b) is plain hooks with the ViT cached and the cells of a layer in one batch. (c) is the tracer. The image-token map is
held against untouched forward passes on swapped image tokens, one a square and sample. What the figures were on known
machines: README.md beside this file.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from transformers import BlipForQuestionAnswering, BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget import (
    BlipVqa,
    Edges,
    GaussianNoise,
    ImageSwap,
    Sample,
    State,
    Tracer,
    demo_samples,
    trace_dataset,
)
from blip_trace_widget.model.admission import check_parts, prove
from blip_trace_widget.model.computing import Computing
from blip_trace_widget.results.maps import squares

sys.path.insert(0, str(Path(__file__).parent.parent))
from helpers.random_models import BASE_SIZES, random_config, words


def base_size(device, **sizes):
    """A random model of BLIP base's sizes, or of others."""
    tokenizer = words()
    torch.manual_seed(0)
    config = random_config(
        **(BASE_SIZES | sizes),
        pad_token_id=tokenizer.pad_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.convert_tokens_to_ids("[DEC]"),
    )
    hf = BlipForQuestionAnswering(config).eval().to(device)
    side = config.vision_config.image_size
    images = BlipImageProcessorPil(size={"height": side, "width": side})
    return BlipVqa(hf, BlipProcessor(images, tokenizer), name="random, BLIP base's size")


def clock(work, device, rounds=1):
    """Median seconds of a piece of work."""
    times = []
    for _ in range(rounds):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def paper_cell(model, pixels, ids, decoder_input, layer, position):
    """One cell as published: the image embedded twice, clean and noisy run as a batch of two, a hook that copies."""
    hf = model.hf
    clean = hf.vision_model(pixel_values=pixels.expand(2, -1, -1, -1)).last_hidden_state
    noisy = hf.vision_model(pixel_values=pixels.expand(2, -1, -1, -1)).last_hidden_state
    noisy = torch.cat([clean[:1], noisy[1:] * (1 + 5 * torch.randn_like(noisy[1:]))])

    def restore(_module, _inputs, output):
        output = output.clone()
        output[1, position] = output[0, position]
        return output

    handle = hf.text_encoder.encoder.layer[layer].register_forward_hook(restore)
    states = hf.text_encoder(input_ids=ids.expand(2, -1), encoder_hidden_states=noisy).last_hidden_state
    handle.remove()
    return hf.text_decoder(input_ids=decoder_input.expand(2, -1), encoder_hidden_states=states).logits


def hooked_layer(model, noisy, clean_states, ids, decoder_input, layer):
    """The cells of one layer as a batch, under one hook, from cached image tokens."""
    hf, positions = model.hf, ids.shape[1]

    def restore(_module, _inputs, output):
        output = output.clone()
        index = torch.arange(positions)
        output[index, index] = clean_states[layer + 1][0, index]
        return output

    handle = hf.text_encoder.encoder.layer[layer].register_forward_hook(restore)
    tokens = noisy.expand(positions, -1, -1)
    states = hf.text_encoder(input_ids=ids.expand(positions, -1), encoder_hidden_states=tokens).last_hidden_state
    handle.remove()
    return hf.text_decoder(input_ids=decoder_input.expand(positions, -1), encoder_hidden_states=states).logits


def plain_squares(tracer, chosen, samples, batch):
    """The map without the tracer: a forward pass on swapped image tokens for each square and sample.

    Args:
        tracer: what is asked; its clean image tokens are taken, nothing else that it computes.
        chosen: the image tokens of each square.
        samples: which noise samples.
        batch: passes that run together.

    Returns:
        log-probabilities of the answer, (samples, squares).
    """
    model, noise = tracer.model, tracer.corruption
    ids = torch.tensor([tracer.case.bases.question_ids], device=model.device)
    start = torch.tensor([[model.start_id]], device=model.device)
    (answer,) = tracer.case.bases.answer_ids()
    clean = tracer.case.bases.image.clean_tokens()
    noisy = clean * (1 + noise.factor * noise.bank(*clean.shape).to(clean.device))
    scores = []
    for sample in samples:
        for first in range(0, len(chosen), batch):
            part = chosen[first : first + batch]
            tokens = noisy[sample].repeat(len(part), 1, 1)
            for row, square in enumerate(part):
                tokens[row, square] = clean[square]
            count = len(part)
            states = model.hf.text_encoder(
                input_ids=ids.expand(count, -1), encoder_hidden_states=tokens
            ).last_hidden_state
            logits = model.hf.text_decoder(input_ids=start.expand(count, -1), encoder_hidden_states=states).logits
            scores.append(logits[:, 0].log_softmax(-1)[:, answer])
    return torch.cat(scores).reshape(len(samples), -1).double().cpu().numpy()


def matrix_rate(device, dtype, rows=1024):
    """The machine's own matrix-product rate at the sizes that the grid has, in FLOP/s."""
    a, b = torch.randn(rows, 768, device=device, dtype=dtype), torch.randn(768, 3072, device=device, dtype=dtype)
    repeat = 20

    def work():
        for _ in range(repeat):
            torch.mm(a, b)

    work()
    return repeat * 2 * rows * 768 * 3072 / clock(work, device, 7)


def grid_flops(layers, positions, tokens, width, vocabulary):
    """The arithmetic that is left of a grid: rows above each cell, the decoder's single query, the head."""
    square = 2 * width * width
    row = 4 * square + 2 * square + 8 * square + 2 * 2 * tokens * width + 2 * 2 * positions * width
    encoder_rows = sum(positions * positions * layer for layer in range(layers))
    decoder_row = 2 * square + 4 * square + 8 * square + 2 * 2 * 12 * positions * width
    cells = layers * positions
    head = square + 2 * width * vocabulary
    return encoder_rows * row + cells * (layers * decoder_row + head)


class Memory:
    """Peak memory since `start`, above what was held then, in bytes."""

    def __init__(self, device):
        self.device = device

    def _status(self, name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

    def held(self):
        return torch.cuda.memory_allocated() if self.device.type == "cuda" else self._status("VmRSS")

    def reset(self):
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self):
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else self._status("VmHWM")


def subject(model, samples):
    """A tracer with 9 question tokens and a one-token answer."""
    image = np.random.default_rng(0).integers(0, 256, (384, 384, 3), dtype=np.uint8)
    question = "what color is the red circle"
    while len(model.question_ids(question)) < 9:
        question += " ?"
    return Tracer(model, image, question, answer="red", corruption=GaussianNoise(5.0, samples=samples))


def timings(model, device, rounds, quick, row):
    """Everything that is timed."""
    tracer = subject(model, 1)
    cells = tracer.model.layers * len(tracer.question_tokens)
    ids = torch.tensor([tracer.case.bases.question_ids], device=device)
    decoder_input = torch.tensor([[model.start_id]], device=device)
    pixels = model.processor.image_processor(images=tracer.image, return_tensors="pt")["pixel_values"].to(device)
    clean = tracer.case.bases.image.clean_tokens()[None]
    noisy = clean * 1.5
    clean_states = model.hf.text_encoder(
        input_ids=ids, encoder_hidden_states=clean, output_hidden_states=True
    ).hidden_states

    def text_pass():
        states = model.hf.text_encoder(input_ids=ids, encoder_hidden_states=noisy).last_hidden_state
        model.hf.text_decoder(input_ids=decoder_input, encoder_hidden_states=states)

    text_pass()
    tracer.prepare()
    tracer.trace()
    timed = [(layer, position) for layer in (0, 5, 11) for position in (1, 5)][: 1 if quick else 6]
    a = clock(lambda: [paper_cell(model, pixels, ids, decoder_input, *cell) for cell in timed], device)
    a *= cells / len(timed)
    flops = grid_flops(12, len(tracer.question_tokens), 577, 768, 30524)
    b, c, rates = [], [], []
    for _ in range(rounds):  # in turn, so that a drift of the machine meets all
        rates.append(matrix_rate(device, torch.float32))
        c.append(clock(tracer.trace, device, 3))
        b.append(
            clock(
                lambda: [hooked_layer(model, noisy, clean_states, ids, decoder_input, at) for at in range(12)],
                device,
            )
        )
    share = statistics.median(flops / seconds / rate for seconds, rate in zip(c, rates, strict=True))
    rate, b, c = statistics.median(rates), statistics.median(b), statistics.median(c)
    row(f"(a) paper's algorithm, {cells} cells", a, f"{len(timed)} cells timed")
    row("(b) plain hooks, a layer's cells batched", b)
    row("(c) grid, one sample", c, f"{a / c:.0f} x (a), {b / c:.1f} x (b), {share:.0%} of {rate / 1e9:.0f} GFLOP/s")

    never = threading.Event()
    free, told = [], []
    for _ in range(rounds):
        free.append(clock(tracer.trace, device))
        told.append(clock(lambda: tracer.trace(progress=lambda *_: None, cancel=never), device))
    free, told = statistics.median(free), statistics.median(told)
    row("the same with progress and cancel", told, f"{told / free:.2f} x without")

    def beside_text_pass(work):
        """Seconds of a small piece of work, and its ratio to a plain text pass, the two in turn."""
        pairs = [(clock(work, device), clock(text_pass, device)) for _ in range(7 * rounds)]
        return statistics.median(a for a, _ in pairs), statistics.median(a / b for a, b in pairs)

    row("plain text pass, image tokens given", clock(text_pass, device, 7 * rounds))
    for layer in (0, 6, 11):
        state = State("question_encoder", layer, 4)
        seconds, ratio = beside_text_pass(lambda state=state: tracer.patch(state))
        row(f"one cell at layer {layer}", seconds, f"{ratio:.2f} of it (bound {(12 - layer) / 12 * 0.3 + 0.25:.2f})")

    def slide(ask):
        """A slider step: another noise factor, and what is asked of the tracer under it."""

        def step():
            slide.factor += 0.1
            ask(tracer.with_corruption(factor=slide.factor))

        return step

    def spell(moved):
        """The noisy answer, if it is one word: the pass that scores gives the word, one more that it ends there."""
        _ = moved.total_effect
        for _, run in moved.case.bases.corrupted():
            moved.case.runner.greedy(run.encoder.output, 2, first=run.logits[:, 0])

    slide.factor = 1.0
    seconds, ratio = beside_text_pass(slide(lambda moved: moved.total_effect))
    row("slider step: score and first word", seconds, f"{ratio:.2f} of it (bound 0.50)")
    seconds, ratio = beside_text_pass(slide(spell))
    row("slider step: a noisy answer of one word, spelled", seconds, f"{ratio:.2f} of it")
    seconds = clock(lambda: tracer.trace("answer_decoder"), device, rounds)
    row("decoder grid, one sample", seconds)
    seconds = clock(tracer.trace_image_tokens, device, rounds)
    row("24 x 24 image-token map, one sample", seconds)

    def step_seconds():
        return clock(slide(lambda moved: moved.total_effect), device, 7)

    pairs = []
    for _ in range(rounds):
        before, seconds, after = step_seconds(), clock(tracer.noise_curve, device), step_seconds()
        pairs.append((seconds, 2 * seconds / (before + after)))
    seconds, ratio = (statistics.median(values) for values in zip(*pairs, strict=True))
    row("noise curve of 21 factors, one sample", seconds, f"{ratio:.1f} slider steps (bound 21)")
    square_timings(model, device, rounds, quick, row)
    if device.type == "cuda":
        before = tracer.with_corruption(at="patch_embeddings")
        seconds = clock(lambda: before.trace("image_encoder"), device)
        row("12 x 577 image-encoder grid, one sample", seconds)
    else:
        before = tracer.with_corruption(at="patch_embeddings")
        state = State("image_encoder", 6, 100)
        before.patch(state)
        seconds = clock(lambda: before.patch(state), device, rounds)
        row("one cell of the image encoder, layer 6", seconds, f"{12 * 577 * seconds / 60:.0f} minutes for 12 x 577")
    ten = subject(model, 10)
    ten.trace()
    pairs = []
    for _ in range(rounds):
        before, many, after = (clock(work, device) for work in (tracer.trace, ten.trace, tracer.trace))
        pairs.append((many, 2 * many / (before + after)))
    seconds, ratio = (statistics.median(values) for values in zip(*pairs, strict=True))
    row("grid, ten samples", seconds, f"{ratio:.1f} x one sample (bound 10.5)")
    cold = clock(lambda: subject(model, 1).clean, device)
    row("cold start: image and question to clean answer", cold)
    row("a look whether the weights are the same", clock(model.glance, device, 7))

    def admit():
        with Computing(model):
            check_parts(model)
            prove(model)

    seconds, first = clock(admit, device, rounds), cold + statistics.median(many for many, _ in pairs)
    row("admission: the check in BlipVqa(...)", seconds, f"{seconds / first:.1%} of a first trace (bound 5 %)")


def square_timings(model, device, rounds, quick, row):
    """The image-token map of 8 x 8 squares beside plain forward passes on swapped image tokens.

    At a factor of 1: time does not depend on it, and stronger noise makes a random model of this size so sensitive that
    plain passes in batches of other sizes differ among each other.
    """
    one, ten = (
        subject(model, samples).with_corruption(factor=1.0).replace(metric="log_probability") for samples in (1, 10)
    )
    (rows, columns), every = squares(*model.grid, 3)
    chosen = every[:16] if quick else every
    plain = {}

    def run_plainly(batch):
        plain[batch] = plain_squares(one, chosen, [0], batch)

    mapped, mapped_ten = (tracer.trace_image_tokens(patch=3).samples for tracer in (one, ten))
    seconds = {name: [] for name in ("one", "ten", 1, 16)}
    for _ in range(rounds):
        seconds["one"].append(clock(lambda: one.trace_image_tokens(patch=3), device, 3))
        for batch in (1, 16):
            seconds[batch].append(clock(lambda batch=batch: run_plainly(batch), device) * len(every) / len(chosen))
        seconds["ten"].append(clock(lambda: ten.trace_image_tokens(patch=3), device))
    middle = len(every) // 2
    few = plain_squares(ten, [every[0], every[middle]], range(10), 2)
    apart = max(
        farthest(mapped_ten.reshape(10, -1)[:, [0, middle]], few),
        *(farthest(mapped.reshape(1, -1)[:, : len(chosen)], plain[batch]) for batch in (1, 16)),
    )

    def beside(name, samples):
        """How many times the map's seconds the plain passes take, one by one and 16 together."""
        ratios = [
            statistics.median(samples * a / b for a, b in zip(seconds[batch], seconds[name], strict=True))
            for batch in (1, 16)
        ]
        return f"{ratios[0]:.0f} x {samples * len(every)} plain passes one by one, {ratios[1]:.0f} x 16 together"

    row(
        f"{len(every)} plain passes on swapped image tokens", statistics.median(seconds[1]), f"{apart:.0e} from the map"
    )
    row("the same 16 together", statistics.median(seconds[16]))
    row(f"{rows} x {columns} image-token map, one sample", statistics.median(seconds["one"]), beside("one", 1))
    row("the same, ten samples", statistics.median(seconds["ten"]), beside("ten", 10))


def farthest(found, plain):
    """How far the map's log-probabilities are from plain passes', both (samples, squares)."""
    difference, spread = np.abs(found - plain).max(), plain.std(axis=1).min()
    if not difference < 1e-4 < spread / 100:
        raise SystemExit(f"map and plain passes differ by {difference:.1e}, squares among each other by {spread:.1e}")
    return difference


def dataset_timings(model, device, noise_samples, row):
    """Four questions about four pictures by `trace_dataset`, beside the ViT's pass and the grid of each alone.

    Scored by divergence, of which noise makes much even in a random model: no question is skipped. A random model does
    not know when to end its own answer; BLIP's are a word and the end.
    """
    model.hf.text_decoder.generation_config.max_length = 3
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (384, 384, 3), dtype=np.uint8) for _ in range(4)]
    one = subject(model, noise_samples)
    samples = [Sample(picture, one.question, "red") for picture in pictures]
    noise = one.corruption
    vit, grid = [], []

    def alone(picture):
        tracer = Tracer(model, picture, one.question, "red", corruption=noise, metric="kl_divergence")
        vit.append(clock(lambda: tracer.case.bases.image.clean_tokens(), device))
        grid.append(clock(tracer.trace, device))

    def together():
        with tempfile.TemporaryDirectory() as out:
            found = trace_dataset(
                samples, model, out, "question_encoder", corruption=noise, metric="kl_divergence", progress=False
            )
            assert found.counts["traced"] == len(samples)

    for picture in pictures[:2]:
        alone(picture)
    seconds = clock(together, device)
    for picture in pictures[2:]:
        alone(picture)
    row("the ViT's pass of one picture", statistics.mean(vit))
    row(f"a new question's grid, {noise_samples} samples", statistics.mean(grid))
    ratio = seconds / (sum(vit) + sum(grid))
    row("trace_dataset, a sample of a batch of four", seconds / len(samples), f"{ratio:.2f} x both")


def product_timings(row):
    """Everything listed at once beside a tracer's own calls for it, and the heads of a question beside its grid.

    By the built-in model with one corrupted run, where what is not computing weighs most; seconds of the processor.
    """
    model, samples = BlipVqa.demo(), list(demo_samples(8, pairs="image"))
    site, directions, metrics = "self_attention_out", ("restore", "disrupt"), ("log_probability", "kl_divergence")
    listed = {"sites": ("block_output", site), "head": (None, "all"), "direction": directions, "metric": metrics}
    listed |= {"image_map": 4, "knockout": {"picture": Edges("question_encoder")}}

    def together():
        with tempfile.TemporaryDirectory() as out:
            found = trace_dataset(samples, model, out, corruption=ImageSwap, progress=False, **listed)
            assert found.counts["traced"] == len(samples)

    def tracers():
        swaps = [ImageSwap(sample.other_image) for sample in samples]
        return [Tracer(model, *sample[:3], corruption=swap) for sample, swap in zip(samples, swaps, strict=True)]

    def alone(*parts):
        for tracer in tracers():
            for direction in directions:
                for block in ("question_encoder", "answer_decoder"):
                    if "grid" in parts:
                        tracer.trace(block, direction=direction)
                        tracer.trace(block, site, direction=direction)
                    if "heads" in parts:
                        tracer.trace_heads(block, site, direction=direction)
                if "map" in parts:
                    tracer.trace_image_tokens(4, direction)
            if "knockout" in parts:
                tracer.trace_knockout("question_encoder")

    def processor(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    everything = ("grid", "heads", "map", "knockout")
    together()
    alone(*everything)
    rounds = [
        (processor(together), processor(lambda: alone(*everything)), processor(lambda: alone("heads")))
        for _ in range(3)
    ]
    whole, own, heads = (statistics.median(times) / len(samples) for times in zip(*rounds, strict=True))
    row(
        "built-in model: a question, all listed, two scores",
        whole,
        f"{whole / own:.2f} x its tracer's calls, one score",
    )
    row("of these the heads: 4 heads x 2 blocks x 2 directions", heads)


def dataset_memory(memory, row):
    """What the process holds while the built-in model traces a thousand questions."""
    held = {}

    def progress(done, _total):
        if done in (10, 100, 1000):
            gc.collect()
            held[done] = memory.held() / 2**20

    with tempfile.TemporaryDirectory() as out:
        samples, noise = demo_samples(1000), GaussianNoise(samples=2)
        start = time.perf_counter()
        trace_dataset(samples, BlipVqa.demo(), out, corruption=noise, progress=progress, batch_size=10)
        seconds = time.perf_counter() - start
    row("built-in model, two noise samples: a sample", seconds / 1000)
    for done, megabytes in held.items():
        row(f"the process after sample {done}", megabytes, unit="MiB")


def memories(model, memory, weights, samples):
    """Peak memory above the weights, whatever the number of samples."""
    memory.reset()
    tracer = subject(model, samples)
    tracer.prepare()
    tracer.trace()
    tracer.trace("answer_decoder", window=12)
    tracer.trace_image_tokens(patch=4)
    return memory.peak() - weights


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="time (a) on one cell and everything once")
    parser.add_argument("--only", choices=("tracer", "dataset"), help="these rows alone")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    model = base_size(device)
    for weight in model.hf.parameters():  # in memory for good, so that they are not counted later
        weight.abs().max()
    gc.collect()
    memory = Memory(device)
    weights = memory.held()

    def row(name, value, note="", unit="s"):
        print(f"{name:52} {value:10.3f} {unit:3}  {note}", flush=True)

    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{arguments.threads} CPU threads"
    print(f"{name}, torch {torch.__version__}, float32\n")
    with torch.inference_mode():
        for samples in () if arguments.only == "dataset" else (1,) if arguments.quick else (1, 50):
            gc.collect()
            row(
                f"peak memory above the weights, {samples} samples",
                memories(model, memory, weights, samples) / 2**30,
                unit="GiB",
            )
        if arguments.only != "dataset":
            timings(model, device, 1 if arguments.quick else arguments.rounds, arguments.quick, row)
        if arguments.only != "tracer":
            dataset_timings(model, device, 2 if arguments.quick else 10, row)
            product_timings(row)
            if not arguments.quick:
                dataset_memory(memory, row)


if __name__ == "__main__":
    main()
