"""Captures of Hugging Face transformers: `capture` writes what a model of it computes as a dump."""

from ref.capture.transformers.command import capture_weights as capture_weights
from ref.capture.transformers.model import build_from as build_from
from ref.capture.transformers.model import build_model as build_model
from ref.capture.transformers.turns import Turn as Turn
from ref.capture.transformers.turns import capture_turns as capture_turns
from ref.capture.transformers.write_dump import capture as capture
