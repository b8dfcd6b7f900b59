"""mlx-lm's own numbers: heard by classes that stand in while a capture runs, and judged."""

import warnings

import numpy as np
import pytest
from support.captures import gemma3_ref, passes_of
from support.mlx_models import IDS, needs_mlx, needs_mlx_vlm, of_mlx_vlm, scale_in_float32, wide

import ref
from ref.capture.common import NewerVersion
from ref.capture.mlx import capture, capture_weights
from ref.capture.mlx.model import build_from
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.model.taps import tap_names

LACKS = ("attn.visible", "attn.scores", "attn.probs")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return wide(tmp_path_factory.mktemp("weights") / "wide")


@pytest.fixture
def model(loaded):
    return build_from(loaded)


def judged(folder, loaded):
    return ref.compare(folder, weights=loaded.name)


@needs_mlx
def test_its_scale_is_named_and_mended_it_matches(model, loaded, tmp_path):
    report = judged(capture(model, IDS, tmp_path / "d"), loaded)
    assert (report["verdict"], report["first"]["tap"]) == ("bug", "text.embed")
    assert report["diagnosis"][0]["mutant"] == "embed_scale_bfloat16"
    with scale_in_float32():
        folder = capture(model, [IDS, IDS[::-1]], tmp_path / "e", steps=2)
    assert judged(folder, loaded)["verdict"] == "match"
    assert [(one["ids"], one["cached"]) for one in read_dump(folder)["passes"]][::3] == [(IDS, 0), (IDS[::-1], 0)]
    wanted = {tap for tap in tap_names(loaded.params.config.layers) if not tap.endswith(LACKS)}
    assert {tap for tap in passes_of(folder)[0]} == wanted


@needs_mlx
def test_a_planted_mistake_is_named_where_it_is(model, loaded, tmp_path):
    import mlx.nn as nn

    mlp = model.model.layers[3].mlp

    class Exact(type(mlp)):
        def __call__(self, x):
            return self.down_proj(nn.gelu(self.gate_proj(x)) * self.up_proj(x))

    mlp.__class__ = Exact
    with scale_in_float32():
        report = judged(capture(model, IDS, tmp_path / "d"), loaded)
    assert (report["first"]["tap"], report["diagnosis"][0]["mutant"]) == ("text.layer.3.ffn.act", "gelu_erf")
    assert type(mlp) is Exact


@needs_mlx
def test_values_are_its_own_and_the_model_is_afterwards_what_it_was(model, tmp_path):
    import mlx.core as mx

    kinds = [type(module) for _, module in model.named_modules()]
    before = np.array(model(mx.array([IDS])))
    [own] = passes_of(capture(model, IDS, tmp_path / "d"))
    np.testing.assert_array_equal(own["text.logits"], before)
    x = own["text.layer.0.attn.pre_norm"]
    np.testing.assert_array_equal(
        own["text.layer.0.attn.q"].reshape(1, len(IDS), -1), np.array(model.layers[0].self_attn.q_proj(mx.array(x)))
    )
    with pytest.raises(BadInput, match=r"no tap is called"):
        capture(model, IDS, tmp_path / "e", taps=["text.nothing"])
    assert [type(module) for _, module in model.named_modules()] == kinds
    np.testing.assert_array_equal(np.array(model(mx.array([IDS]))), before)


@needs_mlx
def test_the_command_runs_it_and_says_what_was_not_heard(tmp_path, capsys):
    import json

    assert (
        gemma3_ref("mlx", "--weights", "tiny", "--ids", "2,33,5", "--dtype", "bfloat16", "--json", "-o", tmp_path / "d")
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert {one["what"] for one in said["not_heard"]} == {f"text.layer.*.{one}" for one in LACKS}
    assert read_dump(tmp_path / "d")["producer"]["name"] == "mlx"
    assert ref.compare(tmp_path / "d")["verdict"] == "match"


@needs_mlx
def test_bad_input_is_one_line(model, tmp_path):
    with pytest.raises(BadInput, match="wanted a loaded Gemma 3 of mlx-lm or mlx-vlm, got Embedding"):
        capture(model.model.embed_tokens, IDS, tmp_path / "d")
    with pytest.raises(BadInput, match="wanted 0 to 96, got 97"):
        capture(model, [97], tmp_path / "d")
    with pytest.raises(BadInput, match="wanted 0 or more, 64 tokens at most, got 60"):
        capture(model, IDS, tmp_path / "d", steps=60)
    with pytest.raises(BadInput, match="wanted one, or several of one length, got 2 of several"):
        capture_weights("tiny", [[2, 3], [2]], tmp_path / "d")
    with pytest.raises(BadInput, match="dtype: wanted float32, bfloat16, float16, got float64"):
        capture_weights("tiny", [[2, 3]], tmp_path / "d", dtype="float64")


@needs_mlx
def test_a_newer_version_is_a_warning(model, tmp_path, monkeypatch):
    from ref.capture import adapters

    old = adapters.ADAPTERS["mlx"]._replace(tried=(("mlx", ("0.1.0", "0.9.9")),))
    monkeypatch.setitem(adapters.ADAPTERS, "mlx", old)
    with pytest.warns(NewerVersion, match=r"capture: mlx 0\.\d+\.\d+ is newer than 0\.9\.9, the newest that was tried"):
        capture(model, IDS, tmp_path / "d")


@needs_mlx_vlm
def test_the_language_model_of_mlx_vlm_matches(loaded, tmp_path):
    model = of_mlx_vlm(loaded)
    with warnings.catch_warnings(), scale_in_float32("mlx_vlm.models.gemma3.language"):
        warnings.simplefilter("ignore")
        folder = capture(model, IDS, tmp_path / "d", steps=1)
    assert judged(folder, loaded)["verdict"] == "match"
