"""More models to record, named by the rule that whatever shrinks to a moment's work is taken: those of registries.

A model's settings are those of a table of sizes that its configuration, or its constructor, has a name for. None is
downloaded. `larger` builds the same model wider and deeper.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from coverage_models import SMALL, torchvision
from third_party import named
from torch import nn

# ruff: noqa: SIM905  # forty lines of quotes less

# transformers ------------------------------------------------------------------------------------------------------

TRANSFORMERS = """
ASTModel AXK1Model AXK2Model AfmoeModel Aimv2Model Aimv2VisionModel AlbertModel AltCLIPModel Apertus1p5TextModel
ApertusModel ArceeModel AriaModel AriaTextModel AudioFlamingo3Encoder AudioFlamingo3Model AyaVisionModel
BailingHybridModel BambaModel BarkModel BartModel BeamModel BeitModel BertGenerationEncoder BertModel BigBirdModel
BigBirdPegasusModel BioGptModel BitModel BitNetModel BlenderbotModel BlenderbotSmallModel Blip2Model
Blip2QFormerModel BlipModel BloomModel BridgeTowerModel BrosModel CLIPModel CLIPSegModel CLIPTextModel
CLIPVisionModel CTRLModel CamembertModel CanaryModel CanineModel ChineseCLIPModel ChineseCLIPVisionModel ClapModel
ClvpModelForConditionalGeneration CodeGenModel Cohere2Model Cohere2MoeModel Cohere2VisionModel CohereAsrModel
CohereCompassVisionModel CohereModel ConvBertModel ConvNextModel ConvNextV2Model Cosmos3EdgeVisionModel
Cosmos3OmniModel CpmAntModel CvtModel CwmModel DINOv3ConvNextModel DINOv3ViTModel DPRQuestionEncoder DPTModel
Data2VecAudioModel Data2VecTextModel Data2VecVisionModel DebertaModel DebertaV2Model DecisionTransformerModel
DeepseekV2Model DeepseekV32Model DeepseekV3Model DeepseekV4Model DeepseekVLHybridModel DeepseekVLModel DeiTModel
Deimv2Model DepthProModel DiaModel DiffLlamaModel Dinov2Model Dinov2WithRegistersModel DistilBertModel DogeModel
DoryModel EdgeTamVideoModel ElectraModel EmbeddingGemma2Model EmbeddingGemma2TextModel EncodecModel Ernie4_5Model
Ernie4_5_MoeModel ErnieModel EsmModel EuroBertModel EvollaModel Exaone4Model Exaone4_5_Model Exaone4_5_VisionModel
ExaoneMoeModel FNetModel FSMTModel FalconH1Model FalconMambaModel FalconModel FastSpeech2ConformerModel
FastSpeech2ConformerWithHifiGan FlaubertModel FlavaModel FlexOlmoModel FlintModel FocalNetModel FunAsrNanoEncoder
FunnelModel FuyuModel GLPNModel GPT2Model GPTBigCodeModel GPTJModel GPTNeoXJapaneseModel GPTNeoXModel Gemma2Model
Gemma3Model Gemma3TextModel Gemma3nAudioEncoder Gemma4AudioModel Gemma4UnifiedModel Gemma4UnifiedTextModel
Gemma4VisionModel GemmaModel GitModel Glm46VModel Glm4Model Glm4MoeLiteModel Glm4MoeModel Glm4vModel Glm4vMoeModel
Glm4vMoeTextModel Glm4vMoeVisionModel Glm4vTextModel Glm4vVisionModel GlmAsrEncoder GlmAsrModel GlmImageModel
GlmImageTextModel GlmImageVQVAE GlmImageVisionModel GlmModel GlmMoeDsaModel GlmOcrModel GlmOcrTextModel
GlmOcrVisionModel GotOcr2Model GptOssModel GraniteDoclingTextModel GraniteDoclingVisionModel GraniteModel
GraniteMoeHybridModel GraniteMoeModel GraniteMoeSWAModel GraniteMoeSharedModel GraniteSWAModel GraniteSpeechModel
GraniteSpeechPlusModel GroupViTModel GteModel HGNetV2Backbone HYV3Model HYV4Model HYV4VLModel HYV4VLTextModel
HYV4VLVisionModel HeliumModel HiggsAudioV2ForConditionalGeneration HrmTextModel HubertModel HunYuanDenseV1Model
HunYuanMoEV1Model HunYuanVLModel HunYuanVLTextModel HunYuanVLVisionTransformer HyperCLOVAXModel
HyperCLOVAXVisionV2Model IBertModel IJepaModel Idefics2Model Idefics3Model Idefics3VisionTransformer IdeficsModel
ImageGPTModel Inkling2LoopTextModel Inkling2TextModel Inkling2VisionModel InklingModel InklingTextModel
InstructBlipModel InstructBlipVideoModel InternVLModel InternVLVisionModel Jais2Model JambaModel JetMoeModel
JinaEmbeddingsV3Model KimiLinearModel Kimi_K25Model Kimi_K25VisionModel Kolibri1Model Kosmos2Model Kosmos2_5Model
LEDModel LagunaModel LaraMiniModel LasrEncoder LasrForCTC LayoutLMModel LayoutLMv3Model LevitModel Lfm2Model
Lfm2VlModel Lfm3Model Lfm3VlModel Lfm3VlVisionModel LightGlueForKeypointMatching LightOnOcrModel LiltModel
Llama4ForConditionalGeneration Llama4TextModel LlamaModel LlavaModel LlavaNextModel LlavaNextVideoModel
LlavaOnevisionModel LongT5Model LongformerModel LxmertModel M2M100Model MBartModel MLCDVisionModel MPNetModel
MT5Model MambaModel MarianModel MarkupLMModel MegatronBertModel MellumModel MetaClip2Model
MgpstrForSceneTextRecognition MiMoV2FlashModel MimiEncoderModel MiniCPM3Model MiniCPMOcrModel MiniCPMOcrVisionModel
MiniCPMV4_6Model MiniCPMV4_7Model MiniCPMV4_7VisionModel MiniMaxM2Model MiniMaxM3VLModel MiniMaxM3VLTextModel
MiniMaxModel Ministral3Model MinistralModel Mistral3Model Mistral4Model MistralLarge4Model MistralLarge4TextModel
MistralModel MixtralModel MllamaModel MobileBertModel MobileNetV1Model MobileNetV2Model MobileViTModel
MobileViTV2Model ModernBertDecoderModel ModernBertModel ModernVBertModel Molmo2TextModel MoonshineModel MoshiModel
MossTranscribeDiarizeAudioModel MossTranscribeDiarizeModel MptModel MraModel MuseGlimmerAssistantModel
MuseGlimmerTextModel MuseGlimmerVisionModel MuseSparkVisionModel MusicFlamingoModel MusicgenMelodyModel
MusicgenModel MvpModel NanoChatModel Nemotron3DiarizationAudioModel Nemotron3_5AsrForRNNT
Nemotron3_5TranscribeAsrAudioModel NemotronAsrStreamingEncoder NemotronAsrStreamingForRNNT NemotronHModel
NemotronModel NeoMMEModel NeuCodecModel NllbMoeModel NomicBertModel NystromformerModel OPTModel Olmo2Model
Olmo3Model OlmoHybridModel OlmoModel OlmoeModel OmniASRAudioModel OmniASRCTCModel OmniASRModel OpenAIGPTModel
OpenAIPrivacyFilterModel Ovis2Model OwlViTModel Owlv2Model PI0Model PLBartModel PPDocLayoutV3Model
PPDocLayoutV4Model PPOCRV5MobileRecModel PPOCRV5ServerRecModel PPOCRV6SmallDetModel PPOCRV6SmallRecModel
PPOCRV6TinyRecModel PaddleOCRVLModel PaliGemmaModel ParakeetEncoder ParakeetForCTC ParakeetForRNNT ParakeetForTDT
PatchTSMixerModel PatchTSTModel PeAudioEncoder PeAudioModel PegasusModel PegasusXModel PersimmonModel Phi3Model
Phi4MultimodalModel PhiModel PhimoeModel PixioModel PixtralVisionModel PocketTTSAudioTokenizerEncoderModel
PoolFormerModel ProphetNetModel PvtModel PvtV2Model QianfanOCRModel QianfanOCRVisionModel Qwen2AudioEncoder
Qwen2AudioModel Qwen2Model Qwen2MoeModel Qwen2VLTextModel Qwen2_5OmniThinkerModel Qwen2_5_VLModel
Qwen2_5_VLTextModel Qwen2_5_VisionTransformerPretrainedModel Qwen3ASREncoder Qwen3ASRModel Qwen3Model Qwen3MoeModel
Qwen3NextModel Qwen3OmniMoeThinkerModel Qwen3VLModel Qwen3VLMoeModel Qwen3VLMoeTextModel Qwen3VLMoeVisionModel
Qwen3VLTextModel Qwen3VLVisionModel Qwen3_5Model Qwen3_5MoeModel Qwen3_5MoeTextModel Qwen3_5MoeVisionModel
Qwen3_5TextModel Qwen3_5VisionModel Qwen4ExpVisionModel RTDetrModel RTDetrV2Model RadioModel RecurrentGemmaModel
RegNetModel RemBertModel ResNetModel RfDetrModel RoCBertModel RoFormerModel RobertaModel RobertaPreLayerNormModel
RwkvModel SEWDModel SEWModel Sam2HieraDetModel Sam2Model Sam2VideoModel Sam2VisionModel Sam3LiteTextModel
Sam3LiteTextTextModel Sam3Model Sam3TrackerModel Sam3TrackerVideoModel Sam3ViTModel Sam3VideoModel Sam3VisionModel
SamHQModel SamHQVisionModel SamModel SamVisionModel Sapiens2Model SeedOssModel SegGptModel SegformerModel
Siglip2Model Siglip2VisionModel SiglipModel SiglipVisionModel SmolLM3Model SmolVLMModel SmolVLMVisionTransformer
SolarOpenModel Speech2TextModel SpeechT5Model SplinterModel StableLmModel Starcoder2Model Step3p7Model
SwiftFormerModel SwitchTransformersModel T5Gemma2Model T5GemmaModel T5Model TapasModel TextNetModel TimesFm2_5Model
TimesFmModel TimesformerModel Tipsv2Model Tipsv2TextModel Tipsv2VisionModel UMT5Model UVDocModel UdopModel
UltraVBertModel UltrabertModel UniSpeechModel UniSpeechSatModel UnivNetModel UnlimitedOcrModel VJEPA2Model
VaultGemmaModel ViTMAEModel ViTMSNModel ViTModel VideoLlama3Model VideoLlama3VisionModel VideoLlavaModel
VideoMAEModel VideoPrismClipModel VideoPrismVisionModel ViltModel VipLlavaModel VisualBertModel VitDetModel
VitsModel VivitModel VoxtralEncoder VoxtralModel VoxtralRealtimeEncoder VoxtralRealtimeModel Wav2Vec2BertModel
Wav2Vec2ConformerModel Wav2Vec2Model WavLMModel WhisperModel XCLIPModel XGLMModel XLMModel XLMRobertaModel
XLMRobertaXLModel XLNetModel Xcodec2Model XcodecModel XmodModel YolosModel YosoModel YoutuModel ZayaModel xLSTMModel
""".split()

WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embedding_size")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
LARGE: dict[str, Any] = {
    **SMALL,
    **dict.fromkeys(WIDTHS, 96),
    **dict.fromkeys(LAYERS, 3),
    **dict.fromkeys(("intermediate_size", "d_ff", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim"), 160),
    "head_dim": 24,
    "vocab_size": 131,
}


def transformers(name: str, sizes: Mapping[str, Any]) -> nn.Module:
    """A model of transformers whose configurations have these sizes, where they know one by its name."""
    kind = named(f"transformers:{name}")
    model: nn.Module = kind(kind.config_class(**_settings(kind.config_class, sizes)))
    return model


def _settings(config: Any, sizes: Mapping[str, Any]) -> dict[str, Any]:
    known = named("transformers.models.auto.configuration_auto:CONFIG_MAPPING")
    try:
        plain = config()
    except Exception:  # it has no defaults
        return dict(sizes)
    held = plain.to_dict()
    found = {
        key: value
        for key, value in sizes.items()
        if key in config.attribute_map or (key in held and not isinstance(held[key], list | tuple))
    }
    for alias, key in config.attribute_map.items():
        if alias in found and key in found:
            found.pop(alias)
    for key in getattr(config, "sub_configs", None) or {}:
        part = held.get(key)
        if isinstance(part, dict):
            kind = part.get("model_type")
            inner = known[kind] if kind in known else type(getattr(plain, key))
            found[key] = {**_settings(inner, sizes), **({"model_type": kind} if kind else {})}
    return found


# torchvision and timm: larger ones of the same structure -----------------------------------------------------------

QUANTIZABLE = """
quantized_googlenet quantized_inception_v3 quantized_mobilenet_v2 quantized_mobilenet_v3_large quantized_resnet18
quantized_resnet50 quantized_shufflenet_v2_x0_5
""".split()

PAIRS = {
    "torchvision": """
