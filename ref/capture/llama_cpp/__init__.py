"""Captures of llama.cpp: `capture` writes what a model of it computes as a dump."""

from ref.capture.llama_cpp.write_dump import capture as capture
from ref.capture.llama_cpp.write_dump import capture_weights as capture_weights
