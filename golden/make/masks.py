"""Make golden/masks/transformers-VERSION.json: the masks that this version of transformers gives its attention layers.

    python golden/make/masks.py                                              # the witness of the extra [witness]
    pip install --target OLD --no-deps transformers==4.57.1 huggingface_hub==0.36.0 tokenizers==0.22.1
    PYTHONPATH=OLD python golden/make/masks.py                               # before its PR 46850

The layouts are those of golden/gemma_jax/visibility.json, so that three implementations answer the same questions. A
whole toy Gemma3Model runs; what its layers receive is written down.
"""

import json
import platform
import sys
from pathlib import Path

import torch
import transformers
from transformers import Gemma3Config, Gemma3Model

GOLDEN = Path(__file__).resolve().parents[1]
SOFT = 50
COMPOSITION = {"4.57.1": "before_46850", "5.23.0": "current"}


def toy(window):
    """Build a model of one local and one global layer."""
    text = {
        "vocab_size": 64, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 4, "sliding_window": window, "max_position_embeddings": 64,
        "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    vision = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 4,
        "patch_size": 2, "vision_use_head": False, "model_type": "siglip_vision_model",
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=SOFT)
    config._attn_implementation = "eager"
    return Gemma3Model(config).eval()


def masks(tokens, window):
    """Return what each layer sees, [T][T] of 0 and 1: the local one, then the global one."""
    model, seen = toy(window), []
    for layer in model.language_model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda _module, _args, kwargs: seen.append(kwargs["attention_mask"][0, 0] == 0), with_kwargs=True
        )
    soft = torch.tensor([[letter == "I" for letter in tokens]])
    real = torch.tensor([[letter != "." for letter in tokens]])
    ids = torch.where(soft, SOFT, 1) * real
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=real.long(), token_type_ids=soft.long(), use_cache=False)
    return [["".join("01"[int(bit)] for bit in row) for row in mask] for mask in seen]


def main():
    """Ask this version about every layout and write the file."""
    sys.path.insert(0, str(GOLDEN.parent))
    from ref.golden_files.files import read_checked, schema

    rows = []
    for case in read_checked(GOLDEN / "gemma_jax" / "visibility.json", "gemma_jax")["cases"]:
        local, whole = masks(case["tokens"], case["window"])
        rows.append({"name": case["name"], "tokens": case["tokens"], "window": case["window"]})
        rows[-1] |= {"global": whole, "local": local}
    version = transformers.__version__
    content = {
        "format_version": 1,
        "composition": COMPOSITION[version],
        "about": "t text, I soft token, . padding. Row i of `global` and `local` has a 1 for each key that query i "
        "sees.",
        "source": {"kind": "witness", "name": "transformers", "version": version, "torch": torch.__version__},
        "generator": "golden/make/masks.py",
        "environment": {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
        },
        "licence": "Apache-2.0",
        "cases": rows,
    }
    import jsonschema

    jsonschema.validate(content, schema("masks"))
    path = GOLDEN / "masks" / f"transformers-{version}.json"
    new = path.with_suffix(".new")
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    head = json.dumps({key: value for key, value in content.items() if key != "cases"}, indent=1)[:-2]
    new.write_text(f'{head},\n "cases": [\n{lines}\n ]\n}}\n')
    assert json.loads(new.read_text()) == content
    new.replace(path)


if __name__ == "__main__":
    main()
