"""gemma3-ref: Gemma 3 as readable array functions, judged by independent witnesses on real weights.

Axis letters, one meaning each, everywhere:

    B  batch            T  query positions    S  key positions      D  model width
    N  query heads      K  key/value heads    G  queries per kv head, N = K*G, n = k*G + g
    H  head dim         F  FFN hidden width   V  vocabulary         L  layers
    P  image patches    M  soft tokens per image    C, Y, X  channel, row, column    O, I  outputs, inputs of a linear

The small letter of an axis is one place on it: t a query position, n a query head. Of other names of one letter only
these are used: x y z what goes in and comes out, q k v queries, keys and values, w a weight, c a configuration, p the
parameters of a layer, h the residual stream, d a difference or a block's scale, i j r counters, a b any two alike,
W the window; inside a formula the letters of its source; inside a comprehension the first letter of what it goes
through.

Three kinds of function: a float op is a NumPy *definition* (plain name, the formula) with its Numba *kernel* (`_jit`)
below it in the same file, tested equal; an integer rule is one function, proved by properties; composition is written
once over an `ops` argument (`ref.ops.DEFINITION` or `ref.ops.KERNEL`).

In the vision tower B counts images, D, N, H and F are the tower's own.

Reading order: config -> ops/norm, linear, rope, visibility, attention, gelu -> model/block -> model/text ->
model/cache -> model/generate -> prompt/tokenizer, chat; images: ops/pan_and_scan, resize, patches -> prompt/images,
placeholders -> model/vision -> model/multimodal; then weights/; the judge: emulate/ -> dump/ ->
mutants/ -> measure/ -> hypotheses/ -> diagnosis/, from_logits/ -> judge/ -> report/, captures of other
implementations in capture/.

Importing `ref` imports and compiles nothing; the names below load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and readers see; at run time `__getattr__` loads each on first use
    from ref.config import SIZES as SIZES
    from ref.config import TextConfig as TextConfig
    from ref.errors import BadInput as BadInput
    from ref.judge.compare import compare as compare
    from ref.model.generate import generate as generate
    from ref.model.multimodal import Images as Images
    from ref.model.multimodal import forward_images as forward_images
    from ref.model.taps import Recorder as Recorder
    from ref.model.text import How as How
    from ref.model.text import forward as forward
    from ref.ops import DEFINITION as DEFINITION
    from ref.ops import KERNEL as KERNEL
    from ref.prompt.images import preprocess as preprocess
    from ref.prompt.images import read_image as read_image
    from ref.prompt.tokenizer import Tokenizer as Tokenizer
    from ref.weights.resolve import load as load

__version__ = "0.1.0"

_HOMES = {
    "SIZES": "ref.config",
    "TextConfig": "ref.config",
    "BadInput": "ref.errors",
    "compare": "ref.judge.compare",
    "Images": "ref.model.multimodal",
    "forward_images": "ref.model.multimodal",
    "generate": "ref.model.generate",
    "Recorder": "ref.model.taps",
    "How": "ref.model.text",
    "forward": "ref.model.text",
    "DEFINITION": "ref.ops",
    "KERNEL": "ref.ops",
    "preprocess": "ref.prompt.images",
    "read_image": "ref.prompt.images",
    "Tokenizer": "ref.prompt.tokenizer",
    "load": "ref.weights.resolve",
}


def __getattr__(name: str):
    """Load a re-export when it is first used (PEP 562), so that `import ref` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ref' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
