"""google-deepmind/gemma's own numbers: captured whole, on the right axes, and made by the arithmetic that it says."""

import argparse
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import ref
from ref.capture.common import aligned, check_prompts, key_ranges
from ref.capture.gemma import capture, capture_weights
from ref.capture.gemma.listen import Listener
from ref.capture.gemma.model import INSTALL, config_of, import_gemma, model_of, params_of
from ref.commands import capture as command
from ref.config import SIZES
from ref.dump.write import axes_of, load_pass, read_dump
from ref.errors import BadInput
from ref.model.cache import empty_cache
from ref.model.taps import LAYER_TAPS, Recorder, tap_names
from ref.model.text import How, forward
from ref.ops import DEFINITION
from ref.ops.linear import widen
from ref.weights.synthetic import synthetic_params

Pair = tuple[Any, Any]  # a model and its parameters
TINY = SIZES["tiny"]
IDS = [5, 6, 7, 33, 96, 2, 45, 51, 8, 60, 1]  # longer than the window of 5; 0 would be a pad
HEADS = {"K 3": TINY, "K 1": TINY._replace(kv_heads=1), "N = K": TINY._replace(query_heads=3)}
needs_gemma = pytest.mark.skipif(
    not (find_spec("jax") and find_spec("gemma")), reason=f"needs gemma and jax: {INSTALL}"
)


@pytest.fixture(scope="module")
def parts():
    return import_gemma()


@pytest.fixture
def tiny(parts):
    return running(parts)


def running(parts, dtype="float32", config=TINY) -> Pair:
    """Return a model and its parameters."""
    return model_of(parts, config, dtype), params_of(parts, synthetic_params(config, 0, bfloat16=False), dtype)


def passes_of(folder):
    return [load_pass(folder, one) for one in read_dump(folder)["passes"]]


def only_pass(running: Pair, folder, ids=IDS, **more):
    [one] = passes_of(capture(*running, ids, folder, **more))
    return one


def plain(parts, running: Pair, ids=IDS):
    model, params = running
    return np.asarray(model.apply({"params": params}, parts.jax.numpy.array([ids])).logits)


def truth_of(config, folder, pads=0):
    """Run our definitions in float64 over the same passes."""
    params, passes, values = synthetic_params(config, 0, bfloat16=False), read_dump(folder)["passes"], []
    total = sum(len(one["ids"]) for one in passes)
    cache = empty_cache(config, np.array([pads]), total, np.float64) if len(passes) > 1 else None
    for one in passes:
        recorder, first = Recorder("*"), None if cache else [pads]
        _, cache = forward(params, [one["ids"]], How(ops=DEFINITION, dtype=np.float64, taps=recorder), cache, first)
        values.append(recorder.values)
    return values


def distance(value, wanted) -> float:
    return float(np.linalg.norm(value.astype(np.float64) - wanted) / np.linalg.norm(wanted))


def assert_near(one, wanted, first=0, pads=0):
    """Assert that all taps are ours but for float32's rounding, where the queries and the keys are no pads."""
    assert set(one) == set(wanted)
    for tap, value in one.items():
        assert value.shape == wanted[tap].shape, tap
        axes, cut = axes_of(tap).split(), []
        for axis in axes:
            before = max(pads - first, 0) if axis == "T" else pads if axis == "S" and ".cache." not in tap else 0
            cut.append(slice(before, None))
        got, true = value[tuple(cut)], wanted[tap][tuple(cut)]
        if got.dtype == np.int64:
            np.testing.assert_array_equal(got, true, err_msg=tap)
        else:
            assert value.dtype == np.float32, tap
            assert distance(got, true) < 3e-6, tap


# What is in a dump


@pytest.mark.parametrize("first", ["q", "k"])
def test_a_rotation_is_known_by_the_norm_before_it(monkeypatch, first):
    listener, heard = Listener(None, ["*"]), {}
    monkeypatch.setattr(listener, "_sow", lambda module, tap, value: heard.update({tap: value}))
    listener.normed = {
        name: np.full((1, 3, 3, 2), number) for number, name in enumerate("qk")
    }  # as many tokens as heads
    listener.attention = [object()]
    rotate = listener._rotation(lambda x: x + 10)
    for name in (first, "k" if first == "q" else "q"):
        rotate(listener.normed[name])
    for name, value in listener.normed.items():
        np.testing.assert_array_equal(heard[f"attn.{name}_rope"], value + 10)


