"""The writer in C by itself: passes, images, what is said of the run, C++, and each refusal in one line."""

import shutil
import subprocess

import pytest
from support.recorded import ROOT, check_five_passes, check_served, compiled, needs_cc

from ref.dump.open import open_dump

pytestmark = needs_cc
MAIN = """#include "gemma3_record.h"

int main(int count, char **given) {{
  static g3_recorder rec;
  static const float x[4 * 36] = {{1}};
  static const int32_t ids[] = {{2, 33, 5, 80}}, negative[] = {{1, -2}};
  static const int32_t nowhere[] = {{-1, -1, -1, -1}}, right[] = {{0, 1, 2, -1}};
  const char *folder = given[1];
  switch (count < 3 ? 0 : atoi(given[2])) {{
{cases}
  }}
  (void)x, (void)ids, (void)negative, (void)nowhere, (void)right;
  if (g3_close(&rec)) {{
    puts(rec.error);
    return 1;
  }}
  return 0;
}}
"""


def program_of(folder, *bodies, flags=(), suffix="c"):
    """Compile a program with one case for each body."""
    cases = "\n".join(f"    case {number}: {body} break;" for number, body in enumerate(bodies))
    source = folder / f"program.{suffix}"
    source.write_text(MAIN.format(cases=cases))
    return compiled(source, folder, *flags)


