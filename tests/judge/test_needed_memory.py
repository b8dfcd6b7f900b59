"""How much memory the judge needs and has: sizes read, limits found, what does not fit refused with the numbers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.dumps_on_disk import CONFIG, row, written
from support.judged import captured, dumped
from support.refusing import refusal

import ref
from ref.errors import BadInput
from ref.judge import needed_memory
from ref.judge.compare import compare
from ref.judge.needed_memory import available, bytes_of

BENCH = str(Path(__file__).parents[1] / "bench")


@pytest.mark.parametrize(
    ("text", "size"),
    [("6GB", 6 * 10**9), ("512MB", 512 * 10**6), ("1.5GiB", 3 * 2**29), ("2 gb", 2 * 10**9), ("4096", 4096),
     ("7k", 7 * 1024), ("8G", 2**33), ("1TB", 10**12), (10**9, 10**9)],
)  # fmt: skip
def test_sizes_are_read(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "0", "0.0GB", "6 GB or so", "1e9", "nan", "6PB", "6GBB", "٦GB", True]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(BadInput, match="memory: wanted a size such as 6GB or 512MB, got"):
        bytes_of(text)


def files(monkeypatch, **texts):
    monkeypatch.setattr(needed_memory, "_text", lambda path: texts.get(Path(path).name.replace(".", "_"), ""))


def test_the_smallest_of_what_limits_is_taken(monkeypatch):
    assert available() is None or available() > 0
    meminfo = "MemTotal: 32000000 kB\nMemAvailable:   16000000 kB\n"
    files(monkeypatch, meminfo=meminfo)
    assert available() == 16_384_000_000
    two = {"memory_max": "4000000000\n", "memory_current": "1000000000\n", "meminfo": meminfo}
    files(monkeypatch, **two)
    assert available() == 3_000_000_000
    files(monkeypatch, **two, memory_stat="anon 5\ninactive_file 500000000\n")
    assert available() == 3_500_000_000  # pages of files are given back
    files(monkeypatch, **(two | {"memory_max": "max\n"}))
    assert available() == 16_384_000_000
    one = {"memory_limit_in_bytes": str(2**63 - 4096), "memory_usage_in_bytes": "5", "meminfo": meminfo}
    files(monkeypatch, **one)
    assert available() == 16_384_000_000
    files(monkeypatch, **(one | {"memory_limit_in_bytes": "2000000000"}))
    assert available() == 1_999_999_995
    files(monkeypatch, memory_max="1000", memory_current="3000", meminfo="nonsense")
    assert available() == 0


def long_dump(place, tokens=12_000):
    one = row(1, 0) | {"ids": [5] * tokens, "positions": list(range(tokens))}
    return written(place / "long", (one, {"text.layer.0.out": np.ones((1, tokens, 36), np.float32)}), config=CONFIG)


def test_a_small_dump_that_asks_for_much_is_refused_with_the_numbers(tmp_path, capsys):
    dump = long_dump(tmp_path)
    assert sum(file.stat().st_size for file in dump.iterdir()) < 2**21
    line = refusal(capsys, "compare", str(dump), "--memory", "8GB")
    assert "memory: wanted at most 8.00 GB, which are allowed by --memory, got about " in line
    assert "GB needed at layer 0 of pass 0 (fewer tokens need less; --memory SIZE sets another limit)" in line
    assert float(line.partition("got about ")[2].split()[0]) > 12_000**2 * 12 * 16 / 1e9
    assert "memory: wanted a size such as" in refusal(capsys, "compare", str(dump), "--memory", "much")


def test_what_is_available_is_the_limit_where_none_is_given(tmp_path, monkeypatch):
    files(monkeypatch, meminfo="MemAvailable: 4000000 kB")
    with pytest.raises(BadInput, match=r"wanted at most 4.10 GB, which is available, got about"):
        compare(long_dump(tmp_path), loaded=ref.load("tiny"))


def needs(dump, monkeypatch):
    """Return what is estimated for a dump, which is then not judged."""
    found = []
    monkeypatch.setattr(needed_memory, "needed", lambda *of: found.append(real(*of)) or (2**62, "x"))
    with pytest.raises(BadInput, match="needed at x"):
        compare(dump, loaded=ref.load("tiny"))
    return found[0][0]


real = needed_memory.needed


def test_more_tokens_scores_and_passes_need_more_and_an_embedding_alone_next_to_nothing(tmp_path, monkeypatch):
    whole = captured(tokens=40)
    taps = {"embed": [], "out": ["text.layer.0.out"], "probs": ["text.layer.0.attn.probs"]}
    parts = {name: {tap: whole[tap] for tap in ["text.embed", *more]} for name, more in taps.items()}
    sizes = {name: needs(dumped(part), monkeypatch) for name, part in parts.items()}
    assert 0 == sizes["embed"] < sizes["out"] < sizes["probs"]
    longer = needs(long_dump(tmp_path, 4000), monkeypatch)
    assert 3.5 < needs(long_dump(tmp_path / "b", 8000), monkeypatch) / longer < 4.5
    one = dumped(parts["probs"])
    many = one._replace(passes=[one.passes[0]._replace(number=i) for i in range(5)])
    assert needs(many, monkeypatch) > 2 * sizes["probs"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_the_estimate_is_within_a_factor_of_about_two_of_what_is_needed(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    code = "import numba, json, needed; numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS)); "
    code += "print(json.dumps(needed.measured('tiny', 600, 'text.layer.0.out')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=BENCH, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0.4 < found["estimated"] / found["measured"] < 2.5, found