@needs_gemma
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("tokens", [1, TINY.kv_heads, TINY.head_dim, TINY.query_heads])
def test_lengths_that_coincide_change_no_axis(tmp_path, tiny, tokens, steps):
    capture(*tiny, [*IDS, 9][:tokens], tmp_path / "dump", steps=steps)
    for one, true in zip(passes_of(tmp_path / "dump"), truth_of(TINY, tmp_path / "dump"), strict=True):
        for tap, value in one.items():
            assert value.shape == true[tap].shape, tap
            if tap.endswith(("visible", "positions")):
                np.testing.assert_array_equal(value, true[tap], err_msg=tap)
            else:
                assert distance(value, true[tap]) < 1e-5, tap


@needs_gemma
@pytest.mark.parametrize("heads", HEADS)
def test_every_tap_of_a_prefill_and_cached_steps_stands_where_ours_does(tmp_path, parts, heads):
    model = running(parts, config=HEADS[heads])
    capture(*model, IDS, tmp_path / "dump", steps=2, config=HEADS[heads])
    passes = passes_of(tmp_path / "dump")
    for one, true in zip(passes, truth_of(HEADS[heads], tmp_path / "dump"), strict=True):
        assert_near(one, true)
    rows = [(one["ids"], one["positions"], one["cached"]) for one in read_dump(tmp_path / "dump")["passes"]]
    chosen = [int(one["text.logits"][0, -1].argmax()) for one in passes]
    assert rows == [(IDS, list(range(11)), 0), ([chosen[0]], [11], 11), ([chosen[1]], [12], 12)]


@needs_gemma
@pytest.mark.parametrize("steps", [0, 2])
def test_pads_on_the_left_are_no_keys_and_have_no_position(tmp_path, tiny: Pair, steps):
    capture(*tiny, [0, 0, 0, *IDS[:8]], tmp_path / "dump", steps=steps, config=TINY)
    content, passes = read_dump(tmp_path / "dump"), passes_of(tmp_path / "dump")
    for row, one, true in zip(content["passes"], passes, truth_of(TINY, tmp_path / "dump", 3), strict=True):
        assert row["left_pads"] == 3
        assert row["positions"] == [max(-1, j - 3) for j in range(row["cached"], row["cached"] + len(row["ids"]))]
        # a local layer's first ring may begin with pads, whose keys nobody defines; here it does not
        assert_near(
            {tap: value for tap, value in one.items() if not global_cache(tap)},
            {tap: value for tap, value in true.items() if not global_cache(tap)},
            row["cached"],
            3,
        )
        for tap in filter(global_cache, one):
            rows = slice(0 if tap.endswith("positions") else 3, None)
            np.testing.assert_allclose(one[tap][:, rows], true[tap][:, rows], rtol=1e-4, atol=1e-5)


def global_cache(tap):
    return tap.startswith("text.layer.5.cache.")


@needs_gemma
def test_the_dump_says_what_was_run(tmp_path):
    capture_weights(
        "tiny", [IDS, IDS[:3]], tmp_path / "dump", dtype="bfloat16", attention="eager", taps=["text.logits"]
    )
    content = read_dump(tmp_path / "dump")
    assert content["producer"] == {"name": "gemma", "version": "3.3.0 (jax 0.9.0)"}
    assert content["names"] == "ref"
    assert content["model"]["config"] == json.loads(json.dumps(TINY._asdict()))
    assert content["model"]["weights"] == {"name": "tiny", "dtype": "bfloat16", "sha256": None}
    words = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), "bfloat16")
    assert content["policy"] == words | {"rope_angle": "float32", "attention_impl": "eager"}
    assert [one["ids"] for one in content["passes"]] == [IDS, IDS[:3]]
    assert [list(one["tensors"]) for one in content["passes"]] == [["text.logits"]] * 2
    assert {one["text.logits"].dtype for one in passes_of(tmp_path / "dump")} == {np.dtype(ml_dtypes.bfloat16)}


