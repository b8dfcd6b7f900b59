"""Graphs that torch exports from the toy, each made once: an export takes seconds."""

import pytest
from support.onnx_captures import TINY2

from ref.config import VISION
from ref.weights.export import save_hugging_face
from ref.weights.synthetic import synthetic_params, synthetic_vision


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "toy"
    save_hugging_face(synthetic_params(TINY2, 0), folder)
    return folder


@pytest.fixture(scope="session")
def seeing(weights):
    """Return the folder of weights of the same size that see."""
    folder = weights.parent / "seeing"
    save_hugging_face(synthetic_params(TINY2, 0), folder, vision=synthetic_vision(VISION["tiny"], TINY2.width))
    return folder


@pytest.fixture(scope="session")
def exported(weights, seeing):
    """Make a graph in a format and an attention, or return the one that was made before."""
    made = {}

    def graph(dtype="float32", attention="eager", opset=None, inputs="ids"):
        import ref
        from ref.capture.onnx import export
        from ref.capture.transformers import build_from

        key = f"{dtype}-{attention}-{opset}-{inputs}"
        if key not in made:
            model = build_from(ref.load(str(seeing if inputs == "images" else weights)), dtype, attention)
            made[key] = export(model, weights.parent / f"{key}.onnx", opset=opset, inputs=inputs)
        return made[key]

    return graph
