"""`params` counts exactly what the released checkpoints hold."""

from support.command_line import json_of
from support.tiny import params

from ref.cli import main

# size: embedding, non-embedding, vision, projector
COUNTS = {
    "270m": (167_772_160, 100_326_016, 0, 0),
    "1b": (301_989_888, 697_896_064, 0, 0),
    "4b": (671_088_640, 3_209_010_688, 416_866_032, 2_950_272),
    "12b": (1_006_632_960, 10_759_155_456, 416_866_032, 4_424_832),
    "27b": (1_409_286_144, 25_599_716_096, 416_866_032, 6_194_304),
}


def test_params_are_exact_and_the_reports_stand_beside_them(capsys):
    rows = json_of(capsys, "params")
    keys = ("embedding", "non_embedding", "vision", "projector")
    assert {row["name"]: tuple(row[key] for key in keys) for row in rows} == COUNTS
    assert all(row["total"] == sum(row[key] for key in keys) for row in rows)
    assert [row["report"] and row["report"]["non_embedding"] for row in rows] == [None, 698, 3209, 10_759, 25_600]
    assert rows[3]["difference"]["embedding"] == 1_006_632_960 - 1_012_000_000
    assert main(["params"]) == 0
    out = capsys.readouterr().out
    assert all(f"{count:,}" in out for row in COUNTS.values() for count in row)


def test_params_of_one_size_is_one_object_and_counts_what_is_there(capsys):
    row = json_of(capsys, "params", "TINY")
    layers = [weight.size for layer in params().layers for weight in layer]
    assert row["embedding"] == params().embedding.size
    assert row["non_embedding"] == sum(layers) + params().final_norm.size
    assert [one["name"] for one in json_of(capsys, "params", "4b", "1b")] == ["4b", "1b"]