OPEN = 'g3_open(&rec, folder, "tiny"); g3_prompt(&rec, ids, 4);'
VALUE = 'g3_record(&rec, "text.layer.0.in", "T D", G3_F32, x, G3_SHAPE(4, 36));'
REFUSED = [
    (
        OPEN + 'g3_record(&rec, "x", "D T", G3_F32, x, G3_SHAPE(4, 36));',
        "shape of x: wanted D T where T is 4, got 2 axes",
    ),
    (OPEN + 'g3_record(&rec, "x", "T D", G3_F32, x, G3_SHAPE(4));', "shape of x: wanted T D where T is 4, got 1 axes"),
    (OPEN + 'g3_record(&rec, "x", "(T N) H", G3_F32, x, G3_SHAPE(6, 24));', "shape of x: wanted (T N) H where T is 4"),
    (OPEN + 'g3_record(&rec, "x", "", G3_F32, x, G3_SHAPE(4, -9));', "shape of x: wanted lengths"),
    (OPEN + 'g3_record(&rec, "x", "", G3_F32, x, G3_SHAPE(INT64_MAX, 4));', "shape of x: wanted lengths that memory"),
    (OPEN + 'g3_record(&rec, "x", "T D D", G3_F32, x, G3_SHAPE(4, 6, 6));', "layout of x: wanted axes such as T (N H)"),
    (OPEN + 'g3_record(&rec, "x", "T (D", G3_F32, x, G3_SHAPE(4, 36));', "layout of x: wanted axes"),
    (OPEN + 'g3_record(&rec, "x", "T (D)", G3_F32, x, G3_SHAPE(4, 36));', "layout of x: wanted axes"),
    (OPEN + 'g3_record(&rec, "x", "T  D", G3_F32, x, G3_SHAPE(4, 36));', "layout of x: wanted axes"),
    (OPEN + 'g3_record(&rec, "x", "T D ", G3_F32, x, G3_SHAPE(4, 36));', "layout of x: wanted axes"),
    (OPEN + 'g3_record(&rec, "x", "T\\nQ", G3_F32, x, G3_SHAPE(4, 36));', "layout of x: wanted axes"),
    (OPEN + 'g3_record(&rec, "x", "T D", G3_F32, NULL, G3_SHAPE(4, 36));', "x: wanted values, got NULL"),
    (OPEN + 'g3_record(&rec, "x", "T D", (g3_dtype)99, x, G3_SHAPE(4, 36));', "dtype of x: wanted a g3_dtype, got 99"),
    (OPEN + VALUE + VALUE, "value text.layer.0.in: wanted one in a pass, got a second one"),
    (OPEN + 'g3_record(&rec, "", "", G3_F32, x, G3_SHAPE(4, 36));', "name of a tap: wanted 1 to 255 letters of ASCII"),
    (OPEN + 'g3_record(&rec, "a\\"b", "", G3_F32, x, G3_SHAPE(4, 36));', "name of a tap: wanted"),
    (OPEN + 'g3_record(&rec, "a\\x1b[2J", "", G3_F32, x, G3_SHAPE(4, 36));', "name of a tap: wanted"),
    (OPEN + 'g3_record(&rec, "__metadata__", "", G3_F32, x, G3_SHAPE(4, 36));', "name of a tap: wanted"),
    ('g3_open(&rec, folder, "tiny");' + VALUE, "text.layer.0.in: wanted g3_prompt before it"),
    ('g3_open(&rec, folder, "tiny"); g3_step(&rec, ids, 1);', "g3_step: wanted g3_prompt before it"),
    ('g3_open(&rec, folder, "tiny"); g3_prompt(&rec, ids, 0);', "ids: wanted at least one token, got 0"),
    ('g3_open(&rec, folder, "tiny"); g3_prompt(&rec, negative, 2);', "ids: wanted integers from 0, got -2"),
    (OPEN + VALUE + "rec.left_pads = 4;", "left_pads: wanted fewer than there are ids, got 4"),
    (
        OPEN + VALUE + "rec.left_pads = 1; rec.positions = ids;",
        "positions: wanted -1 at left pads, else -1 or more, got 2",
    ),
    (OPEN + VALUE + "rec.positions = nowhere;", "positions: wanted a token that is no padding, got -1 at all of them"),
    (OPEN + VALUE + "g3_step(&rec, ids, 1); rec.left_pads = 1;", "left_pads: wanted 0, as the row began with, got 1"),
    (
        OPEN + VALUE + "g3_step(&rec, ids, 1); rec.kept = ids; rec.kept_ranges = 1;",
        "kept: wanted start, stop, position within the 4 keys that are there, positions one after",
    ),
    (
        OPEN + VALUE + "rec.slots = ids; rec.cache_slots = 33;",
        "slots: wanted 0 or more, and less than cache_slots, got 33",
    ),
    (OPEN + VALUE + "rec.cache_slots = -1;", "cache_slots: wanted 1 or more, got -1"),
    (
        OPEN + VALUE + "rec.positions = right; g3_step(&rec, ids, 1); rec.kept = ids; rec.kept_ranges = 1;",
        "positions: wanted beside kept, since the row has padding",
    ),
    (OPEN + VALUE + "g3_turn(&rec, -1, ids, 1);", "row: wanted 0 or more, got -1"),
    (
        OPEN + 'g3_record_sum(&rec, "x", "T", G3_I8, x, x, G3_SHAPE(4));',
        "plus of x: wanted floats, and a name of at most 250 letters",
    ),
    (
        OPEN + VALUE + "rec.image_blocks = ids; rec.images = 1;",
        "image_blocks: wanted start < stop, one behind the other",
    ),
    (OPEN + VALUE + "g3_pixels(&rec, G3_U8, x, (int64_t[]){1, 1, 1, 1});", "pixels: wanted floats, once in a pass"),
    (OPEN, "dump: wanted values to write, got none"),
    (OPEN + VALUE + "g3_close(&rec);", "dump: wanted a recorder that is open"),
    ('g3_open(&rec, "", "tiny");', "folder: wanted a path of 1 to 1023 bytes"),
    ('g3_open(&rec, "/dev/null/dump", "tiny");', "/dev/null/dump: wanted "),
]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    return program_of(tmp_path_factory.mktemp("program"), *(body for body, _ in REFUSED))


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_a_refusal_has_one_line_and_leaves_nothing(tmp_path, refusing, number):
    command = [str(refusing), str(tmp_path / "dump"), str(number)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stdout.splitlines()
    assert REFUSED[number][1] in line
    assert line.isprintable()
    kept = [path.name for path in tmp_path.iterdir()]
    assert kept == (["dump"] if "that is open" in line else [])  # closed twice: the dump is whole


def test_a_folder_in_use(tmp_path):
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump/theirs").touch()
    done = subprocess.run(
        [str(program_of(tmp_path, OPEN + VALUE)), str(tmp_path / "dump")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, f"{tmp_path / 'dump'}: wanted an empty or new folder\n")
    assert [path.name for path in (tmp_path / "dump").iterdir()] == ["theirs"]


FULL = """
  static const int32_t blocks[] = {1, 3, 3, 4}, places[] = {0, 3};
  static const float pixels[2 * 3 * 8 * 8] = {0.5f};
  g3_open(&rec, folder, "tiny");
  rec.compute_dtype = "bfloat16";
  rec.producer = "a \\"port\\"";
  g3_prompt(&rec, ids, 4);
  rec.left_pads = 2;
  g3_record(&rec, "text.layer.0.in", "T D", G3_F32, x, G3_SHAPE(4, 36));
  g3_step(&rec, ids, 1);
  g3_prompt(&rec, ids, 2);
  rec.positions = places;
  g3_step(&rec, ids, 1);
  g3_prompt(&rec, ids, 4);
  rec.image_blocks = blocks;
  rec.images = 2;
  g3_pixels(&rec, G3_F32, pixels, (const int64_t[]){2, 3, 8, 8});
  g3_record(&rec, "text.layer.0.in", "T D", G3_F32, x, G3_SHAPE(4, 36));
"""


def test_passes_images_and_what_is_said_of_the_run(tmp_path):
    (tmp_path / "dump").mkdir()  # an empty one is none
    program = program_of(tmp_path, "{" + FULL + "}")
    subprocess.run([str(program), f"{tmp_path / 'dump'}/"], check=True)
    check_five_passes(tmp_path / "dump")


SERVED = """
  static const int32_t places[] = {0, 1, 2, -1}, slots[] = {3, 1}, kept[] = {0, 2, 0}, two[] = {2};
  static const float half[4 * 36] = {0.5f};
  g3_open(&rec, folder, "tiny");
  rec.adapter = "lora";
  rec.adapter_merged = 1;
  g3_turn(&rec, 0, ids, 4);
  rec.positions = places;
  g3_record_sum(&rec, "text.layer.0.in", "T D", G3_F32, x, half, G3_SHAPE(4, 36));
  g3_turn(&rec, 1, ids, 2);
  rec.slots = slots;
  rec.cache_slots = 5;
  g3_turn(&rec, 0, ids + 2, 1);
  g3_step(&rec, ids, 1);
  rec.kept = kept;
  rec.kept_ranges = 1;
  rec.positions = two;
"""


def test_what_servers_do_to_a_cache(tmp_path):
    subprocess.run([str(program_of(tmp_path, "{" + SERVED + "}")), str(tmp_path / "dump")], check=True)
    check_served(tmp_path / "dump")


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs c++, which is not installed")
def test_it_is_c_plus_plus_too(tmp_path):
    body = OPEN + 'const int64_t shape[] = {4, 36}; g3_record(&rec, "text.layer.0.in", "T D", G3_F32, x, shape, 2);'
    flags = ["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    program = program_of(tmp_path, "{" + body + "}", flags=flags)
    subprocess.run([str(program), str(tmp_path / "dump")], check=True)
    assert len(open_dump(tmp_path / "dump").passes) == 1


def test_every_line_fits_a_screen():
    files = [*(ROOT / "examples/c_writer").iterdir(), *(ROOT / "examples/node_writer").glob("*.mjs")]
    long = [f"{path.name}:{row}" for path in files if path.suffix != ".md"
            for row, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 120]  # fmt: skip
    assert long == []