@needs_gemma
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "op by op"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_listening_changes_no_bit(tmp_path, parts, dtype, compiled):
    model = running(parts, dtype, TINY._replace(layers=2))
    if compiled:
        logits = plain(parts, model)
    else:
        with parts.jax.disable_jit():
            logits = plain(parts, model)
    value = only_pass(model, tmp_path / "dump", compiled=compiled)["text.logits"]
    assert (value.dtype, value.tobytes()) == (logits.dtype, logits.tobytes())


# The arithmetic that the module's text states


def r(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def stepwise_norm(x, weight, compiled):
    square = x * x if compiled else r(x * x)
    v = r(r(square.mean(-1, keepdims=True, dtype=np.float32)) + r(1e-6))
    return r(r(x * r(1 / np.sqrt(v))) * r(1 + weight))


def stepwise_softmax(s, seen, compiled):
    s = np.where(seen, s, r(-2.3819763e38))
    e = np.exp(r(s - s.max(-1, keepdims=True)))
    return r(r(e) / r((e if compiled else r(e)).sum(-1, keepdims=True, dtype=np.float32)))


def stepwise_gelu(x):
    inner = r(r(np.sqrt(2 / np.pi)) * r(x + r(r(0.044715) * r(r(x * x) * x))))
    return r(x * r(np.float32(0.5) * r(1 + r(np.tanh(inner)))))


def rotated(x, positions, config, layer):
    base, factor = config.rope(layer)
    steps = np.float32(base) ** (np.arange(config.head_dim // 2, dtype=np.float32) * np.float32(2 / config.head_dim))
    angle = positions.astype(np.float32)[:, None] / steps / np.float32(factor)
    (a, b), cos, sin = np.split(x, 2, -1), np.cos(angle)[:, None], np.sin(angle)[:, None]
    return r(np.concatenate([a * cos - b * sin, b * cos + a * sin], -1))


def assert_nearly(got, wanted, tap):
    """Assert one r() of a float32 that may be an ulp off and so fall to the other side, a few times in thousands."""
    assert (got == wanted).mean() > 0.99, tap
    assert distance(got, wanted) < 2e-4, tap


def assert_stepwise(one, params, compiled):
    """Assert that each value follows from the captured ones before it: to the bit, but for rotations and products."""
    c = params.config
    for i, layer in enumerate(params.layers):
        v = {name: one[f"text.layer.{i}.{name}"][0] for name in LAYER_TAPS if f"text.layer.{i}.{name}" in one}
        v = {name: value if value.dtype == np.int64 else value.astype(np.float32) for name, value in v.items()}
        places = np.arange(len(v["in"]))
        wanted = {
            "attn.pre_norm": stepwise_norm(v["in"], r(layer.pre_attn_norm), compiled),
            "attn.q_norm": stepwise_norm(v["attn.q"], r(layer.q_norm), compiled),
            "attn.k_norm": stepwise_norm(v["attn.k"], r(layer.k_norm), compiled),
            "attn.post_norm": stepwise_norm(v["attn.out"], r(layer.post_attn_norm), compiled),
            "mid": r(v["in"] + v["attn.post_norm"]),
            "ffn.pre_norm": stepwise_norm(v["mid"], r(layer.pre_ffn_norm), compiled),
            "ffn.act": r(stepwise_gelu(v["ffn.gate"]) * v["ffn.up"]),
            "ffn.post_norm": stepwise_norm(v["ffn.out"], r(layer.post_ffn_norm), compiled),
            "out": r(v["mid"] + v["ffn.post_norm"]),
        }
        start, stop = v["attn.visible"].T[:, :, None]
        wanted["attn.probs"] = stepwise_softmax(v["attn.scores"], (places >= start) & (places < stop), compiled)
        for name, value in wanted.items():
            np.testing.assert_array_equal(v[name], value, err_msg=f"layer {i} {name}")
        for name in "qk":  # powers, sines and cosines of NumPy are not XLA's to the ulp
            assert_nearly(
                v[f"attn.{name}_rope"], rotated(v[f"attn.{name}_norm"], places, c, i), f"layer {i} {name}_rope"
            )
        keys, values = (np.repeat(v[name], c.query_heads // c.kv_heads, axis=1) for name in ("attn.k_rope", "attn.v"))
        scores = np.einsum("tnh,snh->nts", r(v["attn.q_rope"] * r(c.query_scale)), keys)
        assert distance(v["attn.scores"], r(scores)) < 2e-4
        assert distance(v["attn.mix"], r(np.einsum("nts,snh->tnh", v["attn.probs"], values))) < 2e-4
        for tap, (source, weight) in {
            "attn.q": ("attn.pre_norm", layer.q), "attn.k": ("attn.pre_norm", layer.k),
            "attn.v": ("attn.pre_norm", layer.v), "attn.out": ("attn.mix", layer.attn_out),
            "ffn.gate": ("ffn.pre_norm", layer.gate), "ffn.up": ("ffn.pre_norm", layer.up),
            "ffn.out": ("ffn.act", layer.down),
        }.items():  # fmt: skip
            x = v[source].reshape(len(places), -1)
            assert_nearly(v[tap], r(x @ r(widen(weight)).T).reshape(v[tap].shape), tap)


@needs_gemma
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "op by op"])
def test_bfloat16_rounds_where_the_module_says(tmp_path, parts, compiled):
    params, model = synthetic_params(TINY, 0, bfloat16=False), running(parts, "bfloat16")
    one = only_pass(model, tmp_path / "dump", compiled=compiled)
    assert_stepwise(one, params, compiled)
    table, last = r(widen(params.embedding)), one["text.layer.6.out"][0].astype(np.float32)
    np.testing.assert_array_equal(one["text.embed"][0].astype(np.float32), r(table[IDS] * r(np.sqrt(TINY.width))))
    final = one["text.final_norm"][0].astype(np.float32)
    np.testing.assert_array_equal(final, stepwise_norm(last, r(params.final_norm), compiled))
    assert distance(one["text.logits"][0].astype(np.float32), r(final @ table.T)) < 2e-4
    # the two ways differ, and are told apart: without this the test would pass with either emulation
    with pytest.raises(AssertionError):
        assert_stepwise(one, params, not compiled)


EXACT = """
import sys
from pathlib import Path
from ref.capture.gemma import capture_weights
capture_weights("tiny", [[int(x) for x in sys.argv[2].split(",")]], Path(sys.argv[1]), dtype="bfloat16")
"""


@needs_gemma
def test_compiled_without_excess_precision_it_makes_every_rounding(tmp_path):
    flags = os.environ | {"XLA_FLAGS": "--xla_allow_excess_precision=false", "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-c", EXACT, str(tmp_path / "dump"), ",".join(map(str, IDS))]
    subprocess.run(run, check=True, capture_output=True, env=flags)
    [one] = passes_of(tmp_path / "dump")
    params = synthetic_params(TINY, 0, bfloat16=False)
    assert_stepwise(one, params, False)
    with pytest.raises(AssertionError):
        assert_stepwise(one, params, True)


# Models that their owners have patched


@needs_gemma
def test_a_mistake_planted_after_a_first_capture_is_heard(tmp_path, parts, tiny: Pair, monkeypatch):
    before = only_pass(tiny, tmp_path / "before")
    monkeypatch.setattr(parts.nn, "gelu", lambda x: parts.jax.nn.gelu(x, approximate=False))
    after = only_pass(tiny, tmp_path / "after")
    for tap in tap_names(TINY.layers)[: tap_names(TINY.layers).index("text.layer.0.ffn.act")]:
        np.testing.assert_array_equal(before[tap], after[tap])
    gate, up = after["text.layer.0.ffn.gate"], after["text.layer.0.ffn.up"]
    exact = np.asarray(parts.jax.nn.gelu(gate, approximate=False)) * up
    assert distance(after["text.layer.0.ffn.act"], exact) < 1e-6 < distance(before["text.layer.0.ffn.act"], exact)


@needs_gemma
def test_a_mask_that_was_changed_is_shown(tmp_path, parts, tiny: Pair, monkeypatch):
    make = parts.modules.create_sliding_mask

    def one_less(*args, sliding_window_size, **kwargs):
        return make(*args, sliding_window_size=sliding_window_size - 1, **kwargs)

    monkeypatch.setattr(parts.modules, "create_sliding_mask", one_less)
    values = only_pass(tiny, tmp_path / "dump")
    assert values["text.layer.0.attn.visible"].tolist() == [[[max(0, n - 3), n + 1] for n in range(len(IDS))]]
    assert values["text.layer.5.attn.visible"].tolist() == [[[0, n + 1] for n in range(len(IDS))]]


@needs_gemma
def test_a_replaced_rotation_is_heard(tmp_path, parts, tiny: Pair, monkeypatch):
    monkeypatch.setattr(parts.rotations, "apply_rope", lambda x, *args, **kwargs: 2 * x)
    one = only_pass(tiny, tmp_path / "dump")
    for tap in ("text.layer.3.attn.q", "text.layer.5.attn.k"):
        np.testing.assert_array_equal(one[f"{tap}_rope"], 2 * one[f"{tap}_norm"])


def state(parts):
    return parts.modules.jnp, parts.rotations.apply_rope, parts.modules.jnp.where


@needs_gemma
def test_everything_is_as_it_was_also_after_an_error(tmp_path, parts, tiny: Pair, monkeypatch):
    before, logits = state(parts), plain(parts, tiny)
    capture(*tiny, IDS, tmp_path / "dump", taps=["text.logits"])
    assert state(parts) == before

    def breaks(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(parts.nn, "gelu", breaks)
        with pytest.raises(ZeroDivisionError):
            capture(*tiny, IDS, tmp_path / "broken")
    assert state(parts) == before
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]
    np.testing.assert_array_equal(plain(parts, tiny), logits)


# Models by name, and the command


@needs_gemma
def test_their_configurations_of_the_released_sizes_are_ours(parts):
    for name in ("270m", "1b", "4b", "12b", "27b"):
        official = getattr(parts.sizes, f"Gemma3_{name.upper()}")
        assert config_of(parts, official.config) == SIZES[name]
    assert type(model_of(parts, SIZES["270m"], "float32")) is parts.sizes.Gemma3_270M
    assert type(model_of(parts, TINY, "float32")) is parts.transformer.Transformer
    made = config_of(parts, model_of(parts, TINY, "float32").config)
    assert made._replace(name="tiny") == TINY


@needs_gemma
@pytest.mark.weights
def test_the_270m_is_near_ours_in_float64_and_goes_on_as_transformers_does(tmp_path):
    from ref.golden_files.files import golden_root

    rows = json.loads((golden_root() / "real" / "270m" / "greedy.json").read_text())["prompts"]
    row = next(one for one in rows if one["prompt"] == "The capital of France is")
    kept = ["text.logits", "text.layer.*.out", "text.layer.17.attn.*"]
    capture_weights("270m", [row["prompt_ids"]], tmp_path / "dump", steps=2, taps=kept)
    passes = passes_of(tmp_path / "dump")
    assert [int(one["text.logits"][0, -1].argmax()) for one in passes] == row["ids"][:3]
    recorder = Recorder(*kept)
    forward(ref.load("270m").params, [row["prompt_ids"]], How(ops=DEFINITION, dtype=np.float64, taps=recorder))
    assert set(recorder.values) == set(passes[0])
    for tap, value in passes[0].items():
        if not tap.endswith("visible"):
            assert distance(value, recorder.values[tap]) < 1e-5, tap
    assert read_dump(tmp_path / "dump")["model"]["config"]["name"] == "270m"


def gemma3_ref(*argv):
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    args = parser.parse_args(["capture", *map(str, argv)])
    return args.run(args)


@needs_gemma
def test_the_command_writes_a_dump_and_counts_it(tmp_path, capsys):
    flags = ["--weights", "tiny", "--ids", ",".join(map(str, IDS)), "--taps", "text.*.attn.q", "--max-new-tokens", 1]
    assert gemma3_ref("gemma", *flags, "--json", "-o", tmp_path / "dump") == 0
    written = json.loads(capsys.readouterr().out)
    size = sum(file.stat().st_size for file in (tmp_path / "dump").glob("*.safetensors"))
    assert written == {"passes": 2, "tensors": 14, "bytes": size}


# Refusals


REFUSED = {
    "ids": ({"ids": []}, "token ids: wanted at least one prompt"),
    "id": ({"ids": [97]}, "token id: wanted 0 <= id < 97, got 97"),
    "inner pad": ({"ids": [1, 0, 2]}, "token ids: wanted 0, which is padding there, on the left only"),
    "right pad": ({"ids": [1, 2, 0]}, "token ids: wanted 0, which is padding there, on the left only"),
    "only pads": ({"ids": [0, 0]}, "token ids: wanted 0, which is padding there, on the left only"),
    "context": ({"ids": [1], "steps": 131_072}, "prompt and new tokens: wanted at most 131072, got 131073"),
    "taps": ({"taps": ["no.such"]}, "taps: wanted a pattern that matches a tap"),
    "cache": ({"taps": ["*.cache.k"]}, "taps: wanted a pattern that matches a tap"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_is_refused_in_one_line(case):
    given, message = REFUSED[case]
    given = {"ids": IDS, "steps": 0, "taps": ["*"]} | given
    ids = given["ids"]
    with pytest.raises(BadInput, match=message) as refusal:
        check_prompts([ids] if ids else [], TINY, given["steps"], given["taps"])
    assert len(str(refusal.value).splitlines()) == 1


def test_zero_is_a_token_to_others():
    check_prompts([[1, 0, 2, 0]], TINY, 0, ["*"], padded=False)


@needs_gemma
def test_a_refusal_leaves_nothing_and_touches_nothing(tmp_path, tiny: Pair):
    with pytest.raises(BadInput, match="token id"):
        capture(*tiny, [97], tmp_path / "dump")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").touch()
    with pytest.raises(BadInput, match="output folder: wanted an empty or new one"):
        capture(*tiny, IDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--attention", "sdpa"], "attention: wanted eager, the only one that google-deepmind/gemma has, got sdpa"),
        (["--dtype", "float64"], "dtype: wanted float32, bfloat16, float16, got float64"),
        (["--threads", "1"], "--threads: wanted a witness that takes it; gemma does not, got 1"),
    ],
)
def test_what_the_command_line_may_ask_for_is_checked(tmp_path, flags, message):
    with pytest.raises(BadInput, match=message):
        gemma3_ref("gemma", "--weights", "tiny", "--ids", "1,2", "-o", tmp_path / "dump", *flags)
    assert list(tmp_path.iterdir()) == []


def test_without_gemma_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(
        BadInput, match="google-deepmind/gemma: wanted pip install --no-deps -r golden/make/requ"
    ) as line:
        capture_weights("tiny", [IDS], tmp_path / "dump")
    assert len(str(line.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# What a mask lets be seen, and which keys ours has


def test_masks_become_ranges_where_they_are():
    seen = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    got = key_ranges(seen)
    assert (got.dtype, got.tolist()) == (np.int64, [[[0, 1], [0, 2], [1, 3], [0, 0]]])
    seen[2] = [1, 0, 1, 0]
    np.testing.assert_array_equal(key_ranges(seen), seen[None])


@pytest.mark.parametrize(
    ("layer", "before", "stop", "kept"), [(0, 0, 7, range(7)), (0, 7, 8, range(3, 8)), (5, 7, 8, range(8))]
)
def test_scores_are_cut_to_the_keys_that_ours_has(layer, before, stop, kept):
    scores = np.broadcast_to(np.arange(9), (1, 12, stop - before, 9))
    got = aligned(f"text.layer.{layer}.attn.scores", scores, TINY, before, stop)
    assert got[0, 0, 0].tolist() == list(kept)


@pytest.mark.parametrize(("layer", "stop", "kept"), [(0, 3, range(3)), (0, 8, range(3, 8)), (5, 8, range(8))])
def test_a_ring_holds_the_newest_keys(layer, stop, kept):
    positions = np.arange(9)[None]
    assert aligned(f"text.layer.{layer}.cache.positions", positions, TINY, 0, stop).tolist() == [list(kept)]
    q = np.zeros((1, 3, 12, 10))
    assert aligned(f"text.layer.{layer}.attn.q", q, TINY, 0, stop) is q
