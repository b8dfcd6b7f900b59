"""Readers of bare files and of the texts of other programs."""

import io
import json
import re
import struct
import zipfile
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import save
from support.server_json import chat, llama_cpp, sglang, vllm

from ref.dump.read_server_json import is_server_json, read_server_json

from .mutate import INTEGERS, LENGTHS, json_bytes, junk, mutate_bytes, mutate_json
from .seeds import ANY_IDS, CONFIG, IDS, arrays, fill, read_whole, split_safetensors

HERE = Path(__file__).resolve().parents[1]


def safetensors(place: Path):
    """Bare safetensors files."""
    sound, path = save(arrays()), place / "a.safetensors"
    header, data = split_safetensors(sound)

    def case(r: Random) -> None:
        if r.random() < 0.6:
            head = json_bytes(r, mutate_json(r, header))
            length = len(head) if r.random() < 0.95 else r.choice(LENGTHS)
            path.write_bytes(struct.pack("<Q", length) + head + data[: r.choice([None, None, None, len(data) // 2])])
        else:
            path.write_bytes(mutate_bytes(r, sound))
        names = r.choice([None] * 8 + ["ref", "transformers", "nonsense"])
        read_whole(path, r.choice([None] * 90 + ANY_IDS), names, r.choice([CONFIG, None]))

    return case


NPY = [
    "'|O', 'fortran_order': False, 'shape': (1,)", "'<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)",
    "'<f4', 'fortran_order': True, 'shape': (-1, 6)", "[('a', '<f4')], 'fortran_order': False, 'shape': (3,)",
    "'<f4', 'fortran_order': False, 'shape': " + "(" * 90 + ")" * 90, "'<U5', 'fortran_order': False, 'shape': (2,)",
    "'>f8', 'fortran_order': False, 'shape': (1, 6, 18)", "'<c8', 'fortran_order': False, 'shape': (2,)",
    "'|V2', 'fortran_order': False, 'shape': (1, 6, 72)", "'<f4', 'fortran_order': False, 'shape': (True, 6, 36)",
    "'<f4', 'fortran_order': 1, 'shape': (1, 6, 36)", "'<f4', 'fortran_order': False, 'shape': (0, 2**60)",
    "('<f4', (36,)), 'fortran_order': False, 'shape': (1, 6)", "'<f0', 'fortran_order': False, 'shape': (6,)",
    "'<M8[ns]', 'fortran_order': False, 'shape': (2,)", "'<f16', 'fortran_order': False, 'shape': (2,)",
    "'<f4', 'fortran_order': False, 'shape': (1,) * 9", "'<f4', 'fortran_order': False, 'shape': (1" + "0" * 5000,
    "'<f4', 'fortran_order': False, 'shape': (1, 6, '''", "'<f4', 'fortran_order': False, 'shape': (1L, 6L, 36L)",
]  # fmt: skip


def npz(place: Path):
    """NumPy archives: their directory, the headers of members, what is compressed."""
    taps = {name.partition(" [")[0]: value for name, value in arrays().items() if "(" not in name}
    whole = []
    for write in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        write(out, **taps)
        whole.append(out.getvalue())
    path = place / "a.npz"

    def case(r: Random) -> None:
        path.write_bytes(mutate_bytes(r, r.choice(whole)) if r.random() < 0.5 else _archive(r, taps))
        read_whole(path, r.choice([None] * 8 + [IDS]), None, r.choice([CONFIG, None]))

    return case


def _archive(r: Random, taps) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", r.choice([0, 8, 8, 12, 14])) as file:
        for name, value in taps.items():
            member = io.BytesIO()
            np.save(member, value)
            body, kind = member.getvalue(), r.random()
            if kind < 0.25:
                head = ("{'descr': " + r.choice(NPY) + "}\n").encode()
                head = head if r.random() < 0.8 else mutate_bytes(r, head)
                version = r.choice([1, 1, 2, 3, 4])
                length = struct.pack("<H" if version == 1 else "<I", len(head))
                body = b"\x93NUMPY" + bytes([version, 0]) + length + head + value.tobytes()
            elif kind < 0.5:
                body = mutate_bytes(r, body, 128)
            odd = r.random() < 0.05
            called = r.choice(["../x", "/abs", "data.pkl", "x" * 3000, ".", "", "é", "a/b", "\x1b[2J"]) if odd else name
            file.writestr(called + ".npy", body)
    return out.getvalue() if r.random() < 0.8 else mutate_bytes(r, out.getvalue())


def llama_text(place: Path):
    """What llama-eval-callback prints."""
    lines, path = (HERE / "support/llama_eval_callback.txt").read_text().splitlines(), place / "a.txt"
    starts = [i for i, line in enumerate(lines) if " = (f32)" in line]

    def case(r: Random) -> None:
        at = r.choice(starts)
        part = [*lines[: r.choice([0, 4, 12])], *lines[at : at + r.choice([5, 40, 200])]]
        for _ in range(r.choice([1, 2, 5])):
            _change_line(r, part, r.randrange(len(part)))
        path.write_text("\n".join(part), errors="replace")
        read_whole(path, r.choice([None] * 30 + ANY_IDS), None, r.choice([None, {"head_dim": 24}, CONFIG]))

    return case


ODD_LINES = ["nan", "sum = nan", "sum = inf", "[[[[", "..., ...", "(" * 900, "a " * 400 + " = (f32) ", "\u2028", "\x85"]


def _change_line(r: Random, part: list[str], at: int) -> None:
    kind, line = r.randrange(8), part[at]
    if kind == 0:
        part[at] = ""
    elif kind == 1:
        part.insert(at, line)
    elif kind == 2:
        part[at] = mutate_bytes(r, line.encode()).decode("latin1")
    elif kind == 3:
        part[at] = re.sub("[0-9]+", lambda found: str(r.choice(INTEGERS)) if r.random() < 0.4 else found[0], line)
    elif kind == 4:
        part[at] = f"number of input tokens = {r.choice([0, 1, 3, 9, 10**9, 10**30, -1])}"
    elif kind == 5:
        part[at] = r.choice(ODD_LINES)
    elif kind == 6:
        part[at] = line.replace("f32", "q8_0")
    else:
        other = r.randrange(len(part))
        part[at], part[other] = part[other], line


def llama_logits(place: Path):
    """What llama-debug --save-logits writes: values, and tokens beside them."""
    rng = np.random.default_rng(2)
    sound = {
        "llamacpp-a": rng.normal(size=97).astype("<f4").tobytes(),
        "llamacpp-a-embeddings": rng.normal(size=(6, 36)).astype("<f4").tobytes(),
    }
    tokens = np.array(IDS, "<i4").tobytes()

    def case(r: Random) -> None:
        name, changed = r.choice(list(sound)), r.random()
        values = sound[name] if changed < 0.4 else mutate_bytes(r, sound[name])
        ids = tokens if changed > 0.6 else mutate_bytes(r, tokens)
        folder = fill(place / "d", {f"{name}.bin": values, f"{name}-tokens.bin": ids})
        read_whole(folder / f"{name}.bin", r.choice([None] * 30 + ANY_IDS), None, r.choice([CONFIG, None]))

    return case


def server(place: Path):
    """The JSON of servers that answer with log-probabilities."""
    logits, path = np.random.default_rng(3).normal(size=(len(IDS), 97)), place / "a.json"
    makers = (vllm, llama_cpp, sglang, lambda *given: chat(*given, "<{}>".format))
    answers = [make(logits, IDS, 2) for make in makers]

    def case(r: Random) -> None:
        tree = mutate_json(r, r.choice(answers))
        path.write_bytes(json_bytes(r, tree if r.random() < 0.95 else junk(r)))
        if is_server_json(path):
            read_server_json(path)

    return case


def debugger(place: Path):
    """The JSON of transformers' debugger, and its files."""
    values, files = arrays(), {}

    def leaf(name: str, value: np.ndarray) -> dict:
        files[f"{name}.safetensors"] = save({"data": value})
        return {"shape": f"torch.Size({list(value.shape)})", "dtype": f"torch.{value.dtype}",
                "value": f"./{name}.safetensors"}  # fmt: skip

    stem, hidden = "Gemma3ForCausalLM", values["text.embed"]
    q = {"module_path": f"{stem}.model.layers.0.self_attn.q_proj", "inputs": {"args": [leaf("pre", hidden)]},
         "outputs": leaf("q", np.zeros((1, 6, 120), np.float32)), "children": None}  # fmt: skip
    layer = {"module_path": f"{stem}.model.layers.0", "inputs": {"args": [leaf("in", hidden)], "kwargs": {}},
             "outputs": [leaf("out", hidden)], "children": [q]}  # fmt: skip
    tree = {"module_path": stem, "inputs": {"args": [], "kwargs": {"input_ids": leaf("ids", values["input_ids"])}},
            "outputs": {"logits": leaf("logits", values["text.logits"])}, "children": [layer]}  # fmt: skip

    def case(r: Random) -> None:
        kind, written, text = r.random(), dict(files), json.dumps(tree).encode()
        if kind < 0.8:
            text = json_bytes(r, mutate_json(r, tree if r.random() < 0.95 else junk(r)))
        elif kind < 0.9:
            text = mutate_bytes(r, text)
        else:
            name = r.choice(list(files))
            written[name] = mutate_bytes(r, files[name])
        folder = fill(place / "d", written | {"x.json": text})
        read_whole(folder / "x.json", r.choice([None] * 30 + ANY_IDS), None, r.choice([CONFIG, None]))

    return case
