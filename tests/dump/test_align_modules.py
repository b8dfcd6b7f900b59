"""Tables of foreign names end at registered taps; what transformers' own modules see is our taps."""

import numpy as np
import pytest
from support.aligned import CONFIG, IDS, opened
from support.checkpoints import save_seeing, save_tiny
from support.tiny import TINY

from ref.config import TINY_VISION
from ref.dump.aliases import TABLES
from ref.dump.open import arrays_as_dump
from ref.golden_files.sampled import made_pixels, relative_l2
from ref.model.multimodal import Images, soft_token_id
from ref.model.taps import Recorder, tap_row
from ref.model.text import How


@pytest.mark.parametrize("names", TABLES)
def test_every_line_of_a_table_ends_at_a_registered_tap_in_its_axes(names):
    for foreign, rows in TABLES[names].rows.items():
        for row in rows:
            tap = row.tap.replace("{i}", "3").replace("{last}", "6")
            if not tap:
                assert row.why
                continue
            if tap.startswith("hidden state"):
                continue
            registered = tap_row(tap)
            assert registered, (foreign, tap)
            right = row.how.partition(" -> ")[2].replace("(i j)", registered.axes.lower()[2]).replace("(k g)", "n")
            assert right in ("", registered.axes.lower()), (foreign, row)


# what transformers' modules see


def listened(model, run):
    """Run a transformers model and return what goes into and comes out of each of its modules, under their paths."""
    import torch

    heard, handles = {}, []

    def hook(name):
        def listen(_module, args, kwargs, out):
            given = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
            heard.update({f"{name}.input": given[0]} if given and given[0].is_floating_point() else {})
            outs = (
                {name: out} if isinstance(out, torch.Tensor) else dict(enumerate(out)) if isinstance(out, tuple) else {}
            )
            heard.update({key if key == name else f"{name}.{key}": one for key, one in outs.items()})

        return listen

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(hook(name), with_kwargs=True))
    with torch.inference_mode():
        out = run(model)
    for handle in handles:
        handle.remove()
    return {name: one.numpy() for name, one in heard.items() if isinstance(one, torch.Tensor)}, out


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    from transformers import Gemma3ForCausalLM

    folder = tmp_path_factory.mktemp("text") / "tiny"
    save_tiny(folder, bfloat16=False)
    return Gemma3ForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager").eval()


@pytest.mark.witness
def test_modules_of_transformers_are_our_taps(text_model, taps):
    import torch

    asked = {"output_hidden_states": True, "output_attentions": True}
    heard, out = listened(text_model, lambda model: model(torch.tensor([IDS]), **asked))
    for name in ("hidden_states", "attentions"):
        heard |= {f"{name}.{i}": value.numpy() for i, value in enumerate(out[name])}
    modules = {name: one for name, one in heard.items() if not name.startswith(("hidden_states", "attentions"))}
    values, why = opened(modules, "transformers")
    hidden = {"cache", "attn.visible", "attn.scores", "attn.q_rope", "attn.k_rope"}  # no module has them
    expected = {tap for tap in taps if not any(name in tap for name in hidden)}
    assert set(values) == expected
    for tap, value in values.items():
        assert value.shape == taps[tap].shape, tap
        assert relative_l2(value, taps[tap]) < 1e-4, tap
    assert why["model.layers.2.mlp"] == "the same tap as model.layers.2.mlp.down_proj: text.layer.2.ffn.out"
    assert {name: reason for name, reason in why.items() if reason.startswith("no such name")} == {}
    states, _ = opened({name: heard[name] for name in heard if name.startswith("hidden_states")}, "transformers")
    assert list(states) == [*(f"text.layer.{i}.in" for i in range(7)), "text.final_norm"]
    for tap, value in states.items():
        assert relative_l2(value, taps[tap]) < 1e-4, tap
    states, _ = opened({name: heard[name] for name in heard if name.startswith("attentions")}, "transformers")
    for tap, value in states.items():
        assert tap.endswith("attn.probs")
        assert relative_l2(value, taps[tap]) < 1e-4, tap


@pytest.mark.witness
def test_modules_of_the_vision_tower_are_our_taps(tmp_path):
    import torch
    from transformers import Gemma3ForConditionalGeneration

    from ref.model.multimodal import forward_images

    text, vision = save_seeing(tmp_path / "seeing", bfloat16=False)
    soft, pixels = soft_token_id(TINY), made_pixels(2, TINY_VISION.image)
    ids = [2, 7, 90, *[soft] * 4, 91, 45, 90, *[soft] * 4, 91, 8]
    model = Gemma3ForConditionalGeneration.from_pretrained(tmp_path / "seeing", dtype="float32").eval()
    given = {"pixel_values": torch.from_numpy(pixels), "token_type_ids": (torch.tensor([ids]) == soft).long()}
    heard, _ = listened(model, lambda model: model(input_ids=torch.tensor([ids]), **given))
    dump = arrays_as_dump(heard | {"pixel_values": pixels}, ids, "transformers", config=CONFIG)
    [one] = dump.passes
    assert one.image_blocks == [[3, 7], [10, 14]]
    np.testing.assert_array_equal(one.pixels, pixels)
    recorder = Recorder("*")
    forward_images(text, Images(vision, pixels), np.array([ids]), How(taps=recorder))
    seen = {tap for tap in recorder.values if tap.startswith(("vision.", "model."))}
    assert set(one.tensors) >= {tap for tap in seen if not tap.endswith(("attn.scores", "attn.probs"))}
    assert {one["name"]: one["why"] for one in dump.unaligned if one["why"].startswith("no such name")} == {}
    for tap, stored in one.tensors.items():
        if tap != "text.embed":  # what is looked up where features go is nobody's business
            assert relative_l2(stored.load(), recorder.values[tap]) < 1e-4, tap


@pytest.mark.witness
def test_fused_projections_are_cut_into_their_parts(text_model, taps):
    import torch

    heard, _ = listened(text_model, lambda model: model(torch.tensor([IDS])))
    at = "model.layers.3."
    joined = np.concatenate([heard[f"{at}self_attn.{name}_proj"] for name in "qkv"], axis=-1)
    both = np.concatenate([heard[f"{at}mlp.{name}_proj"] for name in ("gate", "up")], axis=-1)
    fused = {f"{at}self_attn.qkv_proj": joined, f"{at}mlp.gate_up_proj": both[0]}
    values, why = opened(fused, "transformers")
    assert (set(values), why) == (
        {f"text.layer.3.{tap}" for tap in ("attn.q", "attn.k", "attn.v", "ffn.gate", "ffn.up")},
        {},
    )
    for tap, value in values.items():
        assert relative_l2(value, taps[tap]) < 1e-4, tap
