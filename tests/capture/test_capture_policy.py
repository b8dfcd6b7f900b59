"""A capture's dump says what torch does with numbers: its switches, and what follows for products."""

import json
from importlib.util import find_spec

import jsonschema
import numpy as np
import pytest

import ref
from ref.capture.transformers import build_from, build_model, capture, policy
from ref.capture.transformers.tensors import Product
from ref.dump.write import DumpWriter, load_pass, read_dump
from ref.golden_files.files import schema
from ref.golden_files.sampled import made_pixels

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch

    CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)

IDS = [5, 6, 7, 33, 96]
SEEING = [3, 4, 97, 97, 97, 97, 5]


def text_only(dtype="float32", attention="eager"):
    return build_from(ref.load("tiny")._replace(vision=None), dtype, attention)


def dumped(tmp_path, model, ids=IDS, **more):
    folder = capture(model, ids, tmp_path / "dump", **more)
    content = read_dump(folder)
    return content["policy"], load_pass(folder, content["passes"][0])


@pytest.fixture
def switches():
    """Put torch's switches back."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_products_are_described_by_what_was_heard(tmp_path, dtype):
    said, values = dumped(tmp_path, text_only(dtype))
    assert (said["compute_dtype"], said["products"]) == (dtype, str(values["text.layer.0.attn.q"].dtype))
    narrow = {} if dtype == "float64" else {"matmul_operands": dtype, "accumulate": "float32"}
    assert {name: said.get(name) for name in narrow} == narrow
    assert ("matmul_operands" in said) == bool(narrow)
    assert "conv_operands" not in said  # nothing convolves
    assert said["torch"]["autocast"] is None


@pytest.mark.parametrize("inside", [True, False])
def test_autocast_is_told_by_the_products_wherever_it_is(tmp_path, inside):
    model = text_only()
    if inside:
        forward = model.model.forward

        def cast(*args, **kwargs):
            with torch.autocast("cpu", torch.bfloat16):
                return forward(*args, **kwargs)

        model.model.forward = cast
        said, values = dumped(tmp_path, model)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            said, values = dumped(tmp_path, model)
    assert said["compute_dtype"] == "float32"
    assert (said["products"], said["matmul_operands"]) == ("bfloat16", "bfloat16")
    assert said["torch"]["autocast"] == "bfloat16"
    assert str(values["text.layer.0.attn.q"].dtype) == "bfloat16"
    assert values["text.layer.0.attn.pre_norm"].dtype == np.float32


def test_a_tower_has_convolutions(tmp_path):
    pixels = torch.from_numpy(made_pixels(1, 40))
    said, values = dumped(tmp_path, build_model("tiny"), SEEING, pixel_values=pixels)
    assert said["conv_operands"] == "float32"
    with torch.autocast("cpu", torch.bfloat16):
        said, values = dumped(tmp_path / "cast", build_model("tiny"), SEEING, pixel_values=pixels)
    assert said["conv_operands"] == "bfloat16" == str(values["vision.patch_embed"].dtype)


@pytest.mark.parametrize(("asked", "of_products"), [("highest", None), ("high", "tf32"), ("medium", "bf16")])
def test_a_switch_of_the_cpu_counts_only_where_it_does_something(tmp_path, switches, asked, of_products):
    torch.set_float32_matmul_precision(asked)
    said, _ = dumped(tmp_path, text_only())
    assert said["torch"]["float32_matmul_precision"] == asked == torch.get_float32_matmul_precision()
    assert of_products in (None, said["torch"]["mkldnn_matmul_fp32_precision"])
    x, w = torch.randn(64, 256), torch.randn(128, 256)
    wanted = x.double() @ w.double().T
    error = float((torch.nn.functional.linear(x, w) - wanted).norm() / wanted.norm())
    assert (said["matmul_operands"] == "float32") == (error < 1e-5)


def test_switches_are_read_as_they_are_and_left(tmp_path, recwarn):
    before = policy.read_switches(CPU)
    said, _ = dumped(tmp_path, text_only())
    assert (
        before
        == policy.read_switches(CPU)
        == {k: v for k, v in said["torch"].items() if k not in ("autocast", "compiled")}
    )
    assert before["version"] == torch.__version__
    assert before["device"] == "cpu"
    assert before["cudnn_allow_tf32"] is torch.backends.cudnn.allow_tf32
    assert before["cuda_matmul_allow_tf32"] is torch.backends.cuda.matmul.allow_tf32
    assert before["sdpa_backends"] == ["flash", "efficient", "math", "cudnn"]
    assert len(recwarn) == 0
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert policy.read_switches(CPU)["sdpa_backends"] == ["math"]
    torch.use_deterministic_algorithms(True)
    try:
        assert policy.read_switches(CPU)["deterministic"] is True
    finally:
        torch.use_deterministic_algorithms(False)


def test_switches_that_refuse_to_be_read_are_left_out(monkeypatch):
    def refuses():
        raise RuntimeError("mixed use of the old and the new interface")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuses)
    assert "float32_matmul_precision" not in policy.read_switches(CPU)


# (switches, capability) -> what products and convolutions take on a GPU
GPUS = {
    "defaults": ({"cuda_matmul_allow_tf32": False, "cudnn_allow_tf32": True}, (9, 0), "float32", "tf32"),
    "new defaults": (
        {"cuda_matmul_fp32_precision": "none", "cudnn_conv_fp32_precision": "tf32"},
        (9, 0),
        "float32",
        "tf32",
    ),
    "high": ({"cuda_matmul_allow_tf32": True, "cudnn_allow_tf32": True}, (8, 0), "tf32", "tf32"),
    "old GPU": ({"cuda_matmul_allow_tf32": True, "cudnn_allow_tf32": True}, (7, 5), "float32", "float32"),
    "new": ({"cuda_matmul_fp32_precision": "tf32", "cudnn_conv_fp32_precision": "ieee"}, (9, 0), "tf32", "float32"),
    "new over old": (
        {"cuda_matmul_fp32_precision": "ieee", "cuda_matmul_allow_tf32": True},
        (9, 0),
        "float32",
        "float32",
    ),
}


@pytest.mark.parametrize("case", GPUS)
def test_of_a_gpu_switches_and_capability_decide(monkeypatch, case):
    given, capability, products, convolutions = GPUS[case]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert policy.narrowed("matmul_operands", given, GPU) == products
    assert policy.narrowed("conv_operands", given, GPU) == convolutions
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert policy.narrowed("conv_operands", given, GPU) == "float32"


@pytest.mark.parametrize(
    ("stored", "on", "sums"),
    [("float16", True, "float16"), ("bfloat16", True, "float32"), ("float16", False, "float32")],
)
def test_sums_in_float16_are_said(monkeypatch, stored, on, sums):
    monkeypatch.setattr(policy, "device_of", lambda model: GPU)
    monkeypatch.setattr(policy, "read_switches", lambda device: {"fp16_accumulation": on})
    said = policy.policy_of(text_only(stored), Product(stored, None))
    assert (said["matmul_operands"], said["accumulate"]) == (stored, sums)


def test_the_name_of_a_gpu_is_kept(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert policy.read_switches(GPU)["device"] == "cuda: NVIDIA H200"


# The schema


def test_old_dumps_stay_valid_and_the_schema_stays_closed(tmp_path):
    five = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype", "rope_angle"), "float32")
    five |= {"attention_impl": "eager"}
    said, _ = dumped(tmp_path, text_only())
    content = read_dump(tmp_path / "dump")
    for good in (five, five | {"torch": {}}, said):
        jsonschema.validate(content | {"policy": good}, schema("dump"))
    bad = [five | {"matmul_operands": "int8"}, five | {"torch": {"unknown": 1}}, five | {"torch": {"compiled": "yes"}}]
    for one in [*bad, five | {"precision": "high"}]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | {"policy": one}, schema("dump"))


def test_every_field_is_described():
    fields = schema("dump")["properties"]["policy"]["properties"]
    assert all("description" in one for one in [*fields.values(), *fields["torch"]["properties"].values()])
    assert set(policy.SWITCHES) <= set(fields["torch"]["properties"])


def test_a_writer_takes_the_fields_as_they_are(tmp_path):
    said, values = dumped(tmp_path, text_only())
    content = read_dump(tmp_path / "dump")
    with DumpWriter(tmp_path / "again", content["model"], said) as writer:
        row = {name: content["passes"][0][name] for name in ("ids", "positions", "cached", "image_blocks", "left_pads")}
        writer.add_pass(values, row)
    assert json.loads((tmp_path / "again" / "dump.json").read_text())["policy"] == said
