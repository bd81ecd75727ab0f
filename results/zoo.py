"""Models that every transport rule must be able to teach: all image classifiers of torchvision, one of each family of
timm, and Hugging Face's, from random weights and small configurations. Nothing is downloaded.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 5

TIMM = {
    "beit_base_patch16_224": 224,
    "halonet_h1": 256,
    "mobileone_s1": 64,
    "cait_xxs24_224": 224,
    "coat_tiny": 224,
    "convit_tiny": 224,
    "convmixer_768_32": 64,
    "convnext_atto_rms": 64,
    "cpubone_nano": 64,
    "crossvit_tiny_240": 240,
    "csatv2": 64,
    "cs3darknet_focus_s": 64,
    "cspnext_tiny": 64,
    "davit_tiny": 64,
    "deepseek_vit_412m": 56,
    "deit_tiny_patch16_224": 224,
    "densenet121": 64,
    "dla46x_c": 64,
    "dpn48b": 64,
    "edgenext_xx_small": 64,
    "efficientformer_l1": 224,
    "efficientformerv2_s0": 224,
    "mnasnet_small": 64,
    "efficientvim_m1": 64,
    "efficientvit_b0": 64,
    "efficientvit_m0": 224,
    "vit_tiny_patch16_dinov3_qkvb": 256,
    "fasternet_t0": 64,
    "fastvit_t8": 64,
    "focalnet_tiny_srf": 64,
    "gcvit_xxtiny": 224,
    "gemma4_vit_167m_enc": 96,
    "ghostnet_050": 64,
    "hardcorenas_b": 64,
    "hgnetv2_b0": 64,
    "hiera_tiny_224": 224,
    "sam2_hiera_tiny": 64,
    "hrnet_w18_small": 64,
    "iformer_t": 64,
    "inception_next_atto": 64,
    "inception_resnet_v2": 96,
    "inception_v3": 96,
    "inception_v4": 96,
    "lcnetv2_small": 64,
    "levit_128s": 224,
    "lowformer_b0": 64,
    "test_mambaout": 64,
    "maxvit_pico_rw_256": 256,
    "poolformerv2_s12": 64,
    "gmlp_ti16_224": 224,
    "lcnet_035": 64,
    "mobilenetv5_base": 64,
    "mobilevit_xxs": 64,
    "mvitv2_tiny": 224,
    "naflexvit_base_patch16_parfac_gap": 64,
    "nasnetalarge": 64,
    "nest_tiny": 224,
    "nextvit_small": 64,
    "nf_regnet_b0": 64,
    "pit_ti_224": 224,
    "pnasnet5large": 64,
    "pvt_v2_b0": 64,
    "qwen3_vit_88m": 64,
    "rdnet_tiny": 64,
    "regnetx_002": 64,
    "repghostnet_050": 64,
    "repvit_m1": 64,
    "res2next50": 64,
    "resnest14d": 64,
    "resnet10t": 64,
    "resnetv2_18": 64,
    "rexnet_100": 64,
    "selecsls42": 64,
    "legacy_seresnet18": 64,
    "sequencer2d_s": 224,
    "shvit_s1": 64,
    "skresnet18": 64,
    "starnet_s050": 64,
    "swiftformer_xs": 224,
    "swin_tiny_patch4_window7_224": 224,
    "swinv2_tiny_window8_256": 256,
    "swinv2_cr_tiny_224": 224,
    "tiny_vit_5m_224": 64,
    "tnt_s_legacy_patch16_224": 224,
    "tresnet_m": 64,
    "twins_svt_small": 224,
    "vgg11": 64,
    "visformer_tiny": 224,
    "vit_tiny_patch16_224": 224,
    "vit_tiny_r_s16_p8_224": 224,
    "test_vit_relpos": 160,
    "samvit_base_patch16_224": 224,
    "vitamin_small_224": 224,
    "volo_d1_224": 224,
    "ese_vovnet19b_slim_dw": 64,
    "legacy_xception": 64,
    "xception41p": 64,
    "xcit_nano_12_p8_224": 224,
}
"""One model of each family, the smallest of those whose names say small, and the size of its images: 64 if any."""

NARROWED: dict[str, dict[str, Any]] = {
    "deepseek_vit_412m": {"embed_dim": 64, "depth": 2, "num_heads": 4},
    "gemma4_vit_167m_enc": {"embed_dim": 64, "depth": 2, "num_heads": 4},
    "qwen3_vit_88m": {"embed_dim": 64, "depth": 2, "num_heads": 4},
    "samvit_base_patch16_224": {"embed_dim": 64, "depth": 4, "num_heads": 4, "global_attn_indexes": (1, 3)},
    "beit_base_patch16_224": {"embed_dim": 64, "depth": 3, "num_heads": 4},
}
"""What would be too large: the same blocks, narrower and fewer."""


class Example(NamedTuple):
    """A model with something to learn.

    Attributes:
        model: in double precision, in training mode, no Parameter at zero.
        x: inputs.
        y: labels.
    """

    model: nn.Module
    x: Tensor | Mapping[str, Tensor]
    y: Tensor


def loss(output: Any, y: Tensor) -> Tensor:
    """Cross-entropy of all that a model answers; auxiliary heads count as much."""
    if isinstance(output, (tuple, list)):
        return torch.stack([loss(each, y) for each in output if each is not None]).sum()
    if output.dim() > 2:
        output = output.flatten(1) if output.shape[1] >= CLASSES else output.mean(tuple(range(1, output.dim() - 1)))
    return F.cross_entropy(output, y)


class Logits(nn.Module):
    """A model of Hugging Face's, whose answer is a dictionary: the logits, of the last position."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        """(N, classes)."""
        logits = self.model(**inputs)["logits"]
        return logits[:, -1] if logits.dim() == 3 else logits


