"""Small random BLIP models for tests: any number of layers, heads and widths, with the built-in model's words."""

from functools import cache

import torch
from transformers import BlipConfig, BlipForQuestionAnswering, BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_trace_widget import BlipVqa

#: BLIP base's, for `random_config` and `random_hf_model`.
BASE_SIZES = {
    "layers": 12,
    "heads": 12,
    "width": 768,
    "vision_layers": 12,
    "patches": 24,
    "patch": 16,
    "vocabulary": 30524,
    "spread": 0.05,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}


def random_config(
    *, layers=2, heads=2, width=16, vision_layers=1, patches=2, patch=8, vocabulary=200, spread=0.3, **text
):
    return BlipConfig(
        text_config={
            "hidden_size": width,
            "encoder_hidden_size": width,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "intermediate_size": 2 * width,
            "vocab_size": vocabulary,
            "max_position_embeddings": 40,
            "initializer_range": spread,
            **text,
        },
        vision_config={
            "hidden_size": width,
            "num_attention_heads": heads,
            "num_hidden_layers": vision_layers,
            "intermediate_size": text.get("intermediate_size", 2 * width),
            "image_size": patch * patches,
            "patch_size": patch,
            "initializer_range": spread,
        },
        projection_dim=width,
    )


def random_hf_model(seed, tokenizer, **sizes):
    config = random_config(
        **{"vocabulary": len(tokenizer), **sizes},
        pad_token_id=tokenizer.pad_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.convert_tokens_to_ids("[DEC]"),
    )
    torch.manual_seed(seed)
    hf = BlipForQuestionAnswering(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # biases and norms start at 0 and 1, where a mistake about them would not show
        for name, parameter in hf.named_parameters():
            if name.endswith("bias") or "orm" in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return hf


@cache
def words():
    """The built-in model's tokenizer."""
    return BlipVqa.demo().processor.tokenizer


def random_model(seed=0, *, check=True, **sizes):
    tokenizer = words()
    hf = random_hf_model(seed, tokenizer, **sizes)
    side = hf.config.vision_config.image_size
    images = BlipImageProcessorPil(size={"height": side, "width": side})
    return BlipVqa(hf, BlipProcessor(images, tokenizer), name=f"random {seed}", check=check)
