"""What a prompt or a model lacks that a mistake needs: such mistakes change nothing, and are said, not run."""

from collections.abc import Iterable, Sequence

from ref.emulate.one_pass import OnePass
from ref.emulate.text_rules import LAYER
from ref.mutants.needs import Needs

VISIBLE = LAYER + "attn.visible"
# these leave the largest logit the largest; at the limit of a small softcap all are, which would explain any text
ORDER_KEPT = frozenset({"final_softcap", "head_scaled", "head_scaled_down", "logit_softcap_of", "logits_scaled"})


def hidden_in(kind: str, name: str) -> str:
    """Say what an answer of a kind lacks that a mistake needs; empty where it may show.

    Args:
        kind: of the answer, from `ref.from_logits.answers`.
        name: of the mistake.
    """
    return "logits or probabilities: the most probable token stays" if kind == "greedy" and name in ORDER_KEPT else ""


def lacking(needs: Needs, passes: Sequence[OnePass], groups: Iterable[str] = (VISIBLE,)) -> str:
    """Say what is missing of a mistake's needs; empty where it may show.

    Args:
        needs: of the mistake.
        passes: that it would be run on.
        groups: tap groups that it changes. One that changes more than what is visible shows without a long prompt.
    """
    config, only_seen = passes[0].config, set(groups) == {VISIBLE}
    longest = max(one.total for one in passes)
    pads = any((one.positions < 0).any() for one in passes)
    packed = any(one.is_packed for one in passes)
    missing = {
        "an image": needs.has_image and not any(one.places.any() for one in passes),
        "cached keys": needs.cached and not any(one.cached for one in passes),
        "left pads or packed prompts": (needs.left_pads or needs.packed) and not (pads or packed),
        f"{needs.kv_heads} key heads": needs.kv_heads > config.kv_heads,
        f"{needs.query_heads} query heads": needs.query_heads > config.query_heads,
        f"{needs.group} query heads per key head": needs.group > config.query_heads // config.kv_heads,
        f"{needs.tokens} tokens": needs.tokens > longest,
        f"more tokens than {needs.windows:g} windows of {config.window}": only_seen
        and longest <= needs.windows * config.window,
        "a depth that is no multiple of 6": needs.odd_depth and config.layers % config.global_every == 0,
        f"{needs.layers} layers": needs.layers > config.layers,
        "a global layer": needs.global_layer and config.layers < config.global_every,
        "a token after the first": needs.position > 0 and max(int(one.positions.max()) for one in passes) < 1,
    }
    return " and ".join(words for words, is_missing in missing.items() if is_missing)
