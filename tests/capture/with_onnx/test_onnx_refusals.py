"""Graphs that cannot be captured: one line that says what, where, wanted, got; nothing is left behind."""

import sys

import pytest
from support.onnx_captures import IDS, TINY2, changed, needs, needs_export, without_scopes

import ref
from ref.capture.onnx import capture, capture_weights
from ref.weights.export import save_hugging_face
from ref.weights.synthetic import synthetic_params

onnx_is_here = needs("onnx", "onnxruntime")
in_export = [needs_export, onnx_is_here, pytest.mark.witness]


def refused(path, weights, folder, **more):
    with pytest.raises(ref.BadInput) as error:
        capture(path, more.pop("ids", IDS), folder / "dump", weights=str(weights), **more)
    assert [one.name for one in folder.iterdir() if one.name.startswith("dump")] == []
    line = str(error.value)
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


@onnx_is_here
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "graph: wanted an .onnx file, got no such file"),
        (b"no graph", "graph: wanted an ONNX file, got "),
        (b"", "graph: wanted an ONNX file with nodes, got none"),
    ],
)
def test_a_file_that_is_no_graph(weights, tmp_path, content, line):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    assert refused(path, weights, tmp_path).startswith(line)
    assert refused(tmp_path, weights, tmp_path).endswith("wanted an .onnx file, got a folder")


def test_a_package_that_is_missing_is_named_with_its_extra(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    line = refused(tmp_path / "model.onnx", weights, tmp_path)
    assert line == 'capture: onnxruntime: wanted pip install -e ".[onnx]", got no onnxruntime'


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"dtype": "float16"}, "capture: --dtype: wanted none without --export: the graph has its own, got float16"),
        (
            {"export": "keras:tiny"},
            "capture: --export: wanted transformers:W, with W as --weights takes it, got keras:tiny",
        ),
        ({"export": "tiny"}, "capture: --export: wanted transformers:W, with W as --weights takes it, got tiny"),
        ({"runtime": "tvm"}, "capture: no runtime is called tvm; there are 2, such as ort, openvino"),
    ],
)
def test_flags_that_go_with_no_graph(tmp_path, flags, line):
    with pytest.raises(ref.BadInput) as error:
        capture_weights("tiny", [IDS], tmp_path / "dump", graph=str(tmp_path / "model.onnx"), **flags)
    assert str(error.value) == line


class TestGraphs:
    """Each is the clean graph but for one thing."""

    pytestmark = in_export

    def test_without_scopes(self, exported, weights, tmp_path):
        path = changed(exported(), tmp_path, without_scopes)
        assert refused(path, weights, tmp_path).startswith("graph: wanted names of modules at the nodes, such as")

    def test_scopes_that_cannot_be_read(self, exported, weights, tmp_path):
        def damaged(proto):
            for node in proto.graph.node:
                for one in node.metadata_props:
                    one.value = "['model.layers.0.self_attn', " + "(" * 10_000

        path = changed(exported(), tmp_path, damaged)
        assert "wanted names of modules at the nodes" in refused(path, weights, tmp_path)

    def test_of_another_model(self, exported, weights, tmp_path):
        def renamed(proto):
            for node in proto.graph.node:
                for one in node.metadata_props:
                    one.value = one.value.replace("q_norm", "query_norm").replace("Gemma3", "Llama")

        path = changed(exported(), tmp_path, renamed)
        line = refused(path, weights, tmp_path)
        want = "graph: wanted layers of Gemma 3, with q_norm and pre_feedforward_layernorm, got "
        assert line == want + "LlamaDecoderLayer (model.model.layers.0.self_attn)"

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ({"layers": 3}, "layers: wanted 3, as --weights {} has, got 2"),
            ({"ffn_width": 45}, "text.layer.0.ffn.gate: wanted [1, 11, 45], as these weights make it, got [1, 11, 44]"),
            ({"kv_heads": 6}, "text.layer.0.attn.k: wanted [1, 11, 6, 10], as these weights make it, got [1, 11, 30]"),
        ],
    )
    def test_of_other_sizes(self, exported, tmp_path, change, line):
        save_hugging_face(synthetic_params(TINY2._replace(**change), 0), tmp_path / "weights")
        assert refused(exported(), tmp_path / "weights", tmp_path) == line.format(tmp_path / "weights")

    def test_whose_weights_are_missing(self, exported, weights, tmp_path):
        path = changed(exported(), tmp_path, lambda proto: None)
        (tmp_path / "model.onnx.data").unlink()
        line = "weights of the graph: wanted the file model.onnx.data beside it, got no such file"
        assert refused(path, weights, tmp_path) == line

    def test_whose_weights_lie_elsewhere(self, exported, weights, tmp_path):
        path = changed(exported(), tmp_path, lambda proto: None)
        path.write_bytes(
            path.read_bytes().replace(b"model.onnx.data", b"/etc/passwd\0\0\0\0"[:15].replace(b"\0", b"."))
        )
        assert refused(path, weights, tmp_path) == "weights of the graph: wanted a file beside it, got /etc/passwd...."

    def test_with_inputs_that_nothing_is_known_of(self, exported, weights, tmp_path):
        def more(proto):
            other = proto.graph.input.add()
            other.CopyFrom(proto.graph.input[0])
            other.name = "temperature"

        line = refused(changed(exported(), tmp_path, more), weights, tmp_path)
        assert line.startswith("input temperature: wanted one of input_ids, attention_mask, position_ids, ")

    def test_for_another_length(self, exported, weights, tmp_path):
        def fixed(proto):
            proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6

        line = refused(changed(exported(), tmp_path, fixed), weights, tmp_path)
        assert line == "input input_ids: wanted a graph for [1, 11], got one for [1, 6]"

    @pytest.mark.parametrize("runtime", [pytest.param("openvino", marks=needs("openvino")), "ort"])
    def test_that_the_runtime_refuses(self, exported, weights, tmp_path, runtime):
        def unknown(proto):
            next(node for node in proto.graph.node if node.op_type == "Gelu").op_type = "Gelo"

        line = refused(changed(exported(), tmp_path, unknown), weights, tmp_path, runtime=runtime)
        assert "graph: wanted one that" in line
        assert "Gelo" in line

    def test_ids_beyond_the_vocabulary_and_taps_that_do_not_exist(self, exported, weights, tmp_path):
        assert "wanted 0 to 96, got 97" in refused(exported(), weights, tmp_path, ids=[5, 97])
        assert "no_such_tap" in refused(exported(), weights, tmp_path, taps=["no_such_tap"])

    def test_the_graph_stays_as_it_was(self, exported, weights, tmp_path):
        before = exported().read_bytes()
        capture(exported(), IDS, tmp_path / "dump", weights=str(weights))
        assert exported().read_bytes() == before