def _torchvision(name: str) -> tuple[nn.Module, Tensor]:
    from torchvision import models

    size = {"inception_v3": 96, "maxvit_t": 224}.get(name, 64)
    options: dict[str, Any] = {"num_classes": CLASSES}
    if name in ("inception_v3", "googlenet"):
        options["init_weights"] = False
        size = 299 if name == "inception_v3" else size
    if name.startswith("vit_"):
        patch, layers = int(name.rpartition("_")[2]), {"b": 12, "l": 24, "h": 32}[name[4]]
        size = 4 * patch
        return models.VisionTransformer(size, patch, layers, 4, 64, 128, num_classes=CLASSES), _images(size)
    if name == "convnext_large":
        from torchvision.models.convnext import CNBlockConfig, ConvNeXt

        settings = [CNBlockConfig(*each) for each in ((24, 48, 3), (48, 96, 3), (96, 192, 27), (192, None, 3))]
        return ConvNeXt(settings, num_classes=CLASSES), _images(size)
    if name in ("regnet_y_128gf", "regnet_y_32gf", "regnet_x_32gf"):
        from torchvision.models.regnet import BlockParams, RegNet

        squeeze = 0.25 if "_y_" in name else None
        widths = BlockParams.from_init_params(depth=20, w_0=40, w_a=16, w_m=2.5, group_width=8, se_ratio=squeeze)
        return RegNet(widths, num_classes=CLASSES), _images(size)
    if name.startswith("vgg"):
        model = models.get_model(name, weights=None, **options)
        assert isinstance(model, models.VGG)
        model.classifier[0], model.classifier[3], model.classifier[6] = (
            nn.Linear(512 * 49, 64), nn.Linear(64, 64), nn.Linear(64, CLASSES)
        )  # fmt: skip
        return model, _images(size)
    return models.get_model(name, weights=None, **options), _images(size)


def _timm(name: str) -> tuple[nn.Module, Tensor]:
    import timm

    return timm.create_model(name, num_classes=CLASSES, **NARROWED.get(name, {})), _images(TIMM[name])


def _images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size)


def _hugging_face() -> dict[str, Callable[[], tuple[nn.Module, dict[str, Tensor]]]]:
    import transformers as t

    small: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 50,
    }  # fmt: skip
    special: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    words = torch.randint(3, 50, (2, 7))
    text, both = {"input_ids": words}, {"input_ids": words, "decoder_input_ids": words}
    return {
        "BERT": lambda: (t.BertForSequenceClassification(t.BertConfig(**small, num_labels=CLASSES)), text),
        "BERT, masked words": lambda: (t.BertForMaskedLM(t.BertConfig(**small)), text),
        "GPT-2": lambda: (
            t.GPT2LMHeadModel(t.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, **special)), text
        ),
        "Llama": lambda: (t.LlamaForCausalLM(t.LlamaConfig(**small, num_key_value_heads=2)), text),
        "ViT": lambda: (
            t.ViTForImageClassification(t.ViTConfig(**{k: v for k, v in small.items() if k != "vocab_size"},
                                                    image_size=32, patch_size=8, num_labels=CLASSES)),
            {"pixel_values": torch.randn(2, 3, 32, 32)},
        ),
        "T5": lambda: (
            t.T5ForConditionalGeneration(
                t.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
            ),
            both,
        ),
        "Whisper": lambda: (
            t.WhisperForConditionalGeneration(t.WhisperConfig(
                vocab_size=50, num_mel_bins=8, d_model=32, encoder_layers=2, decoder_layers=2,
                encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
                max_source_positions=10, max_target_positions=10, decoder_start_token_id=1, **special)),
            {"input_features": torch.randn(2, 8, 20), "decoder_input_ids": words},
        ),
        "Mamba": lambda: (
            t.MambaForCausalLM(t.MambaConfig(vocab_size=50, hidden_size=32, state_size=4, num_hidden_layers=2)), text
        ),
    }  # fmt: skip


def names() -> Iterator[tuple[str, str]]:
    """(library, name) of every model."""
    from torchvision import models

    yield from (("torchvision", name) for name in models.list_models(module=models))
    yield from (("timm", name) for name in TIMM)
    yield from (("transformers", name) for name in _hugging_face())


def example(library: str, name: str) -> Example:
    """The model of that name."""
    torch.manual_seed(0)
    build: Callable[[], Any] = {
        "torchvision": lambda: _torchvision(name),
        "timm": lambda: _timm(name),
        "transformers": lambda: _hugging_face()[name](),
    }[library]
    model, x = build()
    model = model.double().train()
    for module in model.modules():  # the draws of a pass are the same in the next one only if it draws nothing
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    with torch.no_grad():
        for p in model.parameters():  # heads and branches that start at zero would let no error by
            p.add_(0.02 * torch.randn_like(p))
    if isinstance(x, Tensor):
        return Example(model, x.double(), torch.tensor([1, 2]))
    x = {key: t.double() if t.is_floating_point() else t for key, t in x.items()}
    return Example(Logits(model), x, torch.tensor([1, 2]))
