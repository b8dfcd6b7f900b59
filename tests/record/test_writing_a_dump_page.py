"""docs/writing-a-dump.md: each of its snippets is run as it stands, on the toy model, and its dump judged."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from support.recorded import JS_WRITER, ROOT, compiled, needs_cc, needs_node

import ref
import ref.record
from ref.model.taps import Recorder
from ref.model.text import How

PAGE = (ROOT / "docs/writing-a-dump.md").read_text()
IDS = [2, 33, 5, 80, 7]
OF_TINY = {"270m": "tiny", "640": "36", "4, 256": "12, 10", "262144": "97"}
TAPS = ("text.layer.0.in", "text.layer.0.attn.q", "text.logits")


def snippet(language: str) -> str:
    [code] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    for real, toy in OF_TINY.items():
        assert real in code or language == "python"
        code = code.replace(real, toy)
    return code


def values(wrong: bool) -> dict[str, np.ndarray]:
    taps = Recorder(*TAPS)
    ref.forward(ref.load("tiny").params, [IDS], How(taps=taps, dtype=np.float32))
    x, q, logits = (taps.values[tap][0].astype(np.float32) for tap in TAPS)
    return {"x": x / np.float32(6) if wrong else x, "q": q.reshape(len(IDS), -1), "logits": logits}


def in_python(folder, given):
    exec(snippet("python"), {"ids": IDS, **given})


C_MAIN = """
static float x[SIZE_x], q[SIZE_q], logits[SIZE_logits];

int main(void) {
  const int32_t ids[] = {IDS};
  FILE *file = fopen("values.bin", "rb");
  size_t read = fread(x, 4, SIZE_x, file) + fread(q, 4, SIZE_q, file) + fread(logits, 4, SIZE_logits, file);
  fclose(file);
  return read == SIZE_x + SIZE_q + SIZE_logits ? write_dump(ids, (int)(sizeof ids / sizeof ids[0]), x, q, logits) : 3;
}
"""


def in_c(folder, given):
    (folder / "values.bin").write_bytes(b"".join(value.tobytes() for value in given.values()))
    code = snippet("c") + C_MAIN.replace("IDS", ", ".join(map(str, IDS)))
    for name, value in given.items():
        code = code.replace(f"SIZE_{name}", str(value.size))
    (folder / "port.c").write_text(code)
    subprocess.run([str(compiled(folder / "port.c", folder))], check=True, cwd=folder)


def in_javascript(folder, given):
    shutil.copy(JS_WRITER, folder)
    parts = [f"const ids = {IDS};"]
    for name, value in given.items():
        (folder / f"{name}.bin").write_bytes(value.tobytes())
        parts.append(f'const {name} = new Float32Array(new Uint8Array(fs.readFileSync("{name}.bin")).buffer);')
    lines = snippet("js").splitlines()
    code = "\n".join([lines[0], 'import fs from "node:fs";', *parts, *lines[1:]])
    (folder / "port.mjs").write_text(code)
    subprocess.run(["node", "port.mjs"], check=True, cwd=folder)


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(in_python, id="python"),
        pytest.param(in_c, id="c", marks=needs_cc),
        pytest.param(in_javascript, id="javascript", marks=needs_node),
    ],
)
def test_a_snippet_writes_a_dump_that_is_judged(tmp_path, monkeypatch, run, wrong):
    monkeypatch.chdir(tmp_path)
    run(tmp_path, values(wrong))
    report = ref.compare("dump")
    assert report["compared"]["taps"] == 3
    assert report["verdict"] == ("bug" if wrong else "match")
    assert not wrong or report["first"]["tap"] == "text.layer.0.in"


def test_the_page_has_every_letter_that_a_layout_may_have():
    table = PAGE.split("| letter | axis |")[1].split("\n\n")[0]
    cells = [cell.strip() for row in table.splitlines()[2:] for cell in row.split("|")[1:5:2]]
    assert {letter for cell in cells for letter in cell.split()} == set(ref.record.AXES) - {"1"}


def test_the_page_names_what_the_writers_have():
    header = (ROOT / "examples/c_writer/gemma3_record.h").read_text()
    module = JS_WRITER.read_text()
    for word in (
        "g3_open",
        "g3_prompt",
        "g3_step",
        "g3_record",
        "g3_pixels",
        "g3_close",
        "g3_turn",
        "g3_record_sum",
        "image_blocks",
        "left_pads",
        "kept",
        "kept_ranges",
        "slots",
        "cache_slots",
        "adapter_merged",
    ):
        assert word in PAGE
        assert re.search(rf"\b{word}\b", header)
    for word in (
        "nextPass",
        "record",
        "close",
        "imageBlocks",
        "leftPads",
        "pixels",
        "positions",
        "row",
        "kept",
        "slots",
        "cacheSlots",
        "adapter",
        "merged",
    ):
        assert word in PAGE
        assert re.search(rf"\b{word}\b", module)
