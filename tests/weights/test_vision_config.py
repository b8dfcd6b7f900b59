"""The vision tower's configuration as other projects write it; transformers is the witness of `config.json`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.checkpoints import mmproj_metadata
from support.hub_configs import EYE, SPARSE, sparse
from support.refusing import JSON, read_or_refused

from ref.config import SIGLIP, SIZES, VISION
from ref.errors import BadInput
from ref.weights.config_files import config_from_hugging_face
from ref.weights.export import config_to_hugging_face
from ref.weights.vision_config import (
    KEYS,
    check_vision,
    vision_from_gguf,
    vision_from_hugging_face,
    vision_to_hugging_face,
)


def read(content):
    return vision_from_hugging_face(content, config_from_hugging_face(content), "the file")


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


@pytest.mark.parametrize("size", SPARSE)
def test_the_sparse_config_of_the_hub_is_siglip(size):
    content = sparse(size)
    assert read(content) == SIGLIP == VISION[size]
    assert read(without(content, "mm_tokens_per_image", "image_token_index", "boi_token_index")) == SIGLIP
    assert read(content | {"image_token_id": 262_144, "boi_token_id": 255_999, "mm_tokens_per_image": None}) == SIGLIP
    full = {"num_channels": 3, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh", "attention_dropout": 0.0}
    assert read(content | {"vision_config": EYE | full | {"head_dim": None}}) == SIGLIP
    assert read(content | {"vision_config": EYE | {"vision_use_head": True}}) == SIGLIP


@pytest.mark.parametrize("size", VISION)
def test_what_we_write_reads_back_the_same(size):
    text = SIZES["tiny" if size == "tiny-long" else size]
    content = vision_to_hugging_face(VISION[size], text) | {"text_config": config_to_hugging_face(text)}
    content = json.loads(json.dumps(content))
    assert read(content) == VISION[size]
    assert config_from_hugging_face(content) == text


@pytest.mark.witness
def test_the_class_defaults_are_those_of_transformers():
    from transformers import Gemma3Config, SiglipVisionConfig

    made = SiglipVisionConfig().to_dict()
    assert {key: made[key] for key, _, _ in KEYS.values()} == {key: default for key, default, _ in KEYS.values()}
    assert made["hidden_act"] == "gelu_pytorch_tanh"
    made = Gemma3Config().to_dict()
    ids = (made["mm_tokens_per_image"], made["image_token_index"], made["boi_token_index"], made["eoi_token_index"])
    assert ids == (256, 262_144, 255_999, 256_000)


@pytest.mark.witness
@pytest.mark.parametrize("size", SPARSE)
def test_transformers_understands_a_sparse_config_as_we_do(size):
    from transformers import Gemma3Config

    made = Gemma3Config(**json.loads(json.dumps(sparse(size))))
    assert read(json.loads(json.dumps(made.to_dict()))) == SIGLIP


@pytest.mark.witness
@pytest.mark.parametrize("size", VISION)
def test_what_transformers_makes_of_our_config_reads_back_the_same(size):
    from transformers import Gemma3Config

    text = SIZES["tiny" if size == "tiny-long" else size]
    ours = vision_to_hugging_face(VISION[size], text) | {"text_config": config_to_hugging_face(text)}
    made = Gemma3Config(**json.loads(json.dumps(ours)))
    for written in (made.to_dict(), made.to_diff_dict()):
        content = json.loads(json.dumps(written))
        assert read(content) == VISION[size]
        assert config_from_hugging_face(content) == text


REFUSED = {
    "no object": ({"vision_config": [1]}, "vision_config: wanted an object, got list"),
    "another tower": ({"model_type": "clip_vision_model"}, "vision_config.model_type: wanted siglip_vision_model"),
    "activation": ({"hidden_act": "quick_gelu"}, "vision_config.hidden_act: wanted gelu_pytorch_tanh, got quick_gelu"),
    "default sizes": (dict.fromkeys(EYE), "soft tokens of an image: wanted the square of a divisor of 14, the patches"),
    "image": ({"image_size": 895}, "vision image: wanted a multiple of the patch, 14 pixels, got 895"),
    "image a list": ({"image_size": [896, 896]}, "vision image: wanted an integer, got .896, 896."),
    "patch 0": ({"patch_size": 0}, "vision patch: wanted a finite number > 0, got 0"),
    "heads": ({"num_attention_heads": 7}, "vision heads: wanted a divisor of the width 1152, got 7"),
    "channels": ({"num_channels": 4}, "vision channels: wanted 3: red, green, blue, got 4"),
    "layers": ({"num_hidden_layers": 10**9}, "vision layers: wanted at most 1000"),
    "no layers": ({"num_hidden_layers": 0}, "vision layers: wanted a finite number > 0, got 0"),
    "true": ({"num_hidden_layers": True}, "vision layers: wanted an integer, got True"),
    "float": ({"hidden_size": 1152.0}, "vision width: wanted an integer, got 1152.0"),
    "eps": ({"layer_norm_eps": 0}, "vision layer_norm_eps: wanted a finite number > 0, got 0"),
    "eps a word": ({"layer_norm_eps": "1e-6"}, "vision layer_norm_eps: wanted a number, got '1e-6'"),
    "400 digits": ({"image_size": 10**400}, "vision image: wanted a finite number > 0, got 1000"),
}
OUTSIDE = {
    "no square": ({"mm_tokens_per_image": 255}, "soft tokens of an image: wanted the square of .* 64, .*, got 255"),
    "no whole pool": ({"mm_tokens_per_image": 25}, "soft tokens of an image: wanted the square of a divisor of 64"),
    "too many": ({"mm_tokens_per_image": 128**2}, "soft tokens of an image: wanted the square of a divisor of 64"),
    "none": ({"mm_tokens_per_image": 0}, "vision soft_tokens: wanted a finite number > 0, got 0"),
    "image id": ({"image_token_index": 262_145}, "image_token_index: wanted 262144, got 262145"),
    "image id of 5.x": ({"image_token_id": 4}, "image_token_id: wanted 262144, got 4"),
    "start of image": ({"boi_token_index": 5}, "boi_token_index: wanted 255999, got 5"),
    "end of image": ({"eoi_token_index": 262_144}, "eoi_token_index: wanted 256000, got 262144"),
}


@pytest.mark.parametrize("name", [*REFUSED, *OUTSIDE])
def test_configs_of_another_tower_are_refused_by_the_name_of_the_setting(name):
    if name in OUTSIDE:
        settings, says = OUTSIDE[name]
        content = sparse("4b") | settings
    else:
        settings, says = REFUSED[name]
        inside = settings.get("vision_config", EYE | settings)
        content = sparse("4b") | {"vision_config": inside}
    with pytest.raises(BadInput, match=f"^the file: {says}") as refusal:
        read(content)
    assert len(str(refusal.value).splitlines()) == 1


SETTINGS = st.dictionaries(st.sampled_from([*[key for key, _, _ in KEYS.values()], "hidden_act"]), JSON, max_size=3)
IDS = ["mm_tokens_per_image", "image_token_index", "boi_token_id", "vision_config"]


@given(SETTINGS, st.dictionaries(st.sampled_from(IDS), JSON, max_size=1))
def test_any_json_is_read_or_refused_in_one_line(inside, outside):
    with read_or_refused():
        read(sparse("4b") | {"vision_config": EYE | inside} | outside)


def metadata_of(size, **changed):
    usual = {"general.architecture": "clip", "clip.projector_type": "gemma3"} | mmproj_metadata(VISION[size], 36)
    changed = {key.replace("__", "."): value for key, value in changed.items()}
    return {key: value for key, value in (usual | changed).items() if value is not None}


@pytest.mark.parametrize("size", ["4b", "tiny"])
def test_gguf_metadata_and_the_pool_that_it_leaves_out(size):
    metadata = metadata_of(size)
    assert "clip.vision.projector.scale_factor" not in metadata
    v = vision_from_gguf(metadata, 36)
    assert v == VISION[size]
    assert (v.layer_norm_eps, type(v.layer_norm_eps)) == (1e-6, float)  # stored as float32, 9.99999997e-07
    larger = vision_from_gguf(metadata_of(size, clip__vision__projector__scale_factor=2), 36)
    assert larger == v._replace(soft_tokens=4 * v.soft_tokens)
    flags = dict.fromkeys(["clip__use_gelu", "clip__has_vision_encoder", "clip__vision__projection_dim"])
    assert vision_from_gguf(metadata_of(size, **flags), 36) == v


@pytest.mark.parametrize("key", [key for _, _, key in KEYS.values() if key])
def test_a_missing_gguf_key_is_named(key):
    metadata = metadata_of("tiny")
    del metadata[f"clip.vision.{key}"]
    with pytest.raises(BadInput, match=f"^a.gguf: clip.vision.{key}: wanted a value, got none$"):
        vision_from_gguf(metadata, 36, "a.gguf")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"general__architecture": "gemma3"}, "general.architecture: wanted clip, as an mmproj file has, got gemma3"),
        ({"general__architecture": None}, "general.architecture: wanted clip, as an mmproj file has, got None"),
        ({"clip__projector_type": "gemma3nv"}, "clip.projector_type: wanted gemma3, got gemma3nv"),
        ({"clip__projector_type": None}, "clip.projector_type: wanted gemma3, got None"),
        ({"clip__vision__projection_dim": 5376}, "clip.vision.projection_dim: wanted 36, the width of the text model"),
        ({"clip__use_gelu": False}, "clip.use_gelu: wanted True, got False"),
        ({"clip__use_silu": True}, "clip.use_silu: wanted False, got True"),
        ({"clip__has_vision_encoder": False}, "clip.has_vision_encoder: wanted True, got False"),
        ({"clip__vision__image_mean": [0.48, 0.46, 0.41]}, r"clip.vision.image_mean: wanted \[0.5, 0.5, 0.5\], got"),
        ({"clip__vision__image_std": [0.5]}, r"clip.vision.image_std: wanted \[0.5, 0.5, 0.5\], got \[0.5\]"),
        ({"clip__vision__projector__scale_factor": 3}, "scale_factor: wanted a divisor of 8, the patches along a side"),
        ({"clip__vision__projector__scale_factor": 0}, "scale_factor: wanted a divisor of 8"),
        ({"clip__vision__projector__scale_factor": True}, "scale_factor: wanted a divisor of 8"),
        ({"clip__vision__attention__head_count": 4}, "vision heads: wanted a divisor of the width 26, got 4"),
        ({"clip__vision__attention__layer_norm_epsilon": float("nan")}, "vision layer_norm_eps: wanted a finite"),
        ({"clip__vision__block_count": 2**32 - 1}, "vision layers: wanted at most 1000"),
        ({"clip__vision__image_size": [40, 40]}, "vision image: wanted an integer"),
    ],
)
def test_gguf_metadata_of_another_tower_is_refused(changed, says):
    with pytest.raises(BadInput, match=f"^a.gguf: .*{says}"):
        vision_from_gguf(metadata_of("tiny", **changed), 36, "a.gguf")


KEPT = [*metadata_of("tiny"), "clip.vision.projector.scale_factor", "clip.use_silu"]


@given(st.sampled_from(KEPT), JSON)
def test_any_gguf_value_is_read_or_refused_in_one_line(key, value):
    with read_or_refused():
        vision_from_gguf(metadata_of("tiny") | {key: value}, 36)


@pytest.mark.parametrize("size", VISION)
def test_every_tower_of_the_table_is_possible(size):
    assert check_vision(VISION[size]) is VISION[size]
