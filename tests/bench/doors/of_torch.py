"""transformers, and what torch makes of it; LitGPT."""

from typing import Any

from support.dump_page import run_snippet

from .door import Door

TORCH = "torch==2.13.0 transformers==5.23.0"
LAYER = 3  # a local one


def built() -> Any:
    """Return transformers' model of the real weights in float32."""
    import ref
    from ref.capture.transformers import build_from

    return build_from(ref.load("270m"))


def of_logits(model: Any) -> Any:
    """Return what is exported or compiled: ids in, logits out."""
    import torch

    class OfLogits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.m = model.eval()

        def forward(self, ids):
            return self.m(input_ids=ids, use_cache=False).logits

    return OfLogits()


def transformers(ids: list[int], planted: bool) -> None:
    """Capture transformers; planted: every layer is rotated as global layers are."""
    model = built()
    if planted:
        rotary = model.model.rotary_emb
        rotary.sliding_attention_inv_freq = rotary.full_attention_inv_freq.clone()
    run_snippet("dump of transformers", model=model, ids=ids)


def exported(ids: list[int], planted: bool) -> None:
    """Capture an exported program; planted: a GELU of its graph is exact."""
    import torch

    export = torch.export.export

    def with_exact(*args, **named):
        program = export(*args, **named)
        gelus = [node for node in program.graph.nodes if node.target is torch.ops.aten.gelu.default]
        gelus[LAYER].kwargs = {"approximate": "none"}
        program.graph_module.recompile()
        return program

    try:
        torch.export.export = with_exact if planted else export
        run_snippet("dump of an exported program", model=of_logits(built()), ids=ids)
    finally:
        torch.export.export = export


def inductor(ids: list[int], planted: bool) -> None:
    """Capture a compiled model; planted: its scores are scaled by the width per head, not by the size of a head."""
    model = built()
    if planted:
        config = model.config
        model.model.layers[LAYER].self_attn.scaling = (config.hidden_size // config.num_attention_heads) ** -0.5
    run_snippet("dump of a compiled module", model=of_logits(model), ids=ids, table="transformers")


def litgpt(ids: list[int], planted: bool) -> None:
    """Capture LitGPT; planted: epsilon is what its own rows of Gemma 3 leave it at."""
    import ref
    from bench.field.of_litgpt import build

    loaded = ref.load("270m")
    if planted:
        config = loaded.params.config._replace(rms_eps=1e-5)
        loaded = loaded._replace(params=loaded.params._replace(config=config))
    run_snippet("dump of litgpt", model=build(loaded, "float32"), ids=ids)


DOORS = (
    Door(
        "transformers",
        ("transformers", "torch"),
        ("torch", "transformers"),
        TORCH,
        "dump of transformers",
        "local layers rotate with the base of global ones",
        "rope_global_base_everywhere",
        "text.layer.0.attn.q_rope",
        transformers,
    ),
    Door(
        "torch.export",
        ("torch", "transformers"),
        ("torch", "transformers"),
        TORCH,
        "dump of an exported program",
        "a GELU of the graph is the exact one",
        "gelu_erf",
        f"text.layer.{LAYER}.ffn.act",
        exported,
    ),
    Door(
        "inductor",
        ("torch", "transformers"),
        ("torch", "transformers"),
        TORCH,
        "dump of a compiled module",
        "scores scaled by the width of a head's share",
        "scale_of_width",
        f"text.layer.{LAYER}.attn.mix",
        inductor,
    ),
    Door(
        "litgpt",
        ("litgpt", "torch"),
        ("torch", "litgpt"),
        "torch==2.13.0 litgpt==0.5.13",
        "dump of litgpt",
        "epsilon 1e-5, as its own rows of Gemma 3 have it",
        "norm_eps_1e-5",
        "text.layer.0.attn.pre_norm",
        litgpt,
    ),
)
