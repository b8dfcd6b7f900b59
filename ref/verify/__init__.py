"""Where the judge was before it had rooms of its own: `ref.verify.compare` is `ref.compare`."""

from ref import compare as compare
