"""The words of the interface: names on screen and their explanations.

For: the front end and the drawn figure, which thus use the same words.
Ends: at names and fixed lines; sentences with numbers are composed where the numbers are.
"""

from __future__ import annotations

from blip_trace_widget.states import BLOCKS, SITE_LABELS, attention_label

#: The quantities that the colour of a cell can show.
SHOWS = ("recovery", "indirect_effect", "score")
#: The choices for the rows of a grid.
AXES = ("tokens", "layers")

#: Names on screen that are not just the code's name with spaces.
LABELS = {
    "image_encoder": "Image encoder",
    "question_encoder": "Question encoder",
    "answer_decoder": "Answer decoder",
    **SITE_LABELS,
    **{f"{site} head": f"{attention_label(site)} head" for block in BLOCKS.values() for site in block.heads},
    "kl_divergence": "KL divergence",
    "score": "patched score",
    "GaussianNoise": "noise",
    "Scale": "scaling",
    "ImageSwap": "other picture",
    "QuestionSwap": "other question",
    "MeanAblation": "ablation",
    "patch_embeddings": "before the ViT",
    "image_embeddings": "behind the ViT",
    "question_embeddings": "words of the question",
    "scale": "Image tokens are multiplied by",
    "attention_minus_heads": "attention, less that of all heads",
    "mean": "their mean",
    "none": "no overlay",
    "hold mlp": "later MLPs",
    "hold self_attention_out": "later self-attentions",
    "hold cross_attention_out": "later cross-attentions",
    "hold everywhere": "everywhere",
    "map_disrupt": "damage one patch",
    "map_restore": "restore one patch",
    "map_paths": "paths from patches",
    "attention_clean": "attention",
    "attention_corrupted": "attention, noisy",
    "attention_difference": "attention, change",
    "strength": "strength of damage",
    "other_picture": "The picture that is swapped in",
    "other_question": "Other question, of as many tokens",
    "to": "Image tokens are set to",
    "export_png": "Figure as PNG",
    "export_svg": "Figure as SVG",
    "export_csv": "Numbers as CSV",
    "export_json": "Numbers as JSON",
    "export_picture": "Picture as PNG",
    "export_other": "Other picture as PNG",
    "export_python": "Copy as Python",
    "export_cells": "Copy the cells' values",
}

