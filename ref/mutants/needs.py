"""What an input must have to show a mistake, as data; the words of reports are made from it."""

from typing import NamedTuple

NUMBERS = {2: "two", 6: "six"}


class Needs(NamedTuple):
    """What an input must have; all of it, and nothing where every field has its default."""

    sizes: tuple[str, ...] = ()  # the released sizes that show it
    odd_depth: bool = False  # the number of layers is no multiple of 6, so that the last one is local
    float32: bool = False
    layers: int = 1
    position: int = 0  # a token stands at least so far behind the first
    tokens: int = 1  # of one prompt
    bfloat16_tokens: int = 1  # of one prompt, in a run in bfloat16
    local_layer: bool = False
    global_layer: bool = False
    windows: float = 0.0  # a prompt is longer than so many windows of the local layers
    query_heads: int = 1
    kv_heads: int = 1  # K
    group: int = 1  # G, query heads per key/value head
    cached: bool = False  # keys of an earlier pass
    image: str = ""  # "any", "one", or what the image must be, such as "that is not grey"
    images: int = 0  # in one prompt
    soft_tokens: int = 0  # of one image
    long_image: bool = False  # an image block is longer than the window
    left_pads: bool = False  # with `packed`: one of both
    packed: bool = False  # two prompts in one row
    note: str = ""  # what else, in words

    @property
    def has_image(self) -> bool:
        """Tell whether the input must have an image."""
        return bool(self.image or self.images or self.soft_tokens or self.long_image)

    @property
    def is_usual(self) -> bool:
        """Tell whether any run of a few tokens, or any image, shows the mistake."""
        usual = {"position", "bfloat16_tokens", "local_layer", "global_layer"} | (
            {"image"} if self.image == "any" else set()
        )
        return self._replace(**{name: self._field_defaults[name] for name in usual}) == Needs()

    @property
    def words(self) -> str:
        """Say it in words, such as "a local layer and a prompt longer than its window"."""
        parts = [*_model_words(self), *_prompt_words(self), *_image_words(self)]
        if self.left_pads or self.packed:
            parts.append(" or ".join(["left pads"] * self.left_pads + ["two prompts in one row"] * self.packed))
        text = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
        return ", ".join(part for part in (text, self.note) if part) or "any input"


def _model_words(needs: Needs) -> list[str]:
    *others, last = needs.sizes or ("",)
    said = {
        " or ".join(filter(None, (", ".join(others), last))): bool(last),
        "a depth that is no multiple of 6": needs.odd_depth,
        "float32": needs.float32,
        f"{NUMBERS.get(needs.layers)} layers": needs.layers > 1,
        "more than one head": needs.query_heads > 1,
        "K of 2 or more": needs.kv_heads > 1,
        "G of 2 or more": needs.group > 1,
    }
    return [words for words, is_needed in said.items() if is_needed]


def _prompt_words(needs: Needs) -> list[str]:
    said = {
        "a token after the first": needs.position == 1,
        "a few tokens": needs.position > 1,
        f"{NUMBERS.get(needs.tokens, f'at least {needs.tokens}')} tokens of a prompt": needs.tokens > 1,
        f"any input, in bfloat16 some {needs.bfloat16_tokens} tokens": needs.bfloat16_tokens > 1,
        "a local layer": needs.local_layer,
        "a global layer": needs.global_layer,
        "cached keys": needs.cached,
        f"a prompt longer than {'' if needs.windows == 1 else 'half of '}the window": needs.windows > 0,
    }
    return [words for words, is_needed in said.items() if is_needed]


def _image_words(needs: Needs) -> list[str]:
    kind = {"any": "any image", "one": "an image"}.get(needs.image, f"an image {needs.image}")
    said = {
        kind: bool(needs.image),
        f"{NUMBERS.get(needs.images)} images in one prompt": needs.images > 0,
        f"an image of at least {NUMBERS.get(needs.soft_tokens)} soft tokens": needs.soft_tokens > 0,
        "an image block longer than the window": needs.long_image,
    }
    return [words for words, is_needed in said.items() if is_needed]
