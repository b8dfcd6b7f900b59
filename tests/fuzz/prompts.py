"""Readers of prompts and goldens: ids, images, chat turns, vectors and cases."""

import io
import json
from pathlib import Path
from random import Random
from warnings import catch_warnings, simplefilter

import numpy as np
from PIL import Image

from ref.commands.shared import read_ids
from ref.dump.open import arrays_as_dump
from ref.golden_files.files import golden_root, read_case, read_checked, schema_of
from ref.prompt.chat import encode_chat
from ref.prompt.images import preprocess, read_image
from ref.prompt.placeholders import encode_chat_with_images, encode_with_images
from ref.prompt.tokenizer import Tokenizer

from .mutate import TEXTS, json_bytes, junk, mutate_bytes, mutate_json
from .seeds import ANY_IDS, CONFIG, fill
from .weights import sentencepiece

SIGNS = [*"0123456789,,,   -+[]().eE_\n\t", "٣", "²", "1_0", "0x1", "１", "nan", "\0", "9" * 30, "\ufeff", "true"]
FORMATS = [("PNG", "RGB"), ("PNG", "P"), ("PNG", "I;16"), ("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "1"), ("JPEG", "RGB"),
           ("JPEG", "CMYK"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"), ("TIFF", "I;16"), ("TIFF", "F"),
           ("WEBP", "RGB"), ("PPM", "RGB"), ("ICO", "RGBA"), ("TGA", "RGB"), ("PCX", "RGB"), ("SGI", "RGB"),
           ("DDS", "RGBA"), ("ICNS", "RGBA"), ("EPS", "RGB"), ("MSP", "1"), ("XBM", "1")]  # fmt: skip
NUMBERS = [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\1\0\0", b"\0\0\x40\0", b"\0\x40\0\0"]


def ids(place: Path):
    """Token ids of the command line, of files and of the Python API."""
    path = place / "ids.txt"
    arrays = [np.array(1), np.array(-1.5), np.array([[1, 2], [3, 4]]), np.array([], int), np.zeros((0, 3), int)]
    arrays += [np.array(["a"]), np.array([2**64 - 1], np.uint64), np.array([None])]

    def case(r: Random) -> None:
        kind = r.random()
        if kind < 0.4:
            read_ids("".join(r.choice(SIGNS) for _ in range(r.randrange(30))))
        elif kind < 0.7:
            path.write_bytes(mutate_bytes(r, r.choice([b"1,2,3", b"[1, 2, 3]", b"1\n2\n3", "１,2".encode()])))
            read_ids(str(path))
        else:
            given = r.choice([junk(r), [junk(r) for _ in range(r.randrange(6))], [[junk(r)]], *ANY_IDS, *arrays])
            arrays_as_dump({"text.embed": np.zeros((1, 6, 36), np.float32)}, given, None, "arrays", CONFIG)

    return case


def image(place: Path):
    """Image files of every kind that Pillow opens without a program's help, and arrays."""
    rng, seeds, path = np.random.default_rng(0), [], place / "i.png"
    for name, mode in FORMATS:
        out, levels = io.BytesIO(), rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        wide = Image.fromarray(rng.integers(0, 65535, (32, 32), dtype=np.uint16))
        (wide if mode == "I;16" else Image.fromarray(levels).convert(mode)).save(out, name)
        seeds.append(out.getvalue())

    def case(r: Random) -> None:
        if r.random() < 0.1:
            shape = [r.choice([0, 1, 2, 3, 4, 7]) for _ in range(r.randrange(5))]
            kind = r.choice(["u1", "u2", "f4", "f8", "i8", "b1", "c8", "O", "U1"])
            how = {
                "layout": r.choice([None, "HWC", "CHW", "x"]),
                "value_range": r.choice([None, "0..1", "0..255", "x"]),
            }
            preprocess(read_image(np.zeros(shape, kind), **how), size=5)
            return
        data = bytearray(r.choice(seeds))
        if r.random() < 0.5:
            at = r.randrange(min(len(data), 80))
            number = r.choice(NUMBERS)[: r.choice([1, 2, 4])]
            data[at : at + len(number)] = number
        else:
            data = bytearray(mutate_bytes(r, bytes(data), r.choice([None, 200])))
        path.write_bytes(data)
        with catch_warnings():
            simplefilter("ignore")
            found = read_image(r.choice([path, bytes(data)]))
        assert (found.dtype, found.ndim, found.shape[2]) == (np.uint8, 3, 3), found.shape

    return case


def chat(place: Path):
    """Conversations, and images in them."""
    tokenizer, text = Tokenizer(sentencepiece()), [*TEXTS, "<start_of_image> a <start_of_image>", "<end_of_turn>"]
    parts = [{"type": "image"}, {"type": "text", "text": "what <start_of_image>"}]
    turns = [{"role": "system", "content": "be short"}, {"role": "user", "content": parts},
             {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]  # fmt: skip

    def case(r: Random) -> None:
        messages = mutate_json(r, turns) if r.random() < 0.9 else junk(r)
        kind, crops = r.randrange(3), r.choice([[0], [2], [], [0, 0], [-1], ["a"], [2**70], [True], None, "12"])
        if kind == 0:
            encode_chat(tokenizer, messages, control=r.choice(["forbid", "split"]))
        elif kind == 1:
            encode_chat_with_images(tokenizer, messages, crops, soft_tokens=r.choice([4, 4, 0, -1]))
        else:
            encode_with_images(tokenizer, r.choice(text), crops, soft_tokens=4)

    return case


def goldens(place: Path):
    """Vectors and cases, as `verify` and test suites read them."""
    root = golden_root()
    names = ["vectors/rope.json", "vectors/visibility.json", "vectors/softmax.json", "dumps/tiny/dump.json"]
    whole = {name: json.loads((root / name).read_text()) for name in names}
    folder = root / "cases" / "tiny" / "packed"
    files = {file.name: file.read_bytes() for file in folder.iterdir()}

    def case(r: Random) -> None:
        if r.random() < 0.5:
            name = r.choice(names)
            path = place / Path(name).name
            path.write_bytes(json_bytes(r, mutate_json(r, whole[name])))
            read_checked(path, schema_of(name) or "")
            return
        name, changed = r.choice(list(files)), dict(files)
        if name == "case.json" and r.random() < 0.7:
            changed[name] = json_bytes(r, mutate_json(r, json.loads(files[name])))
        else:
            changed[name] = mutate_bytes(r, files[name], 4000)
        read_case(fill(place / "c", changed))

    return case