densenet121:densenet169 efficientnet_b0:efficientnet_b1 mnasnet0_5:mnasnet0_75 regnet_x_400mf:regnet_x_800mf
regnet_y_400mf:regnet_y_800mf resnet18:resnet34 shufflenet_v2_x0_5:shufflenet_v2_x1_0 swin_t:swin_s
swin_v2_t:swin_v2_s convnext_tiny:convnext_small fcn_resnet50:fcn_resnet101 deeplabv3_resnet50:deeplabv3_resnet101
efficientnet_v2_s:efficientnet_v2_m quantized_resnet18:quantized_resnet50
""".split(),
    "timm": """
vit_tiny_patch16_224:vit_small_patch16_224 deit_tiny_patch16_224:deit_small_patch16_224 cait_xxs24_224:cait_xxs36_224
coat_tiny:coat_mini davit_tiny:davit_small densenet121:densenet169 edgenext_xx_small:edgenext_x_small
efficientformer_l1:efficientformer_l3 efficientformerv2_s0:efficientformerv2_s1 efficientvit_b0:efficientvit_b1
efficientvit_m0:efficientvit_m1 fasternet_t0:fasternet_t1 fastvit_t8:fastvit_t12
focalnet_tiny_srf:focalnet_small_srf gcvit_xxtiny:gcvit_xtiny ghostnet_050:ghostnet_100 hgnetv2_b0:hgnetv2_b1
hiera_tiny_224:hiera_small_224 levit_128s:levit_192 mobilenetv3_small_050:mobilenetv3_small_075
mobilevit_xxs:mobilevit_xs mvitv2_tiny:mvitv2_small jx_nest_tiny:jx_nest_small pit_ti_224:pit_xs_224
poolformerv2_s12:poolformerv2_s24 pvt_v2_b0:pvt_v2_b1 rdnet_tiny:rdnet_small regnetx_002:regnetx_004
repghostnet_050:repghostnet_080 repvit_m1:repvit_m2 resnetv2_18:resnetv2_34 rexnet_100:rexnet_130
sequencer2d_s:sequencer2d_m shvit_s1:shvit_s2 starnet_s050:starnet_s100 swiftformer_xs:swiftformer_s
swin_tiny_patch4_window7_224:swin_small_patch4_window7_224 swinv2_cr_tiny_224:swinv2_cr_small_224
tiny_vit_5m_224:tiny_vit_11m_224 twins_svt_small:twins_svt_base vgg11:vgg13 volo_d1_224:volo_d2_224
xcit_nano_12_p8_224:xcit_tiny_12_p8_224
""".split(),
}

# By their constructors' names of sizes -----------------------------------------------------------------------------

SIZES: dict[str, dict[str, Any]] = {
    "diffusers": {
        "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 32, "pooled_projection_dim": 32, "caption_channels": 32, "cross_attention_dim": 32,
        "num_refiner_layers": 1, "hidden_size": 32, "text_dim": 32, "freq_dim": 32, "ffn_dim": 64,
        "caption_projection_dim": 32, "in_channels": 4, "out_channels": 4, "depth": 1, "num_kv_heads": 2,
        "num_key_value_heads": 2, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "text_embed_dim": 32,
        "time_embed_dim": 32, "condition_dim": 32, "sample_size": 8, "patch_size": 2, "block_out_channels": (16, 32),
        "layers_per_block": 1, "norm_num_groups": 4, "axes_dims_rope": (4, 4, 8), "axes_dim": (4, 4, 8),
        "cap_feat_dim": 32, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2,
        "num_double_layers": 1, "mlp_ratio": 2.0, "num_experts": 2, "max_text_seq_length": 8, "text_seq_len": 8,
        "text_len": 8, "cross_attention_hidden_dim": 32, "channels": [16, 32],
    },
    "vit-pytorch": {
        "image_size": 32, "patch_size": 8, "num_classes": 10, "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 96,
        "channels": 3, "frames": 4, "image_patch_size": 8, "frame_patch_size": 2, "spatial_depth": 1,
        "temporal_depth": 1, "seq_len": 32,
    },
    "torch_geometric": {
        "in_channels": 16, "hidden_channels": 32, "out_channels": 4, "num_layers": 2, "edge_dim": 8,
        "num_relations": 3, "dim": 2, "kernel_size": 3, "depth": 2, "num_timesteps": 2, "num_nodes": 20,
        "embedding_dim": 16, "num_blocks": 1, "num_bilinear": 4, "num_spherical": 3, "num_radial": 4,
        "int_emb_size": 8, "basis_emb_size": 4, "out_emb_channels": 16, "channels": 16, "alpha": 0.5, "K": 3,
    },
    "monai": {
        "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (8, 16), "strides": (2,),
        "num_classes": 3, "img_size": (32, 32), "patch_size": (8, 8), "hidden_size": 48, "mlp_dim": 64,
        "num_layers": 2, "num_heads": 4, "in_shape": (1, 16, 16), "classes": 2, "out_shape": (1,),
        "init_filters": 8, "num_channels": 8, "latent_size": 4, "backbone": "resnet18", "latent_shape": (4, 4, 4),
        "start_shape": (4, 4, 4), "kernel_size": 3, "num_channel_initial": 4, "depth": 2, "extract_levels": (0, 1),
    },
}  # fmt: skip
"""What a constructor gets of these, where it has an argument of the name."""

ALWAYS = {"torch_geometric": ("num_layers",)}
"""Of constructors that get only what they have no default for: what they get all the same."""

MODULES = {"diffusers": "diffusers", "vit-pytorch": "vit_pytorch", "torch_geometric": "torch_geometric.nn",
           "monai": "monai.networks.nets"}  # fmt: skip

SIZED = {
    "diffusers": """
