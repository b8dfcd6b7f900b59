"""What distinguishes one Gemma 3 from another: a table with one row per released size, and TINY; vision; crops.

Source: Gemma 3 Technical Report, table 1; google-deepmind/gemma `gm/nn/gemma3/_gemma3.py` and transformers 5.23
`convert_gemma3_weights.py` for the values the report leaves out.
"""

from math import isqrt
from typing import Any, Literal, NamedTuple

from ref.errors import wanted

PAD, EOS, BOS, UNK = 0, 1, 2, 3
START_OF_TURN, END_OF_TURN = 105, 106
TWO_NEWLINES = 108
START_OF_IMAGE, END_OF_IMAGE = 255_999, 256_000
SOFT_TOKEN = 262_144  # stands for one row of image features; outside the SentencePiece model
MOST_LAYERS = 1000  # a file may claim any number, and each layer's tensors are listed before they are looked for
VOCABULARY = 262_144  # the SentencePiece model
EXTRA_ROWS = 64  # that transformers' multimodal checkpoints append to the embedding, the first for the soft token


class TextConfig(NamedTuple):
    """Hyperparameters of the text model. Axis letters as in `help(ref)`."""

    name: str
    width: int  # D
    layers: int  # L
    query_heads: int  # N
    kv_heads: int  # K
    head_dim: int  # H, never D / N: no released size satisfies that
    ffn_width: int  # F
    query_scale: float  # the multiplier on the scores (others store its -2nd power, `query_pre_attn_scalar`)
    window: int  # W: keys a local layer sees, the query's own included
    max_positions: int
    rope_factor: float = 1.0  # global layers only: angles are divided by it
    vocabulary: int = VOCABULARY  # V
    rope_base_local: float = 10_000.0
    rope_base_global: float = 1_000_000.0
    global_every: int = 6  # layer i is global iff (i + 1) % global_every == 0
    rms_eps: float = 1e-6

    def is_global(self, layer: int) -> bool:
        """Tell whether the layer (from 0) sees all earlier keys; the others see a window of W."""
        return (layer + 1) % self.global_every == 0

    def rope(self, layer: int) -> tuple[float, float]:
        """Return (base, factor) of the layer's rotary angles: position / (factor * base^(2j/H))."""
        if self.is_global(layer):
            return self.rope_base_global, self.rope_factor
        return self.rope_base_local, 1.0

    def window_of(self, layer: int) -> int | None:
        """Return the layer's window W, or None where it is global."""
        return None if self.is_global(layer) else self.window


class VisionConfig(NamedTuple):
    """Hyperparameters of the SigLIP So400m/14 tower; the same for 4B, 12B and 27B."""

    width: int = 1152  # D of the tower
    layers: int = 27
    heads: int = 16  # N; head dim is width / heads
    ffn_width: int = 4304  # F
    patch: int = 14  # side of a patch in pixels
    image: int = 896  # side of an image in pixels
    channels: int = 3  # C
    soft_tokens: int = 256  # M, per image
    layer_norm_eps: float = 1e-6

    @property
    def side(self) -> int:
        """Patches along a side of the image."""
        return self.image // self.patch

    @property
    def pool(self) -> int:
        """Side of the square of patches that is averaged into one soft token."""
        return self.side // isqrt(self.soft_tokens)


SIGLIP = VisionConfig()


class CropConfig(NamedTuple):
    """How Pan & Scan cuts an image into crops that are seen beside the whole."""

    name: str
    min_ratio: float  # of the longer to the shorter side, from which on there are crops
    min_crop: int = 256  # pixels; no crops where one would be narrower
    max_crops: int = 4
    past_edge: Literal["clip", "pad"] = "clip"  # the last crop may reach past the image: cut it, or fill with black


CROPS = {c.name: c for c in (CropConfig("transformers", 1.2), CropConfig("gemma_pytorch", 1.5, past_edge="pad"))}

