"""A slow, obvious, independent tracer: plain forward hooks on the untouched transformers model, one run at a time.

It shares no code with the package. Every run is a whole forward of `BlipForQuestionAnswering`, the ViT included.
"""

import contextlib

import numpy as np
import torch

LAYERS = {
    "image_encoder": lambda hf: hf.vision_model.encoder.layers,
    "question_encoder": lambda hf: hf.text_encoder.encoder.layer,
    "answer_decoder": lambda hf: hf.text_decoder.bert.encoder.layer,
}
MODULES = {
    "block_output": lambda layer: layer,
    "self_attention": lambda layer: layer.attention,
    "cross_attention": lambda layer: layer.crossattention,
    "mlp": lambda layer: layer.output.dense,
    "self_attention_out": lambda layer: layer.attention.output.dense,
    "cross_attention_out": lambda layer: layer.crossattention.output.dense,
    "block_input": lambda layer: layer,
}
IMAGE_MODULES = {
    "block_output": lambda layer: layer,
    "self_attention": lambda layer: layer.self_attn,
    "mlp": lambda layer: layer.mlp,
    "self_attention_out": lambda layer: layer.self_attn,
    "block_input": lambda layer: layer,
}


def noise(embeddings, factor, kind, samples, seed, region=None, positions=None):
    """Corrupted embeddings, one (tokens, width) a sample, from clean ones (tokens, width)."""
    bank = torch.randn((samples, *embeddings.shape), generator=torch.Generator("cpu").manual_seed(seed))
    damaged = []
    for z in bank:
        if kind == "multiplicative":
            noisy = embeddings * (1 + factor * z)
        else:
            noisy = embeddings + factor * embeddings.std() * z
        damaged.append(spared(noisy, embeddings, region, positions))
    return damaged


def spared(damaged, clean, region=None, positions=None):
    """Damaged embeddings in which all but the patches of a region, or all but some positions, are clean again."""
    damaged = damaged.clone()
    for token in range(len(clean)):
        inside = region is None or (token > 0 and torch.as_tensor(region).flatten()[token - 1])
        if not inside or (positions is not None and token not in positions):
            damaged[token] = clean[token]
    return damaged


def damaged(clean, corruption, other):
    """What each corruption makes of embeddings: one (tokens, width) a sample; `other()` gives another picture's."""
    c = corruption
    if type(c).__name__ == "GaussianNoise":
        return noise(clean, c.factor, c.kind, c.samples, c.seed, c.region, c.positions)
    goals = {
        "Scale": lambda: clean * c.factor,
        "ImageSwap": other,
        "MeanAblation": lambda: clean.mean(0).expand_as(clean) if c.to == "mean" else torch.zeros_like(clean),
    }
    return [spared(goals[type(c).__name__](), clean, c.region)]


def without(probs, cut):
    """Attention probabilities (1, heads, queries, keys) after some edges are removed: the others sum to 1 again."""
    left = probs.masked_fill(cut, 0.0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total.clamp(min=1e-38), torch.zeros_like(left))


