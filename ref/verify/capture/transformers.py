"""Where `ref.capture.transformers` was before; the names stay."""

from ref.capture.transformers import capture as capture