# Axis lengths all differ (B 2, W 5, L 7, K 3, G 4, H 10, N 12, T 19, D 36, F 44, V 97), D is not N*H, D/N is
# neither H nor 15, and the layers are five local, one global, one local: no branch and no transpose can hide.
# fmt: off
SIZES = {c.name: c for c in [
    #           name     D   L   N   K    H      F  query_scale   W  positions  factor
    TextConfig("270m",  640, 18,  4,  1, 256,  2048, 256**-0.5,  512,  32_768),
    TextConfig("1b",   1152, 26,  4,  1, 256,  6912, 256**-0.5,  512,  32_768),
    TextConfig("4b",   2560, 34,  8,  4, 256, 10240, 256**-0.5, 1024, 131_072, 8.0),
    TextConfig("12b",  3840, 48, 16,  8, 256, 15360, 256**-0.5, 1024, 131_072, 8.0),
    TextConfig("27b",  5376, 62, 32, 16, 128, 21504, 168**-0.5, 1024, 131_072, 8.0),
    # one local and one global layer of the 4B with few tokens: full width at a size that a witness runs in float64
    TextConfig("4b-pair", 2560, 2, 8, 4, 256, 10240, 256**-0.5, 1024, 131_072, 8.0, vocabulary=1009, global_every=2),
    TextConfig("tiny",   36,  7, 12,  3,  10,    44,  15**-0.5,    5, 131_072, 8.0, vocabulary=97),
]}
# fmt: on
RELEASED = ("270m", "1b", "4b", "12b", "27b")
HAS_VISION = ("4b", "12b", "27b")
# Toy towers beside the text of `tiny`, lengths unlike its and each other's: 64 patches of 5 x 5 to 4 soft tokens, fewer
# than the window of 5, and 144 patches to 9, more than it: only there the ways to compose window and block differ.
TINY_VISION = VisionConfig(26, 2, 2, 34, 5, 40, 3, 4)
VISION = dict.fromkeys((*HAS_VISION, "4b-pair"), SIGLIP) | {
    "tiny": TINY_VISION,
    "tiny-long": TINY_VISION._replace(image=60, soft_tokens=9),
}


def check_numbers(config: TextConfig | VisionConfig, where: object, prefix: str = "") -> None:
    """Refuse the first field that is no number of its kind, or not above 0; a name is none and passes.

    Args:
        config: a row of either table.
        where: the file, for refusals.
        prefix: put before the field's name there.

    Raises:
        BadInput: a size is not a positive integer, or a float is not finite and positive.
    """
    for field, value in config._asdict().items():
        kind = type(config).__annotations__[field]
        if kind is str:
            continue
        if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
            raise wanted(prefix + field, where, "an integer" if kind is int else "a number", repr(value))
        if not 0 < value < 1e300:  # also NaN; an integer of 400 digits is no float at all
            raise wanted(prefix + field, where, "a finite number > 0", value)
    if config.layers > MOST_LAYERS:
        raise wanted(f"{prefix}layers", where, f"at most {MOST_LAYERS}", config.layers)


def check_config(config: TextConfig, where: object = "config") -> TextConfig:
    """Return the configuration unchanged, or refuse it by naming the first field that is impossible.

    Raises:
        BadInput: a size is not a positive integer, a float is not finite and positive, query heads are no multiple
            of kv heads, or head_dim is odd (the rotation pairs channels).
    """
    check_numbers(config, where)
    if config.query_heads % config.kv_heads:
        raise wanted("query_heads", where, f"a multiple of kv_heads = {config.kv_heads}", config.query_heads)
    if config.head_dim % 2:
        raise wanted("head_dim", where, "an even number (RoPE rotates pairs)", config.head_dim)
    return config


def size_name(layers: int, width: int) -> str:
    """Return the name of the row of the table that has so many layers of a width, `custom` where none has."""
    return next((c.name for c in SIZES.values() if (c.layers, c.width) == (layers, width)), "custom")


def as_fields(text: TextConfig, vision: VisionConfig | None = None) -> dict[str, Any]:
    """Return a model's sizes as dumps have them: those of the tower under `vision`, where there is one."""
    return text._asdict() | ({"vision": vision._asdict()} if vision else {})


def find_size(name: str, where: object = "size") -> TextConfig:
    """Return the row of the table named `270m 1b 4b 12b 27b` or `tiny`.

    Raises:
        BadInput: no such row.
    """
    if name.lower() not in SIZES:
        raise wanted("model size", where, " ".join(SIZES), name)
    return SIZES[name.lower()]
