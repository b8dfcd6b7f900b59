"""What is captured: a small model in a file of each type."""

import pytest
from support.llama_cpp_captures import DTYPES, save


@pytest.fixture
def llama_cpp():
    return pytest.importorskip("llama_cpp", reason='needs llama-cpp-python: pip install -e ".[llama]"')


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("gguf")
    return {kind: save(folder / f"{kind}.gguf", kind) for kind in DTYPES}
