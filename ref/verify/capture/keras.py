"""Where `ref.capture.keras` was before; the names stay."""

from ref.capture.keras import capture as capture