AceStepTransformer1DModel AllegroTransformer3DModel AsymmetricAutoencoderKL AuraFlowTransformer2DModel AutoencoderKL
AutoencoderTiny BriaFibo2Transformer2DModel BriaFiboTransformer2DModel BriaTransformer2DModel
CogVideoXTransformer3DModel CogView3PlusTransformer2DModel CogView4Transformer2DModel ConsisIDTransformer3DModel
DiTTransformer2DModel DreamLiteTransformer2DModel EasyAnimateTransformer3DModel ErnieImageTransformer2DModel
Flux2Transformer2DModel Flux3Transformer2DModel FluxControlNetModel FluxTransformer2DModel
GlmImageTransformer2DModel HunyuanDiT2DControlNetModel HunyuanDiT2DModel HunyuanVideo15Transformer3DModel
HunyuanVideoFramepackTransformer3DModel HunyuanVideoTransformer3DModel Ideogram4Transformer2DModel
LTXVideoTransformer3DModel LatteTransformer3DModel LongCatImageTransformer2DModel Lumina2Transformer2DModel
LuminaNextDiT2DModel MiniMaxMusic3RVQDepthDecoder MiniMaxMusic3Transformer1DModel MochiTransformer3DModel
MotifVideoTransformer3DModel NucleusMoEImageTransformer2DModel OvisImageTransformer2DModel PixArtTransformer2DModel
QwenImageControlNetModel QwenImageTransformer2DModel SD3ControlNetModel SD3Transformer2DModel SanaControlNetModel
SanaTransformer2DModel StableAudioDiTModel T2IAdapter T5FilmDecoder TransformerTemporalModel UniDiffuserModel
VQModel
""".split(),
    "vit-pytorch": """
