"""The demo's network: a real `transformers.BlipForQuestionAnswering`, a thousandth of BLIP-base's size.

For: building the untrained model and its processor, and writing and reading the model folder.
Cost: about 1.2 million weights, 5 MB in float32.
Ends: at an untrained model; `train.py` trains it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipProcessor,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget.demo.training.vocabulary import pieces

WIDTH = 64
LAYERS = 6
HEADS = 4
IMAGE_SIZE = 64  # pixels
PATCH_SIZE = 8  # pixels: 8 x 8 image tokens and the class token
GRID = IMAGE_SIZE // PATCH_SIZE
START_TOKEN = "[DEC]"  # noqa: S105  (a word piece, not a secret)
MAX_QUESTION = 64  # word pieces


def build_processor() -> BlipProcessor:
    """Make the processor: images are resized to `IMAGE_SIZE`, questions lower-cased and split into word pieces."""
    vocabulary = {piece: index for index, piece in enumerate(pieces())}
    tokenizer = BertTokenizer(
        vocab=vocabulary, do_lower_case=True, bos_token=START_TOKEN, model_max_length=MAX_QUESTION
    )
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    return BlipProcessor(images, tokenizer)


def build_model(processor: BlipProcessor, seed: int) -> BlipForQuestionAnswering:
    """An untrained model for the processor's vocabulary; the same seed gives the same weights."""
    tokenizer = processor.tokenizer
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "encoder_hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": MAX_QUESTION,
        # The default, 0.02, is meant for width 768: at width 64 signals would vanish.
        "initializer_range": 0.08,
        "bos_token_id": tokenizer.bos_token_id,  # the decoder's start
        "sep_token_id": tokenizer.sep_token_id,  # the end of an answer
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "initializer_range": 0.08,
    }
    torch.manual_seed(seed)
    config = BlipConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=WIDTH,
        image_text_hidden_size=WIDTH,
        initializer_range=0.08,
    )
    model = BlipForQuestionAnswering(config)
    with torch.no_grad():
        # Rows and columns are distinguishable from the first step; otherwise rows are learned late or never.
        model.vision_model.embeddings.position_embedding[0, 1:] = _grid_waves() * 0.3
    return model


def save(model: BlipForQuestionAnswering, processor: BlipProcessor, folder: Path) -> None:
    """Write weights, configuration and processor into `folder`.

    Each file is complete before it replaces an older one, so that a reader never sees a partial file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".model-") as scratch:
        model.save_pretrained(scratch)
        processor.tokenizer.save_pretrained(scratch)
        processor.image_processor.save_pretrained(scratch)
        for path in sorted(Path(scratch).iterdir()):
            path.chmod(0o644)
            path.replace(folder / path.name)


def load(folder: Path) -> tuple[BlipForQuestionAnswering, BlipProcessor]:
    """Read a model folder, in evaluation mode, without network access.

    Raises:
        OSError: if files are missing.
    """
    model = BlipForQuestionAnswering.from_pretrained(folder, local_files_only=True)
    tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
    images = BlipImageProcessorPil.from_pretrained(folder, local_files_only=True)
    processor = BlipProcessor(images, tokenizer)
    return model.train(False), processor


def _grid_waves() -> torch.Tensor:
    """Sines and cosines of the row and the column, (GRID * GRID, WIDTH), values in -1..1."""
    steps = torch.arange(GRID, dtype=torch.float32)
    pitch = 2.0 ** (torch.arange(WIDTH // 4) / (WIDTH // 16)) * (torch.pi / 2 / GRID)
    waves = torch.cat([torch.sin(steps[:, None] * pitch), torch.cos(steps[:, None] * pitch)], dim=1)
    rows = waves[:, None, :].expand(GRID, GRID, WIDTH // 2)
    columns = waves[None, :, :].expand(GRID, GRID, WIDTH // 2)
    return torch.cat([rows, columns], dim=2).reshape(GRID * GRID, WIDTH)
