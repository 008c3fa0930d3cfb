"""Models for the presets of transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

from checking import Mode
from coverage_models import transformers
from families import Case, Family
from third_party import ENDS, GROUPED, LANGUAGE, PATCHES, THIRD_PARTY, WIDTH, hugging_face
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

T5 = {"vocab_size": 99, "d_model": 48, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
RESIDUAL: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2]}
STAGES = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}
MAE_DECODER = {f"decoder_{name}": value for name, value in {**WIDTH, "hidden_size": 16}.items()}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}  # fmt: skip
WINDOWS: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
CLIP = {
    "text_config": {**LANGUAGE, **ENDS, "projection_dim": 16},
    "vision_config": {**PATCHES, "projection_dim": 16},
    "projection_dim": 16,
}


def small(name: str, mode: Mode) -> Case:
    """A model of a configuration that other tests build, too."""
    return Case(f"transformers {name}", THIRD_PARTY[f"transformers-{name}"].build, mode)


def model(name: str, mode: Mode, **settings: Any) -> Case:
    """A model of this class and configuration."""
    return Case(f"transformers {name}", hugging_face(name, **settings), mode)


def drawn(name: str, mode: Mode = "bits by only") -> Case:
    """A model of those that the coverage of presets is measured on."""
    return Case(f"transformers {name}", partial(transformers, name), mode)


def plain(name: str) -> Case:
    """The same, its weight norms taken off afterwards, so that parameters have the names that rules go by."""

    def build() -> nn.Module:
        model = transformers(name)
        for module in [*model.modules()]:
            if is_parametrized(module):
                remove_parametrizations(module, "weight")
        return model

    return Case(f"transformers {name}, its weight norm taken off", build, "distribution")


SPECIAL = (
    "XLNetLMHeadModel", "ReformerModelWithLMHead", "GptOssForCausalLM", "PoolFormerForImageClassification",
    "LevitForImageClassification", "ViltForMaskedLM", "FlavaModel",
)  # fmt: skip
"""Models with parameters that no layer of torch.nn has."""


FAMILIES: list[Family] = [
    Family(
        "transformers_base",
        neighbour="torch_default",
        cases=[
            *(
                small(name, "bits by only")
                for name in ("bert", "distilbert", "gpt_neox", "llama", "mixtral", "bart", "segformer")
            ),
            *(small(name, "bits") for name in ("roberta", "albert", "deberta_v2", "opt", "mistral_tied")),
            model("OpenAIGPTLMHeadModel", "bits by only", vocab_size=99, n_embd=32, n_layer=2, n_head=4),
            model("ElectraForPreTraining", "bits by only", embedding_size=16, **LANGUAGE),
            model("Qwen2ForCausalLM", "bits by only", **GROUPED),
            model("Qwen3ForCausalLM", "bits by only", head_dim=8, **GROUPED),
            model("Qwen3MoeForCausalLM", "bits by only", head_dim=8, **EXPERTS, **GROUPED),
            model("DeepseekV3ForCausalLM", "bits by only", **LATENT, **LANGUAGE),
            model("BloomForCausalLM", "bits", vocab_size=99, hidden_size=32, n_layer=2, n_head=4),
            model("Phi3ForCausalLM", "bits by only", pad_token_id=0, **GROUPED),
            model("Olmo2ForCausalLM", "bits by only", **GROUPED),
            *(drawn(name) for name in SPECIAL),
            drawn("PerceiverForMaskedLM", "bits"),
            drawn("MarianMTModel"),
            drawn("PegasusForConditionalGeneration"),
            drawn("FalconH1ForCausalLM", "distribution"),
            Case("transformers BertForMaskedLM, base", hugging_face("BertForMaskedLM"), "bits by only", large=True),
        ],
    ),
    Family(
        "transformers_gpt2",
        neighbour="transformers_base",
        cases=[
            small("gpt2", "bits by only"),
            model(
                "GPT2LMHeadModel",
                "bits by only",
                vocab_size=99,
                n_embd=32,
                n_layer=3,
                n_head=4,
                add_cross_attention=True,
                **ENDS,
            ),
            drawn("ImageGPTForCausalImageModeling"),
            drawn("DecisionTransformerModel"),
        ],
    ),
    Family(
        "transformers_t5",
        neighbour="transformers_base",
        cases=[
            small("t5", "bits by only"),
            model(
                "T5ForConditionalGeneration",
                "bits by only",
                **T5,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
            ),
            model("T5EncoderModel", "bits by only", **T5),
            model("T5ForSequenceClassification", "bits by only", **T5),
            drawn("SwitchTransformersForConditionalGeneration"),
        ],
    ),
    Family(
        "transformers_vit",
        neighbour="torchvision_vit",
        cases=[
            small("vit", "bits by only"),
            model("ViTForMaskedImageModeling", "bits by only", **PATCHES, encoder_stride=8),
        ],
    ),
    Family(
        "transformers_resnet",
        neighbour="torch_default",
        cases=[
            model("ResNetForImageClassification", "bits by only", **RESIDUAL, num_labels=10),
            model("ResNetModel", "bits by only", **RESIDUAL, layer_type="basic"),
            model("RegNetForImageClassification", "bits", **RESIDUAL, groups_width=8, num_labels=10),
        ],
    ),
    Family(
        "transformers_gemma",
        neighbour="transformers_base",
        cases=[
            model("GemmaForCausalLM", "bits", head_dim=8, pad_token_id=0, **GROUPED),
            small("gemma2", "bits"),
            model("Gemma3ForCausalLM", "bits", head_dim=8, pad_token_id=0, attention_bias=True, **GROUPED),
        ],
    ),
    Family(
        "transformers_swin",
        neighbour="torchvision_swin",
        cases=[
            small("swin", "bits by only"),
            model("Swinv2Model", "bits", **WINDOWS, use_absolute_embeddings=True),
            model(
                "SwinForMaskedImageModeling", "bits by only", **WINDOWS, encoder_stride=4, use_absolute_embeddings=True
            ),
        ],
    ),
    Family("transformers_beit", neighbour="torchvision_vit", cases=[small("beit", "bits")]),
    Family(
        "transformers_deit",
        neighbour="torch_default",
        cases=[
            model("DeiTForImageClassificationWithTeacher", "bits by only", **PATCHES),
            model("DeiTForMaskedImageModeling", "bits by only", **PATCHES, encoder_stride=8),
        ],
    ),
    Family(
        "transformers_dinov2",
        neighbour="torchvision_vit",
        cases=[model("Dinov2ForImageClassification", "bits by only", **PATCHES, mlp_ratio=2)],
    ),
    Family(
        "transformers_convnext",
        neighbour="torch_default",
        cases=[
            small("convnext", "bits by only"),
            model("ConvNextV2ForImageClassification", "bits by only", **STAGES),
        ],
    ),
    Family(
        "transformers_mae",
        neighbour="torch_default",
        cases=[
            model("ViTMAEModel", "bits", **PATCHES),
            model("ViTMAEForPreTraining", "bits by only", **PATCHES, **MAE_DECODER),
        ],
    ),
    Family(
        "transformers_clip",
        neighbour="transformers_base",
        cases=[
            small("clip", "bits by only"),
            model("CLIPForImageClassification", "bits by only", **CLIP),
            drawn("OwlViTModel"),
        ],
    ),
    Family(
        "transformers_siglip",
        neighbour="transformers_base",
        cases=[
            model("SiglipModel", "bits by only", text_config={**LANGUAGE, **ENDS}, vision_config=PATCHES),
            model(
                "SiglipForImageClassification", "bits by only", text_config={**LANGUAGE, **ENDS}, vision_config=PATCHES
            ),
        ],
    ),
    Family(
        "transformers_modernbert",
        neighbour="transformers_base",
        cases=[
            model("ModernBertForMaskedLM", "distribution", **LANGUAGE, pad_token_id=0),
            model("ModernBertForSequenceClassification", "bits by only", norm_bias=True, **LANGUAGE, pad_token_id=None),
        ],
    ),
    Family(
        "mamba",
        neighbour="transformers_base",
        cases=[
            drawn("MambaForCausalLM", "distribution"),
        ],
    ),
    Family(
        "mamba2",
        neighbour="transformers_base",
        cases=[
            drawn("Mamba2ForCausalLM", "distribution"),
        ],
    ),
    Family(
        "transformers_wav2vec2",
        neighbour="transformers_base",
        cases=[
            plain("Wav2Vec2ForCTC"),
            plain("WavLMForCTC"),
            plain("Wav2Vec2ForPreTraining"),
        ],
    ),
]
