"""Captures of ONNX graphs in onnxruntime and OpenVINO: `capture` writes what a graph computes as a dump."""

from ref.capture.onnx.command import capture_weights as capture_weights
from ref.capture.onnx.export import export as export
from ref.capture.onnx.export import export_weights as export_weights
from ref.capture.onnx.write_dump import capture as capture
