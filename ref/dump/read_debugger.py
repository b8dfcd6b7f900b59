"""Read what transformers' `model_addition_debugger_context` writes: a tree of modules, as JSON, and their tensors.

    with model_addition_debugger_context(model, debug_path="d", do_prune_layers=False, use_repr=False):
        model(input_ids)                        # writes d/Gemma3ForCausalLM_debug_tree_FULL_TENSORS.json

With `use_repr=False` each input and output is a safetensors file beside the JSON; else it is printed to five digits,
which is too few to be judged. `name.input` is what went into a module, the name alone what came out of it.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ref.dump.align import Raw
from ref.dump.read_arrays import Files, judged_dtype
from ref.dump.read_folder import inside
from ref.errors import BadInput, wanted
from ref.untrusted import integer_of, map_file, parse_json, quoted

TENSOR = {"shape", "dtype", "value"}
MAIN_INPUTS = ("hidden_states", "inputs_embeds", "pixel_values", "input", "x")
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "pixel_values")
PRINTED = "printed to five digits: run the debugger with use_repr=False"
MOST_NODES = 1_000_000


def read_debugger(path: Path) -> tuple[dict[str, Raw], list[dict[str, str]]]:
    """List the tensors of one forward pass.

    Args:
        path: the JSON, `..._FULL_TENSORS.json`.

    Returns:
        (name in the table `transformers` -> tensor, what has no full values: {"name", "why"}). The model's own inputs
        are there under their names.

    Raises:
        BadInput: no such JSON, or one of printed values or of none; a tensor's file missing, outside the folder, or
            of another shape or dtype than the JSON says.

    Source: transformers 5.23 `model_debugging_utils.py`.
    Differs: a module that is called twice in a pass overwrites its own file there: such are not taken.
    """
    tree = parse_json(map_file(path)[:], path, "debugger's JSON")
    if not isinstance(tree.get("module_path"), str):
        raise wanted("debugger's JSON", path, "a tree of modules with module_path", list(tree)[:5])
    nodes = list(_nodes(tree, path))
    calls = Counter(node["module_path"] for node in nodes)
    files, raw, left = Files(), {}, []
    for node in nodes:
        for name, leaf in _tensors(node, node is nodes[0]):
            why = "" if calls[node["module_path"]] == 1 else "called more than once: its file holds the last call"
            found = why or _raw(leaf, path, files)
            if isinstance(found, Raw) and name not in raw:
                raw[name] = found
            else:
                left.append({"name": name, "why": found if isinstance(found, str) else "the same name again"})
    if not raw:
        raise wanted("debugger's JSON", path, "tensors in files, use_repr=False", left[0]["why"] if left else "none")
    return raw, left + _pruned(calls)


def _nodes(tree: dict[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """Walk the tree in the order of execution."""
    todo, count = [tree], 0
    while todo:
        node = todo.pop()
        if not isinstance(node, dict) or not isinstance(node.get("module_path"), str) or count >= MOST_NODES:
            raise wanted("debugger's JSON", path, "nodes with module_path", node)
        children = node.get("children") or []
        if not isinstance(children, list):
            raise wanted("children", path, "a list of nodes", children)
        yield node
        count += 1
        todo += reversed(children)


def _tensors(node: dict[str, Any], top: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """List what went into a module and what came out."""
    name, out, given = node["module_path"], node.get("outputs"), node.get("inputs")
    given = given if isinstance(given, dict) else {}
    args = given.get("args") if isinstance(given.get("args"), list) else []
    kwargs = given.get("kwargs") if isinstance(given.get("kwargs"), dict) else {}
    named = {f"args.{i}": one for i, one in enumerate(args or [])} | (kwargs or {})
    if top:
        named["input_ids"] = named.get("input_ids", named.get("args.0"))
        found = [(key, named.get(key)) for key in MODEL_INPUTS]
    else:
        main = next((named[key] for key in ("args.0", *MAIN_INPUTS) if _is_tensor(named.get(key))), None)
        found = [] if name.endswith("embed_tokens") else [(f"{name}.input", main)]
    found += [(f"{name}.{i}", one) for i, one in enumerate(out)] if isinstance(out, list) else [(name, out)]
    yield from ((key, one) for key, one in found if isinstance(one, dict) and _is_tensor(one))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and set(value) >= TENSOR


def _raw(leaf: dict[str, Any], path: Path, files: Files) -> Raw | str:
    """Return a tensor of which the JSON names the file; else why there is none."""
    value = leaf["value"]
    if isinstance(value, list):
        return PRINTED
    if not isinstance(value, str) or not value.endswith(".safetensors"):
        return "no file of its values is named"
    file = inside(path.parent, value.removeprefix("./"))
    try:
        raw = files.raw(file, "data")
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    shape = [integer_of(length) for length in re.findall("[0-9]+", str(leaf["shape"]))]
    dtype = judged_dtype(str(leaf["dtype"]).removeprefix("torch."))
    if (dtype, tuple(shape)) != raw[:2]:
        raise wanted(
            f"tensor {quoted(file.name)}", path, f"{dtype} {shape}, as the JSON says", f"{raw[0]} {list(raw[1])}"
        )
    return raw


def _pruned(calls: Counter[str]) -> list[dict[str, str]]:
    """Say which layers the debugger left out, which it does unless told."""
    numbers = sorted({int(m[1]) for name in calls if (m := re.search(r"(?<!encoder)\.layers\.([0-9]{1,4})\.", name))})
    gaps = [(a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1]
    why = "left out of the JSON: run the debugger with do_prune_layers=False"
    return [{"name": f"layers {first} to {last}", "why": why} for first, last in gaps]
