"""The same name as those of the other adapters."""

from ref.capture.mlx import capture as capture
