"""Where `ref.capture` was before; the names of its adapters stay."""