attn_residual_with_dca_simple_vit:SimpleViT crossformer:CrossFormer cvt:CvT deepvit:DeepViT jet_vit:JetViT
local_vit:LocalViT looped_vit:LoopedViT na_vit:NaViT na_vit_nested_tensor:NaViT normalized_vit:nViT parallel_vit:ViT
regionvit:RegionViT rvt:RvT simple_flash_attn_vit:SimpleViT simple_flash_attn_vit_3d:SimpleViT
simple_uvit:SimpleUViT simple_vit:SimpleViT simple_vit_1d:SimpleViT simple_vit_3d:SimpleViT
simple_vit_attn_residual:SimpleViTAttnResidual simple_vit_orthog_residual_update:SimpleViT
simple_vit_with_patch_dropout:SimpleViT simple_vit_with_qk_norm:SimpleViT simple_vit_with_register_tokens:SimpleViT
simple_vit_with_relative_proj_pos_bias:SimpleViT simple_vit_with_sparse_gating:SimpleViTWithSparseGating
simple_vit_with_specialized_cls:SimpleViT simple_vit_with_value_residual:SimpleViT t2t:T2TViT vit:ViT vit_1d:ViT
vit_3d:ViT vit_5:ViT vit_detpool:ViTDetPool vit_for_small_dataset:ViT vit_with_decorr:ViT vit_with_keel_post_ln:ViT
vit_with_patch_dropout:ViT vit_with_patch_merger:ViT vivit:ViViT vivit_with_moss:ViViT
""".split(),
    "torch_geometric": """