#: Tooltips: of controls by the name of their trait, of the runs, and of the states of a cell.
EXPLAIN = {
    "empty": "not computed: click to patch it",
    "waiting": "waiting to be computed",
    "old": "value for earlier settings",
    "constructed": "1 by construction: all that the answer is read from passes through this state",
    "negligible": "not distinguishable from 0",
    "margin": "± 95 % interval",
    "lacking": "not computed in both grids",
    "apart": "not so under the other corruption",
    "true": "a true state of the known circuit",
    "truth": "Outline the states that carry the answer in this model, as it was built: what methods should find",
    "model": "The model that answers: the built-in one that learned to, or one of four whose circuit is known because "
    "it was written, with pictures and questions of its own",
    "dead": "0 by construction: nothing of it gets past what is held, or no path leads from it",
    "paths": "Show what reaches this directly, with all that attentions and MLPs add held between (key P)",
    "paths answer": "Show which states reach the answer directly, with all that attentions and MLPs add held between "
    "(key P, with nothing selected)",
    "paths picture": "Show on the picture which patches reach this directly",
    "held": "held: it keeps its value while others are patched",
    "grid": "Enter patches a cell, or on a header a row or column; Ctrl with Enter adds one, Shift with arrows draws "
    "out a set; L holds a cell, row or column while others are patched, or lets it go; P shows what reaches the "
    "selected cells directly, then a second Enter points from sender to receiver, and Escape goes one step back.",
    "hold": "Hold what the later layers' parts add, there or at all positions: what an effect loses by that went "
    "through them. Alt-click, or L, holds single states.",
    "nan": "the score is not a number",
    "limit": "Keep these limits, so that grids can be compared",
    "pin": "Keep this result beside the next one",
    "compare": "Keep this grid, and see how others differ from it: with other noise, at another site, for another "
    "question of the same words",
    "also": "Compute this grid under another corruption too: how alike the two rank its cells, and on which they "
    "disagree (one claims an effect, the other none or the opposite). What holds under several is the model's.",
    "verify": "Compute eight random cells and both base runs again by plain hooks on the untouched model, without any "
    "shortcut, and once more in float64 to see how much is rounding",
    "find": "Search for a small set of states of this block (layer outputs), or of all heads, that together recover a "
    "share of what the damage took; what it is worth is measured on fresh noise. Restore: put it into the damaged run. "
    "Disrupt: damage it in the clean run. Isolate: damage all else. It takes as long as several grids.",
    "flow": "Cut the clean run's attention from each group of tokens to each other one (picture, [CLS], question word, "
    "other words, answer), three layers at a time, and draw what is lost as arrows",
    "member": "Select it in its grid",
    "difference": "Show how this grid differs from the one that is kept, in place of its values",
    "unit": "What a bar of full length stands for",
    "block": "The part of the model whose hidden states are patched",
    "site": "What is patched in a layer: what it puts out, what one of its parts adds, what enters it, or an attention "
    "with the residual added, as published",
    "show": "What the colour of a cell shows",
    "clean": "Clean run: the model on the undamaged input",
    "corrupted": "Corrupted run: the model on the damaged input, averaged over the noise samples",
    "noise": "Noise factor ν: how strong the noise on the image embeddings is. Behind the slider the mean score at "
    "each ν; the band is where the noise takes 90 % of the clean score, as far as these samples tell (95 % interval)",
    "other_question": "What is asked instead in the corrupted run; it needs as many tokens as the question",
    "overlay": "What lies over the picture: which parts of it carry the answer, where the selected word looks, or how "
    "strongly each patch is damaged.",
    "square": "How many patches wide the squares are that are patched one at a time: of larger ones there are fewer.",
    "patch": "How many image tokens wide the squares are that are patched together. Single tokens, 1, can take long.",
    "squares": "squares of # × # tokens, see More",
    "opacity": "How much the overlay covers the picture",
    "region": "Where the picture is damaged: everywhere, or in the patches that were marked on it",
    "patches": "Click or drag to patch a part of the picture.",
    "choose": "Choose a picture, or drop or paste one",
    "dropped": "A link or a text was dropped or pasted here, no picture file: save the picture, then choose the file.",
    "rows image_encoder": ", named by row,column of their patch",
    "more": "Point at a setting to read what it means.",
    "to": "Every image token is replaced by the mean over this picture's tokens, or by zero",
    "head": "One head of an attention alone, before the heads are joined, or all of them together.",
    "axes": "What the rows of the grid are.",
    "foil": "Another answer of as many tokens, which the logit difference compares with.",
    "corruption": "How the input of the corrupted run is damaged: noise on the image embeddings (the paper's way), "
    "another picture or another question instead (NOTICE), image tokens times a factor (the published attention "
    "notebook), or set to their mean or to zero.",
    "at": "What is damaged: what leaves the ViT, as in the paper; what enters it, so that the image encoder can be "
    "traced too; or words of the question (ROME).",
    "positions": "Which words get the noise. Where none is left, every one of them does.",
    "scale": "Every image token times this factor: 1 leaves it as it is. The published attention notebook has 0.7691.",
    "ablation": "In the clean run: the selected states, or the chosen head of them, times this factor. 0 takes them "
    "out, 1 leaves them as they are.",
    "metric": "How a run is scored: probability of the answer, its logarithm, the logit difference to another answer, "
    "or how far the whole distribution moved from the clean run.",
    "direction": "Restore: put single clean states into the corrupted run and see what comes back. Disrupt: put single "
    "corrupted states into the clean run and see what is lost.",
    "window": "How many neighbouring layers are patched together, around the cell's own layer.",
    "kind": "Multiplicative: embeddings times (1 + ν·z), as in the paper on BLIP. Additive: embeddings plus ν·σ·z, as "
    "in ROME. z is standard normal noise.",
    "samples": "How many draws of the noise every number is averaged over: more give narrower intervals and take "
    "longer.",
    "seed": "Which draws of the noise are used: the same seed gives the same numbers.",
}

