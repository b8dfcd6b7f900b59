"""Where `ref.capture.gemma` was before; the names stay."""

from ref.capture.gemma import capture as capture
