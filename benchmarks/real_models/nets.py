"""Whole models of torchvision and transformers, each a factory for ``harness compare`` and for a spec.

torchvision's models have their own sizes. Those of transformers have the layers of the published ones in small numbers,
and their caches are unwrapped: lists of dicts of tensors go in and come out. Weights are drawn from a fixed seed, so
that two calls return the same model. ``fault=True`` gives a model with the same weights and one other setting, such as
an export from a wrong configuration has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.models.nets import draw_head, measure_statistics

WIDTH, HEADS, LAYERS, WORDS = 64, 4, 2, 1000
IMAGENET: dict[str, Any] = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SMALL: dict[str, Any] = {"vocab_size": WORDS, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def resnet50(*, fault: bool = False) -> nn.Module:
    """ResNet-50 for ``x``, with BatchNorm's statistics of random images; the fault is an eps of 1e-3 there."""
    from torchvision import models

    torch.manual_seed(0)
    module: nn.Module = models.resnet50(weights=None)
    _measure(module, torch.randn(8, 3, 64, 64))
    for layer in module.modules():
        if fault and isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
    return module.eval()


def vit_b_16(*, fault: bool = False) -> nn.Module:
    """ViT-B/16 for ``x``; the fault is GELU in its tanh approximation."""
    from torchvision import models

    torch.manual_seed(0)
    module: nn.Module = models.vit_b_16(weights=None)
    draw_head(module)
    for layer in module.modules():
        if fault and isinstance(layer, nn.GELU):
            layer.approximate = "tanh"
    return module.eval()


def ssdlite(*, fault: bool = False) -> nn.Module:
    """SSDlite for a list of images, with a dict for each; the fault is ImageNet's mean and deviation of pixels."""
    from torchvision.models import detection

    torch.manual_seed(0)
    module: nn.Module = detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, detections_per_img=20, **(IMAGENET if fault else {})
    )
    _measure(module.get_submodule("backbone"), torch.rand(8, 3, 320, 320) * 2 - 1)
    for name, parameter in module.get_submodule("head").named_parameters():
        if name.endswith("1.weight"):  # as spread as trained ones, so that scores differ
            nn.init.normal_(parameter, std=0.2)
    return module.eval()


def fasterrcnn(*, fault: bool = False) -> nn.Module:
    """Faster R-CNN for a list of images of 128 px, with a dict for each; the fault is a mean and deviation of 0.5."""
    from torchvision.models import detection

    torch.manual_seed(0)
    module: nn.Module = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=8,
        min_size=128,
        max_size=160,
        rpn_post_nms_top_n_test=50,
        box_detections_per_img=20,
        **({"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if fault else {}),
    )
    _measure(module.get_submodule("backbone"), torch.randn(4, 3, 128, 160))
    for name, parameter in module.named_parameters():
        if name in {"rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight"}:
            nn.init.normal_(parameter, std=0.02)  # scores near 1 would be ties
    return module.eval()


def bert(*, fault: bool = False) -> nn.Module:
    """BERT with a head for masked words; the fault is GELU in its tanh approximation."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        hidden_act="gelu_new" if fault else "gelu",
    )
    module: nn.Module = BertForMaskedLM(config)
    return _Logits(module).eval()


class _Logits(nn.Module):
    """``input_ids`` and ``attention_mask`` to ``logits``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {"logits": self.model(input_ids=input_ids, attention_mask=attention_mask).logits}


def gpt2(*, fault: bool = False) -> nn.Module:
    """GPT-2 for one word and its cache; the fault forgets that positions start behind the cache."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    module: nn.Module = GPT2LMHeadModel(GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=64, **SMALL))
    return _Decoder(module, from_zero=fault).eval()


class _Decoder(nn.Module):
    """``input_ids`` and ``past`` to ``logits`` and ``present``, both caches with a key and a value for each layer."""

    def __init__(self, model: nn.Module, *, from_zero: bool) -> None:
        super().__init__()
        self.model, self.from_zero = model, from_zero

    def forward(self, input_ids: Tensor, past: list[dict[str, Tensor]]) -> dict[str, Any]:
        from transformers import DynamicCache

        start = 0 if self.from_zero else past[0]["key"].shape[2]
        answer = self.model(
            input_ids=input_ids,
            past_key_values=DynamicCache([(layer["key"], layer["value"]) for layer in past]),
            position_ids=torch.arange(input_ids.shape[1])[None] + start,
            use_cache=True,
        )
        present = [{"key": layer.keys, "value": layer.values} for layer in answer.past_key_values.layers]
        return {"logits": answer.logits, "present": present}


def t5(*, fault: bool = False) -> nn.Module:
    """T5 with its language head; the fault is a shorter range of its relative positions."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=WORDS,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=4 * WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        relative_attention_max_distance=64 if fault else 128,
    )
    module: nn.Module = T5ForConditionalGeneration(config)
    return _Encoded(module, "input_ids").eval()


def whisper(*, fault: bool = False) -> nn.Module:
    """Whisper for 200 frames of 80 mel bands; the fault is GELU in its tanh approximation."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        d_model=WIDTH,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_source_positions=100,
        max_target_positions=64,
        decoder_start_token_id=1,
        activation_function="gelu_new" if fault else "gelu",
        **SMALL,
    )
    module: nn.Module = WhisperForConditionalGeneration(config)
    return _Encoded(module, "input_features").eval()


class _Encoded(nn.Module):
    """The encoder's input and ``decoder_input_ids`` to ``logits``."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, encoder_input: Tensor, decoder_input_ids: Tensor) -> dict[str, Tensor]:
        answer = self.model(**{self.name: encoder_input}, decoder_input_ids=decoder_input_ids, use_cache=False)
        return {"logits": answer.logits}


def _measure(module: nn.Module, images: Tensor) -> None:
    """Measure BatchNorm's statistics in one thread: their last bits depend on the threads, and two calls must agree."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    measure_statistics(module, images)
    torch.set_num_threads(threads)
