"""Readers of weights: GGUF, mmproj, Hugging Face folders, configurations, tokenizers."""

import json
import math
import struct
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
from sentencepiece import sentencepiece_model_pb2
from support.bad_files import PAIRS, TENSORS, array, gguf_bytes, pair, tensor, text
from support.checkpoints import SMALL, SMALL_EYE, gguf_metadata, mmproj_metadata, save_gguf, save_mmproj, save_seeing
from support.lora import save_adapter

from ref.errors import BadInput
from ref.ops.linear import take_rows
from ref.prompt.rebuild import REQUIRED, rebuild_model
from ref.prompt.tokenizer import Tokenizer
from ref.weights.adapter import read_adapter, with_adapter
from ref.weights.config_files import config_from_gguf, config_from_hugging_face, read_json
from ref.weights.gguf import open_gguf
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params, synthetic_vision
from ref.weights.vision_config import vision_from_gguf, vision_from_hugging_face

from .mutate import LENGTHS, TEXTS, json_bytes, junk, mutate_bytes, mutate_json
from .seeds import fill, split_safetensors

KINDS = [0, 1, 4, 6, 7, 8, 9, 10, 12, 13, 77]  # of values, some of them none


def gguf(place: Path):
    """The header of a small GGUF file, its tensors and its vocabulary."""
    path = place / "a.gguf"

    def case(r: Random) -> None:
        path.write_bytes(mutate_bytes(r, gguf_bytes()) if r.random() < 0.4 else _odd_gguf(r))
        file = open_gguf(path)
        for name in file.names():
            if math.prod(file.shape(name)) < 10**6:
                with suppress(BadInput):
                    file.array(name)
        rebuild_model(*file.vocabulary())

    return case


def _odd_gguf(r: Random) -> bytes:
    pairs, tensors, kind = list(PAIRS), list(TENSORS), r.randrange(6)
    at = r.randrange(len(pairs))
    if kind == 0:
        pairs[at] = array(f"k{at}", r.choice(KINDS), r.choice(LENGTHS), bytes(r.choice([0, 8, 64])))
    elif kind == 1:
        pairs.append(pair("general.alignment", r.choice(KINDS), struct.pack("<Q", r.choice(LENGTHS))))
    elif kind == 2:
        sizes = tuple(r.choice([1, 2, 32, *LENGTHS]) for _ in range(r.randrange(5)))
        tensors = [tensor("a", sizes, r.choice([0, 1, 2, 8, 12, 14, 30, 39, 99]), r.choice([0, 0, *LENGTHS]))]
    elif kind == 3:
        pairs[at] = mutate_bytes(r, pairs[at])
    elif kind == 4:
        pairs = [pair(f"k{i}", r.choice(KINDS), struct.pack("<Q", r.choice(LENGTHS)) + bytes(8)) for i in range(3)]
    else:
        pieces = b"".join(text(r.choice([one.encode(), b"\xff", b"<pad>"])) for one in r.sample(TEXTS, 3))
        scores = struct.pack("<3f", r.choice([0, math.nan, math.inf]), 0, 1)
        types = struct.pack("<3i", *(r.choice([0, 1, 2, 3, 4, 5, 6, 7, -1]) for _ in range(3)))
        names = [f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type")]
        values = [(8, pieces), (6, scores), (5, types)]
        pairs[-3:] = [array(name, kind, 3, value) for name, (kind, value) in zip(names, values, strict=True)]
    counts = None if r.random() < 0.9 else (r.choice(LENGTHS), r.choice(LENGTHS))
    return gguf_bytes(pairs, tensors, version=r.choice([3, 3, 3, 2]), counts=counts)


def gguf_weights(place: Path):
    """A whole GGUF model with its mmproj file, damaged in their headers."""
    model, tower, seen = place / "m.gguf", place / "t.gguf", {}
    save_gguf(model, synthetic_params(SMALL, 0), "Q8_0")
    save_mmproj(tower, synthetic_vision(SMALL_EYE, SMALL.width, 0))
    for path in (model, tower):
        seen[path] = path.read_bytes()
    ends = {model: 6000, tower: 5000}  # of the headers

    def case(r: Random) -> None:
        for path in (model, tower):
            path.write_bytes(seen[path])
        path = r.choice([model, model, tower])
        path.write_bytes(mutate_bytes(r, seen[path], ends[path]))
        loaded = load(str(model), mmproj=str(tower) if path == tower else None)
        list(loaded.params.layers)
        with suppress(BadInput):
            loaded.tokenizer()

    return case


def folder(place: Path):
    """Hugging Face folders: configuration, header, index, stop ids, codes, and the tokenizer beside them."""
    save_seeing(place / "sound")
    sound = {file.name: file.read_bytes() for file in (place / "sound").iterdir() if file.is_file()}
    config, (header, data) = json.loads(sound["config.json"]), split_safetensors(sound["model.safetensors"])
    shard = "model-00001-of-00001.safetensors"
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(header, shard)}
    coded = {"quant_method": "gemma3_ref", "format": "int4", "bits": 4, "value": "code / scale"}

    def case(r: Random) -> None:
        files, kind = dict(sound), r.random()
        if kind < 0.35:
            files["config.json"] = json_bytes(r, mutate_json(r, config))
        elif kind < 0.6:
            head = json_bytes(r, mutate_json(r, header))
            files["model.safetensors"] = struct.pack("<Q", len(head)) + head + data
        elif kind < 0.8:
            files[shard] = files.pop("model.safetensors")
            files["model.safetensors.index.json"] = json_bytes(r, mutate_json(r, index))
        elif kind < 0.9:
            files["config.json"] = json_bytes(r, config | {"quantization_config": mutate_json(r, coded)})
        else:
            files["generation_config.json"] = json_bytes(r, mutate_json(r, {"eos_token_id": [1, 106]}))
        list(load(str(fill(place / "f", files))).params.layers)

    return case


