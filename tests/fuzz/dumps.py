"""Readers of dumps, and the judge behind them."""

import json
import os
import struct
from pathlib import Path
from random import Random

from ref.judge.compare import compare
from ref.report.text import render_text

from .mutate import json_bytes, mutate_bytes, mutate_json, near
from .seeds import (
    ANY_IDS,
    CONFIG,
    TINY,
    dump_folder,
    fill,
    ranked_folder,
    read_whole,
    serving_folder,
    small_folder,
    split_safetensors,
)

LETTERS = [*"BTDNHKGSVFPMCYX21bt()  _*", "P2", "PAIR", "->", "...", "٢", "é", "\n", "()"]


def damaged_dump(r: Random, seeds, folder: Path) -> Path:
    """Write one of the dumps with damage to its JSON, to one of its files, or to what lies in a file's place."""
    content, files = r.choice(seeds)
    files, kind, name = dict(files), r.random(), r.choice(list(files))
    text = json.dumps(content).encode()
    if kind < 0.65:
        text = json_bytes(r, mutate_json(r, content))
    elif kind < 0.75:
        text = mutate_bytes(r, text)
    elif kind < 0.88:
        header, data = split_safetensors(files[name])
        head = json_bytes(r, mutate_json(r, header))
        changed = struct.pack("<Q", len(head)) + head + data
        files[name] = changed if r.random() < 0.7 else mutate_bytes(r, files[name])
    fill(folder, files | {"dump.json": text})
    if kind >= 0.88:
        _misplace(r, folder / r.choice([name, "dump.json"]))
    return folder


def _misplace(r: Random, file: Path) -> None:
    file.unlink()
    kind = r.randrange(5)
    if kind == 0:
        file.symlink_to(file.name)
    elif kind == 1:
        file.symlink_to("/dev/zero")
    elif kind == 2:
        os.mkfifo(file)
    elif kind == 3:
        file.symlink_to(file.parent)


def dump(place: Path):
    """Folders, of either version."""
    seeds = [dump_folder(False), dump_folder(True), serving_folder(), ranked_folder(), small_folder()]

    def case(r: Random) -> None:
        read_whole(damaged_dump(r, seeds, place / "d"), r.choice([None] * 90 + ANY_IDS), None, r.choice([CONFIG, None]))

    return case


def judged(place: Path):
    """Folders, of either version, through the judge to its table."""
    seeds = [dump_folder(False), dump_folder(True), serving_folder(), ranked_folder(), small_folder()]

    def case(r: Random) -> None:
        folder = damaged_dump(r, seeds, place / "d")
        render_text(compare(folder, loaded=TINY, prompt=r.choice([None] * 20 + ANY_IDS)))

    return case


def layout(place: Path):
    """Layouts in a dump.json."""
    content, files = dump_folder(False)
    folder = fill(place / "d", files)

    def case(r: Random) -> None:
        changed = json.loads(json.dumps(content))
        entry = r.choice(list(r.choice(changed["passes"])["tensors"].values()))
        axes, kind = entry["layout"].split(), r.random()
        if kind < 0.3:
            entry["layout"] = " ".join(r.sample(axes, len(axes)))
        elif kind < 0.6:
            at = r.randrange(len(axes))
            entry["layout"] = " ".join([*axes[:at], "(" + " ".join(axes[at : at + 2]) + ")", *axes[at + 2 :]])
        else:
            entry["layout"] = "".join(r.choice(LETTERS) for _ in range(r.randrange(12)))
        if r.random() < 0.3:
            entry["shape"] = near(r, entry["shape"])
        (folder / "dump.json").write_text(json.dumps(changed))
        read_whole(folder)

    return case
