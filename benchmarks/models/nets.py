"""Factories of whole models with random weights. torchvision and transformers are imported where they are used.

Weights are drawn from torch's current random state, which harness seeds with the case's seed. The vision models have
torchvision's own sizes unless a factory's name ends in ``_small``. The language models have the layers of the published
ones in small numbers, so that a run in float64 takes milliseconds: 256 wide, four heads, three layers each of encoder
and decoder, and 1,000 words.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

WIDTH, HEADS, LAYERS, WORDS = 256, 4, 3, 1000


def image_model(name: str, size: int = 224, statistics: str = "measured") -> nn.Module:
    """A classifier of torchvision for images of ``size`` pixels.

    ``statistics`` are BatchNorm's: ``measured`` on random images, as training leaves them, or ``initial`` (0 and 1).
    """
    from torchvision import models

    arguments = {"image_size": size} if name.startswith("vit") else {}
    module: nn.Module = models.get_model(name, weights=None, **arguments)
    if name.startswith("vit"):
        draw_head(module)
    if statistics == "measured":
        measure_statistics(module, torch.randn(8, 3, min(size, 128), min(size, 128)))
    return module


def vit_small(size: int = 64) -> nn.Module:
    """``VisionTransformer`` of torchvision with three layers, and a head of random weights, which is zero there."""
    from torchvision.models import VisionTransformer

    module: nn.Module = VisionTransformer(
        image_size=size,
        patch_size=16,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        mlp_dim=4 * WIDTH,
        num_classes=WORDS,
    )
    draw_head(module)
    return module


def draw_head(module: nn.Module) -> None:
    """Draw the weights of a vision transformer's head: torchvision leaves zeros, so that every output would be zero."""
    for parameter in module.get_submodule("heads").parameters():
        nn.init.normal_(parameter, std=0.02)


def swin_small() -> nn.Module:
    """Torchvision's ``SwinTransformer`` with two stages of two blocks; the second block of each shifts its windows."""
    from torchvision.models import SwinTransformer

    module: nn.Module = SwinTransformer(
        patch_size=[4, 4],
        embed_dim=64,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=[4, 4],
        stochastic_depth_prob=0.0,
        num_classes=WORDS,
    )
    return module


def measure_statistics(module: nn.Module, images: torch.Tensor) -> None:
    """Set BatchNorm's statistics to those of ``images``, by one run in training mode."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    if not norms:
        return
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    module.train()
    with torch.no_grad():
        module(images)
    module.eval()


def bert(attention: str = "sdpa") -> nn.Module:
    """BERT with a head for masked words; takes ``input_ids`` and ``attention_mask``."""
    from transformers import BertConfig, BertForMaskedLM

    module: nn.Module = BertForMaskedLM(
        BertConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=64,
            attn_implementation=attention,
        )
    )
    return module


def gpt2(attention: str = "sdpa") -> nn.Module:
    """GPT-2 with its language head; takes ``input_ids``."""
    from transformers import GPT2Config, GPT2LMHeadModel

    module: nn.Module = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            n_positions=64,
            use_cache=False,
            **_ENDS,
            attn_implementation=attention,
        )
    )
    return module


def llama(attention: str = "sdpa") -> nn.Module:
    """Llama with its language head and two groups of keys; takes ``input_ids``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    module: nn.Module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=2,
            max_position_embeddings=64,
            use_cache=False,
            attn_implementation=attention,
            **_ENDS,
        )
    )
    return module


def t5(attention: str = "sdpa") -> nn.Module:
    """T5 with its language head; takes ``input_ids`` and ``decoder_input_ids``."""
    from transformers import T5Config, T5ForConditionalGeneration

    module: nn.Module = T5ForConditionalGeneration(
        T5Config(
            vocab_size=WORDS,
            d_model=WIDTH,
            d_kv=WIDTH // HEADS,
            d_ff=4 * WIDTH,
            num_layers=LAYERS,
            num_heads=HEADS,
            use_cache=False,
            attn_implementation=attention,
        )
    )
    return module


def whisper(attention: str = "sdpa") -> nn.Module:
    """Whisper for 100 frames of 40 mel bands; takes ``input_features`` and ``decoder_input_ids``."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    module: nn.Module = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=WORDS,
            num_mel_bins=40,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            d_model=WIDTH,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            max_source_positions=50,
            max_target_positions=64,
            pad_token_id=0,
            decoder_start_token_id=1,
            use_cache=False,
            attn_implementation=attention,
            **_ENDS,
        )
    )
    return module


_ENDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2}
