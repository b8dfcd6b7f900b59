"""Captures of google-deepmind/gemma: `capture` writes what a model of it computes as a dump."""

from ref.capture.gemma.write_dump import capture as capture
from ref.capture.gemma.write_dump import capture_weights as capture_weights
