"""Captures of mlx-lm's and mlx-vlm's Gemma 3: `capture` writes what a model of them computes as a dump."""

from ref.capture.mlx.write_dump import capture as capture
from ref.capture.mlx.write_dump import capture_weights as capture_weights
