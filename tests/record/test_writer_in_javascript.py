"""The writer in JavaScript by itself: passes, images, tensors of other packages, and each refusal in one line."""

import json
import subprocess

from support.recorded import JS_WRITER, check_five_passes, check_served, needs_node

pytestmark = needs_node
HEAD = f"""import {{ Recorder }} from {json.dumps(JS_WRITER.as_uri())};
const folder = process.argv[2];
const ids = [2, 33, 5, 80];
const x = new Float32Array(4 * 36).fill(1);
"""


def ran(folder, code: str, *arguments: str) -> str:
    (folder / "program.mjs").write_text(HEAD + code)
    done = subprocess.run(
        ["node", str(folder / "program.mjs"), *arguments], capture_output=True, text=True, cwd=folder, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


REFUSED = [
    ('rec.record("x", x, "D T", [4, 36])', "shape of x: wanted D T where T is 4, got [4,36]"),
    ('rec.record("x", x, "T D", [144])', "shape of x: wanted T D where T is 4, got [144]"),
    ('rec.record("x", x, "T D", [4, 35])', "shape of x: wanted lengths of 144 values, got [4,35]"),
    ('rec.record("x", x, "T D", [4, -36])', "shape of x: wanted integers from 0, got -36"),
    ('rec.record("x", x, "T D")', "shape of x: wanted an array of lengths, got undefined"),
    ('rec.record("x", x, "(T N) H", [6, 24])', "shape of x: wanted (T N) H where T is 4, got [6,24]"),
    ('rec.record("x", x, "T D D", [4, 6, 6])', 'layout of x: wanted axes such as "T (N H)" or "B N T H", each once'),
    ('rec.record("x", x, "T (D)", [4, 36])', "layout of x: wanted axes"),
    ('rec.record("x", x, "T  D", [4, 36])', "layout of x: wanted axes"),
    ('rec.record("x", x, null, [4, 36])', "layout of x: wanted axes"),
    ('rec.record("x", [1, 2], "", [2])', "x: wanted a typed array, got object"),
    ('rec.record("x", undefined, "", [2])', "x: wanted a typed array, got undefined"),
    ('rec.record("x", x, "T D", [4, 36], "int32")', "x: wanted int32, got Float32Array"),
    ('rec.record("x", new DataView(x.buffer), "T D", [4, 36])', "x: wanted a typed array, got DataView"),
    (
        'rec.record("x", new Uint16Array(144), "T D", [4, 36])',
        'x: wanted a dtype: "bfloat16", "float16" or "uint16", got Uint16Array',
    ),
    ('rec.record("", x, "T D", [4, 36])', "name of a tap: wanted 1 to 255 printable characters"),
    ('rec.record("a\\u001b[2J", x, "T D", [4, 36])', "name of a tap: wanted"),
    ('rec.record("__metadata__", x, "T D", [4, 36])', "name of a tap: wanted"),
    ("rec.record(3, x)", "name of a tap: wanted"),
    ('rec.record("y", x, "T D", [4, 36]); rec.record("y", x, "T D", [4, 36])', "value y: wanted one in a pass"),
    ("rec.nextPass([])", "ids: wanted at least one token, got none"),
    ("rec.nextPass([1.5])", "ids: wanted integers from 0, got 1.5"),
    ('rec.nextPass("12")', "ids: wanted integers from 0, got NaN"),
    ("rec.nextPass(undefined)", "ids: wanted integers from 0, got NaN"),
    ("rec.nextPass([1], { cached: 3 })", "cached: wanted 0, or the 4 keys that the pass before leaves, got 3"),
    ("rec.nextPass([1], { cached: 0, leftPads: 1 })", "leftPads: wanted fewer than 1, got 1"),
    (
        "rec.nextPass([1], { positions: [1, 2] })",
        "positions: wanted 1, as ids, -1 at 0 left pads and not everywhere, got",
    ),
    (
        "rec.nextPass([1], { positions: [-1] })",
        "positions: wanted 1, as ids, -1 at 0 left pads and not everywhere, got",
    ),
    ("rec.nextPass([1], { leftPads: 1 })", "leftPads: wanted 0, as the row began with, got 1"),
    ("rec.nextPass([1], { row: -1 })", "row: wanted integers from 0, got -1"),
    ("rec.nextPass([1], { row: 7, cached: 4 })", "cached: wanted 0, or the 0 keys that row 7 has, got 4"),
    (
        "rec.nextPass([1], { kept: [[0, 5, 0]] })",
        "kept: wanted [start, stop, position] within the 4 keys that are there",
    ),
    (
        "rec.nextPass([1], { kept: [[1, 3, 1]] })",
        "kept: wanted [start, stop, position] within the 4 keys that are there",
    ),
    ("rec.nextPass([1], { kept: 3 })", "kept: wanted integers from 0, got NaN"),
    ("rec.nextPass([1], { kept: [[0, 4, 0]], cached: 4 })", "cached: wanted nothing beside kept, which says it, got 4"),
    ("rec.nextPass([1, 2], { slots: [4, 4] })", "slots: wanted 2, as ids, each once, got [4,4]"),
    ("rec.nextPass([1], { slots: [4], cacheSlots: 4 })", "cacheSlots: wanted integers from 5, got 4"),
    (
        'rec.record("z", x, "T D", [4, 36], undefined, new Float32Array(3))',
        "shape of plus of z: wanted lengths of 3 values",
    ),
    ('rec.record("z", new Int8Array(4), "T", [4], undefined, x)', "plus of z: wanted values of floats, got int8"),
    (
        "new Recorder(path.join(folder, '..', 'here'), ids, { adapter: { name: 'x' } })",
        "adapter: wanted a text as name",
    ),
    ("rec.nextPass([1], { imageBlocks: [[2, 2]] })", "imageBlocks: wanted start < stop <= 5, one behind the other"),
    ("new Recorder(path.join(folder, '..', 'here'), ids, { policy: { dtype: 'float32' } })", "policy: wanted some of"),
    (
        "new Recorder(path.join(folder, '..', 'here'), ids, { weights: { path: 'x' } })",
        "weights: wanted some of name dtype",
    ),
    ("new Recorder(path.join(folder, '..', 'here'), ids, { names: 'mine' })", "names: wanted ref transformers gemma"),
    ("new Recorder(path.dirname(folder), ids)", "wanted an empty or new folder, got something in the way"),
    ("new Recorder('/dev/null/dump', ids)", "/dev/null/dump: wanted a folder that can be made, got "),
    ("new Recorder(path.join(folder, '..', 'none'), ids).close()", "none: wanted values to write, got none"),
]
REFUSING = """import path from "node:path";
const rec = new Recorder(folder, ids);
const said = [];
for (const call of [CALLS]) {
  try { call(); said.push(null); } catch (error) { said.push(error.message); }
}
rec.close();
for (const call of [() => rec.record("x", x, "T D", [4, 36]), () => rec.nextPass([1]), () => rec.close()]) {
  try { call(); said.push(null); } catch (error) { said.push(error.message); }
}
console.log(JSON.stringify(said));
"""


def test_each_refusal_has_one_line_and_leaves_the_recorder_as_it_was(tmp_path):
    calls = ",".join(f"() => {{ {call} }}" for call, _ in REFUSED)
    said = json.loads(ran(tmp_path, REFUSING.replace("CALLS", calls), str(tmp_path / "dump")))
    for line, (call, want) in zip(said, [*REFUSED, *[("", "dump: wanted a recorder that is open")] * 3], strict=True):
        assert line is not None, call
        assert want in line, call
        assert line.isprintable(), call
    content = json.loads((tmp_path / "dump/dump.json").read_text())
    assert [list(row["tensors"]) for row in content["passes"]] == [["y"]]


FULL = """
const pixels = { data: new Float32Array(2 * 3 * 8 * 8).fill(0.5), dims: [2, 3, 8, 8] };
const policy = { compute_dtype: "bfloat16" };
const rec = new Recorder(folder, ids, { weights: "tiny", policy, producer: 'a "port"', leftPads: 2 });
rec.record("text.layer.0.in", x, "T D", [4, 36]);
rec.nextPass([2n]);
rec.nextPass(new Int32Array([2, 33]), { cached: 0, positions: [0, 3] });
rec.nextPass([2]);
rec.nextPass(ids, { cached: 0, imageBlocks: [[1, 3], [3, 4]], pixels });
rec.record("text.layer.0.in", x, "T D", [4, 36]);
rec.close();
"""


def test_passes_images_and_what_is_said_of_the_run(tmp_path):
    (tmp_path / "dump").mkdir()  # an empty one is none
    ran(tmp_path, FULL, str(tmp_path / "dump"))
    check_five_passes(tmp_path / "dump")


SERVED = """
const about = { weights: "tiny", adapter: { name: "lora", merged: true }, row: 0, positions: [0, 1, 2, -1] };
const rec = new Recorder(folder, ids, about);
const half = new Float32Array(4 * 36);
half[0] = 0.5;
rec.record("text.layer.0.in", x, "T D", [4, 36], undefined, half);
rec.nextPass([2, 33], { row: 1, slots: [3, 1], cacheSlots: 5 });
rec.nextPass([5], { row: 0 });
rec.nextPass([2], { kept: [[0, 2, 0]] });
rec.close();
"""


def test_what_servers_do_to_a_cache(tmp_path):
    ran(tmp_path, SERVED, str(tmp_path / "dump"))
    check_served(tmp_path / "dump")


TENSORS = """
const rec = new Recorder(folder, ids, { weights: "tiny" });
rec.record("text.layer.0.in", { data: x, dims: [1, 4, 36], type: "float32" }, "B T D");
rec.record("half", { data: new Uint16Array(4).fill(0x3c00), dims: [4, 1], type: "float16" }, "T D");
rec.record("mask", { data: new Uint8Array([0, 1, 1, 1]), dims: [4, 1], type: "bool" }, "T D");
rec.record("part", new Float32Array(x.buffer, 16, 4), "T D", [4, 1]);
rec.close();
"""


def test_a_tensor_of_onnxruntime_brings_its_lengths_and_its_format(tmp_path):
    ran(tmp_path, TENSORS, str(tmp_path / "dump"))
    [row] = json.loads((tmp_path / "dump/dump.json").read_text())["passes"]
    formats = {name: (one["dtype"], one["shape"]) for name, one in row["tensors"].items()}
    assert formats == {
        "text.layer.0.in": ("float32", [1, 4, 36]),
        "half": ("float16", [4, 1]),
        "mask": ("bool", [4, 1]),
        "part": ("float32", [4, 1]),
    }


def test_abandoned_nothing_is_left(tmp_path):
    code = 'const rec = new Recorder(folder, ids); rec.record("x", x, "T D", [4, 36]); rec.abandon(); rec.abandon();'
    ran(tmp_path, code, str(tmp_path / "dump"))
    assert [path.name for path in tmp_path.iterdir()] == ["program.mjs"]