#: The steps until the clean and the corrupted run are computed.
STEPS = {
    "embed": "embedding the picture",
    "clean": "answering",
    "corrupted": "answering on the damaged input",
}

#: By shown quantity and direction: what the grid shows, the names of the ends of its scale, the units of its numbers,
#: and what to do if nothing is selected.
CAPTIONS = {
    "recovery restore": "How much of the lost answer each state brings back",
    "recovery disrupt": "How much of the total effect each state costs",
    "indirect_effect restore": "How much each state raises the score when it is restored",
    "indirect_effect disrupt": "How much each state lowers the score when it is damaged",
    "score restore": "Score of the answer with one state restored",
    "score disrupt": "Score of the answer with one state damaged",
    "low recovery restore": "hurts",
    "high recovery restore": "restores",
    "low recovery disrupt": "helps",
    "high recovery disrupt": "costs",
    "low indirect_effect restore": "hurts",
    "high indirect_effect restore": "restores",
    "low indirect_effect disrupt": "helps",
    "high indirect_effect disrupt": "costs",
    "low score restore": "low",
    "high score restore": "high",
    "low score disrupt": "low",
    "high score disrupt": "high",
    "low difference": "less",
    "high difference": "more",
    "unit recovery": "recovery of ",
    "unit indirect_effect": "change of ",
    "hint restore": "Click a cell to restore that hidden state and see how much of the answer comes back.",
    "hint disrupt": "Click a cell to damage that hidden state and see how much of the answer is lost.",
}

#: Captions of the overlays. For attention: the end of the line, and what to do if no token is selected.
OVERLAYS = {
    "map_disrupt": "How much damaging just this part costs. Where ν takes nearly all of the score any part does: the "
    "object shows at a ν that takes about half.",
    "map_restore": "How much restoring just this part brings back. Where all else stays damaged, a single patch was "
    "measured to find the object no better than chance: no finding by itself.",
    "map_paths": "Choose “paths into this” for a state of the question encoder, to see which patches reach it.",
    "attention_clean": " (clean run). Looking is not mattering: patch to know.",
    "attention_corrupted": " (noisy runs). Looking is not mattering: patch to know.",
    "attention_difference": ": noisy minus clean runs. Looking is not mattering: patch to know.",
    "attention_minus_heads": " beyond the mean of that layer’s heads (clean run). Looking is not mattering: patch to "
    "know.",
    "attention": "Select a cell of the question encoder, or of the image encoder, to see where it looks.",
    "heads": "Choose a single head (under More) of an attention to the picture, to see what distinguishes it.",
    "strength": "How much each patch's embedding is changed",
    "undamaged": "The picture is not damaged: its patches are the same in both runs.",
}
#: Units of the overlays' numbers.
UNITS = {
    "map_disrupt": "of the total effect",
    "map_restore": "of the total effect",
    "map_paths": "of the total effect",
    "closed map_paths": "of the score",
    "closed map_disrupt": "lost of the score",
    "closed map_restore": "added to the score",
    "attention": "of the attention",
    "strength": "times its own length",
}


def label(name: str) -> str:
    """A name on screen."""
    return LABELS.get(name, name.replace("_", " "))


def site_and_head(site: str, head: int | None) -> str:
    """A site, or one head of an attention: "self-attention head 3"."""
    return label(site) if head is None else f"{label(f'{site} head')} {head}"


def caption(show: str, direction: str) -> str:
    """What the grid shows, in one line."""
    return CAPTIONS[f"{show} {direction}"]