class Hooked:
    """The model under hooks.

    `embeddings` replaces the ViT's output (with `at="patch_embeddings"` its first layer's input, with
    `at="question_embeddings"` the question encoder's), `patches` maps a state to its new value or to a function of its
    present one, `cuts` removes attention edges.
    """

    def __init__(self, hf, pixel_values, question_ids, answer_ids, at="image_embeddings"):
        self.hf, self.pixels, self.at = hf, pixel_values, at
        self.question = torch.tensor([question_ids])
        self.answer_ids = answer_ids
        start = hf.decoder_start_token_id
        self.decoder_input = torch.tensor([[start, *answer_ids[:-1]]])

    def embeddings(self):
        with torch.no_grad():
            if self.at == "patch_embeddings":
                return self.hf.vision_model.embeddings(self.pixels)[0]
            if self.at == "question_embeddings":
                return self.hf.text_encoder.embeddings(input_ids=self.question)[0]
            return self.hf.vision_model(pixel_values=self.pixels).last_hidden_state[0]

    def run(self, embeddings=None, patches=(), record=(), cuts=(), weights=None):
        """Logits (positions, vocabulary), and the values of the states to record.

        `cuts`: (attention module, (heads, queries, keys) bool) pairs. `weights`: an attention module whose weights to
        record.
        """
        seen, logits = {}, []
        with contextlib.ExitStack() as stack:

            def hook(module, function, before=False):
                register = module.register_forward_pre_hook if before else module.register_forward_hook
                stack.callback(register(function).remove)

            if embeddings is not None:

                def replace_embeddings(_module, _inputs, output):
                    return embeddings[None].to(output.dtype) if output.ndim == 3 else output

                places = {
                    "patch_embeddings": self.hf.vision_model.embeddings,
                    "image_embeddings": self.hf.vision_model.post_layernorm,
                    "question_embeddings": self.hf.text_encoder.embeddings,
                }
                hook(places[self.at], replace_embeddings)

            for attention, cut in cuts:
                hook(attention.self.dropout, lambda _module, _inputs, probs, cut=cut: without(probs, cut))
            if weights is not None:
                dropout = getattr(weights, "self", weights).dropout
                hook(dropout, lambda _module, inputs: seen.update(weights=inputs[0][0]), before=True)

            patches = dict(patches)
            for state in {*patches, *record}:
                layer = LAYERS[state.block](self.hf)[state.layer]
                self._hook_state(hook, layer, state, patches, record, seen)
            hook(self.hf.text_decoder, lambda _module, _inputs, output: logits.append(output.logits))
            with torch.no_grad():
                self.hf(
                    input_ids=self.question,
                    pixel_values=self.pixels,
                    attention_mask=torch.ones_like(self.question),
                    decoder_input_ids=self.decoder_input,
                )
        return logits[0][0].float(), seen

    def _hook_state(self, hook, layer, state, patches, record, seen):
        in_vit = state.block == "image_encoder"

        def edit(tensor):
            part = slice(None)
            if state.head is not None:
                size = layer.self_attn.head_dim if in_vit else layer.attention.self.attention_head_size
                part = slice(state.head * size, (state.head + 1) * size)
            if state in record:
                seen[state] = tensor[0, state.position, part].clone()
            if state in patches:
                tensor = tensor.clone()
                new = patches[state]
                tensor[0, state.position, part] = new(tensor[0, state.position, part]) if callable(new) else new
            return tensor

        if state.head is not None and in_vit:
            hook(layer.self_attn.projection, lambda _m, inputs: (edit(inputs[0]), *inputs[1:]), before=True)
            return
        if state.head is not None:
            attention = layer.attention if state.site.startswith("self") else layer.crossattention
            hook(attention.output.dense, lambda _m, inputs: (edit(inputs[0]), *inputs[1:]), before=True)
            return

        def on_output(_module, _inputs, output):
            if isinstance(output, tuple):
                return (edit(output[0]), *output[1:])
            return edit(output)

        module = (IMAGE_MODULES if in_vit else MODULES)[state.site](layer)
        if state.site == "block_input":
            hook(module, lambda _m, inputs: (edit(inputs[0]), *inputs[1:]), before=True)
        else:
            hook(module, on_output)

    def patched_scores(self, sets, clean, corrupted, direction):
        """Probabilities of patched runs, (samples, sets of states); the source is run once for all sets of a sample."""
        found = []
        for damaged in corrupted:
            base, source = (damaged, clean) if direction == "restore" else (clean, damaged)
            _, values = self.run(source, record={state for chosen in sets for state in chosen})
            patches = [{state: values[state] for state in chosen} for chosen in sets]
            found.append([self.probability(self.run(base, patches=each)[0]) for each in patches])
        return np.array(found)

    def held_scores(self, chosen, held, clean, corrupted, direction):
        """Probabilities of a patched run in which states keep the base run's value, (samples,)."""
        found = []
        for damaged in corrupted:
            base, source = (damaged, clean) if direction == "restore" else (clean, damaged)
            patches = self.run(base, record=set(held))[1] | self.run(source, record=set(chosen))[1]
            found.append(self.probability(self.run(base, patches=patches)[0]))
        return np.array(found)

    def path_scores(self, senders, receivers, held, clean, corrupted, direction, score=None):
        """Scores of runs B, or without receivers A, of path patching, (samples,): Wang et al. 2022."""
        score, found = score or self.probability, []
        for damaged in corrupted:
            base, source = (damaged, clean) if direction == "restore" else (clean, damaged)
            patches = self.run(base, record=set(held))[1] | self.run(source, record=set(senders))[1]
            logits, values = self.run(base, patches=patches, record=set(receivers))
            if receivers:
                logits, _ = self.run(base, patches={state: values[state] for state in receivers})
            found.append(score(logits))
        return np.array(found)

    def divergence_from(self, clean):
        """What scores a run by KL(clean ‖ run) at the first answer position."""
        expected = torch.log_softmax(self.run(clean)[0][0].double(), -1)

        def divergence(logits):
            found = torch.log_softmax(logits[0].double(), -1)
            return (expected.exp() * (expected - found)).sum().item()

        return divergence

    def probability(self, logits):
        product = 1.0
        for position, token in enumerate(self.answer_ids):
            product *= torch.softmax(logits[position].double(), -1)[token].item()
        return product
