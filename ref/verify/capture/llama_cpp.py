"""Where `ref.capture.llama_cpp` was before; the names stay."""

from ref.capture.llama_cpp import capture as capture
