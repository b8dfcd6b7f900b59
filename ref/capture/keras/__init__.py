"""Captures of keras-hub: `capture` writes what a model of it computes as a dump."""

from ref.capture.keras.write_dump import capture as capture
from ref.capture.keras.write_dump import capture_weights as capture_weights