GCN GraphSAGE GIN GAT EdgeCNN SignedGCN GraphUNet SchNet DimeNet DimeNetPlusPlus GPSE AttentiveFP RECT_L LINKX
LightGCN PMLP NeuralFingerprint ViSNet LPFormer SGFormer Polynormer ARLinkPredictor GCNConv ChebConv SAGEConv
GraphConv GatedGraphConv ResGatedGraphConv GATConv GATv2Conv TransformerConv AGNNConv TAGConv ARMAConv SGConv
SSGConv MFConv RGCNConv FastRGCNConv RGATConv DNAConv GMMConv CGConv FeaStConv PointTransformerConv HypergraphConv
LEConv ClusterGCNConv GENConv GCN2Conv FiLMConv SuperGATConv FAConv PDNConv GeneralConv AntiSymmetricConv MixHopConv
MeshCNNConv
""".split(),
    "monai": """
AHNet BasicUNetPlusPlus Classifier Critic DAF3D Discriminator FlexibleUNet Generator HighResNet HoVerNet LocalNet
MaskedAutoEncoderViT MedNeXt Quicknat Regressor SegResNetDS ViT
""".split(),
}


def sized(library: str, name: str) -> nn.Module:
    """A model of a library with the sizes that its constructor has arguments for."""
    module, _, cls = name.rpartition(":")
    kind = named(f"{MODULES[library]}{'.' if module else ''}{module}:{cls}")
    known = inspect.signature(kind.__init__).parameters
    always = ALWAYS.get(library)
    given = {
        key: value
        for key, value in SIZES[library].items()
        if key in known and (always is None or key in always or known[key].default is inspect.Parameter.empty)
    }
    model: nn.Module = kind(**given)
    return model


def more() -> Iterator[tuple[str, str, Any, Any]]:
    """Library, name, and constructors of all of them; the last one of another size, or None."""
    for name in TRANSFORMERS:
        yield "transformers", name, partial(transformers, name, SMALL), partial(transformers, name, LARGE)
    for name in QUANTIZABLE:
        yield "torchvision", name, partial(torchvision, name), None
    for library, names in SIZED.items():
        for name in names:
            yield library, name, partial(sized, library, name), None