def adapter(place: Path):
    """LoRA adapters, put on weights that they do not always fit."""
    save_adapter(place / "sound", ("q", "down", "embedding", "head"))
    header, data = split_safetensors((place / "sound/adapter_model.safetensors").read_bytes())
    said, base = read_json(place / "sound/adapter_config.json"), load("tiny")

    def case(r: Random) -> None:
        told, head = (mutate_json(r, one) if r.random() < 0.6 else one for one in (said, header))
        head = json_bytes(r, head)
        files = {"adapter_config.json": json_bytes(r, told)}
        files["adapter_model.safetensors"] = struct.pack("<Q", len(head)) + head + data
        put = with_adapter(base, read_adapter(fill(place / "f", files)))
        for weight in (put.params.layers[3].q, put.params.layers[3].down, put.params.unembedding):
            take_rows(weight, slice(0, 2))

    return case


def config(place: Path):
    """config.json of text and images, and the metadata of GGUF and mmproj files."""
    save_seeing(place / "sound")
    whole, path = json.loads((place / "sound" / "config.json").read_text()), place / "config.json"
    metadata = {f"gemma3.{key}": value for key, value in gguf_metadata(SMALL).items()}
    metadata["general.architecture"] = "gemma3"
    tower = mmproj_metadata(SMALL_EYE, SMALL.width)
    tower |= {"general.architecture": "clip", "clip.projector_type": "gemma3"}

    def case(r: Random) -> None:
        kind = r.randrange(4)
        if kind == 0:
            config_from_gguf(mutate_json(r, metadata), r.choice([262_144, 97, 0, -1, 2**40]))
        elif kind == 1:
            vision_from_gguf(mutate_json(r, tower), r.choice([64, 64, 0]))
        else:
            changed = mutate_json(r, r.choice([whole, whole["text_config"]])) if r.random() < 0.97 else junk(r)
            path.write_bytes(json_bytes(r, changed))
            content = read_json(path)
            vision_from_hugging_face(content, config_from_hugging_face(content, path), path)

    return case


def sentencepiece() -> bytes:
    """Make a small model that passes for Gemma's."""
    names = [f"<unused{i}>" for i in range(120)]
    for name, token in REQUIRED.items():
        names[token] = name
    names += [f"<0x{i:02X}>" for i in range(256)] + ["▁", "a", "b", "ab", "▁a", "<start_of_image>", "<end_of_image>"]
    types = [3, 3, 3, 2, *[4] * 116, *[6] * 256, *[1] * (len(names) - 376)]
    pieces = [name.encode() for name in names]
    return rebuild_model(pieces, np.linspace(0, -1, len(names)).astype(np.float32), np.array(types, np.int32))


def tokenizer(place: Path):
    """tokenizer.model, and what is then asked of it."""
    sound, path = sentencepiece(), place / "tokenizer.model"

    def case(r: Random) -> None:
        path.write_bytes(_odd_model(r, sound) if r.random() < 0.5 else mutate_bytes(r, sound))
        made = Tokenizer.from_file(path)
        ids = made.encode(r.choice(["hello ab", "\0 \0", "<bos>▁▁▁ 🙂", "a" * 500]))
        made.decode(ids)
        made.decode(range(0, made.vocabulary, max(1, made.vocabulary // 50)))

    return case


def _odd_model(r: Random, sound: bytes) -> bytes:
    model = sentencepiece_model_pb2.ModelProto.FromString(sound)
    for _ in range(r.choice([1, 2, 5])):
        kind, piece, spec = r.randrange(7), r.choice(model.pieces), model.trainer_spec
        if kind == 0:
            piece.piece = r.choice([*TEXTS, "<bos>", "▁"])
        elif kind == 1:
            piece.score = r.choice([math.nan, math.inf, -1e38, 0])
        elif kind == 2:
            piece.type = r.choice([1, 2, 3, 4, 5, 6])
        elif kind == 3:
            spec.model_type = r.choice([1, 2, 3, 4])
        elif kind == 4:
            del model.pieces[r.randrange(len(model.pieces)) + 1 :]
        elif kind == 5:
            model.normalizer_spec.precompiled_charsmap = r.randbytes(r.choice([4, 100]))
        else:
            field = r.choice(["unk_id", "bos_id", "eos_id", "pad_id", "vocab_size"])
            setattr(spec, field, r.choice([-1, 0, 1, 2**31 - 1, -(2**31)]))
    return model.SerializeToString()
