"""Generation: prefill the prompts once, then one token a step, streaming."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ref.config import EOS, PAD
from ref.errors import wanted
from ref.model.cache import empty_cache
from ref.model.inputs import check_ids, rows_of
from ref.model.multimodal import Images, check_count, embed_images, soft_places
from ref.model.params import TextParams
from ref.model.text import How, forward
from ref.ops.sampling import draw


class Sampling(NamedTuple):
    """How the next token is chosen. The defaults are those of the released generation_config."""

    greedy: bool = False  # take the arg-max; everything below is then ignored
    temperature: float = 1.0
    top_k: int = 64  # 0 keeps all
    top_p: float = 0.95  # 1 keeps all
    seed: int = 0


def check_sampling(s: Sampling, where: object = "sampling") -> Sampling:
    """Return the settings unchanged, or refuse the first that is out of range.

    Raises:
        BadInput: temperature not > 0, top_k < 0, top_p outside (0, 1], seed < 0; nothing of it when greedy.
    """
    if s.greedy:
        return s
    if not 0 < s.temperature < float("inf"):
        raise wanted("temperature", where, "a number > 0 (or --greedy)", s.temperature)
    if s.top_k < 0:
        raise wanted("top-k", where, "0 (all) or more", s.top_k)
    if not 0 < s.top_p <= 1:
        raise wanted("top-p", where, "0 < p <= 1", s.top_p)
    if s.seed < 0:
        raise wanted("seed", where, "0 or more", s.seed)
    return s


def generate(
    params: TextParams,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling = Sampling(),  # noqa: B008
    stop: Sequence[int] = (EOS,),
    how: How = How(),  # noqa: B008
    images: Images | None = None,
) -> Iterator[list[int | None]]:
    """Continue a batch of prompts, yielding each step's new tokens as soon as they are known.

    Args:
        params: the parameters.
        prompts: token ids of each row, BOS included; rows of different lengths are padded on the left.
        max_new_tokens: how many steps at most.
        sampling: how to choose; row b draws from its own generator, seeded with (seed, b).
        stop: a row ends with the first of these that it produces; that token is yielded.
        how: ops, dtype and taps of every pass.
        images: those of all prompts, in order, crops too; each has its soft tokens (262144) in its prompt.

    Yields:
        One list a step: the new id of each row, None for a row that has ended.

    Raises:
        BadInput: no prompt, an empty one, ids out of range, prompt and new tokens longer than the context, soft tokens
            unlike the images.

    Source: transformers 5.23 `GenerationMixin._sample`.
    Differs: random numbers are not torch's, so a seed gives another text there; greedy is the same.
    """
    c = params.config
    longest = max((len(p) for p in prompts), default=0)
    _check_prompts(prompts, images, c)
    if not prompts or max_new_tokens < 1:
        raise wanted(
            "prompts and max-new-tokens",
            "generate",
            "at least one of each",
            f"{len(prompts)}, {max_new_tokens}",
        )
    if longest + max_new_tokens > c.max_positions:
        raise wanted("prompt and new tokens", "generate", f"at most {c.max_positions}", longest + max_new_tokens)
    check_sampling(sampling)
    return _steps(params, prompts, max_new_tokens, sampling, frozenset(stop), how, images)


def _check_prompts(prompts, images, c):
    found, per_image = 0, images.vision.config.soft_tokens if images else 1
    for row, prompt in enumerate(prompts):
        ids = rows_of([prompt], f"prompt {row}")
        places = soft_places(ids, c, per_image)
        check_ids(np.where(places, PAD, ids) if images else ids, c, f"prompt {row}")
        found += int(places.sum())
    check_count(found, images, c)


def _steps(params, prompts, max_new_tokens, sampling, stop, how, images):
    pads = [max(map(len, prompts)) - len(p) for p in prompts]
    ids = np.array([[PAD] * pad + list(p) for pad, p in zip(pads, prompts, strict=True)])
    cache = empty_cache(params.config, np.array(pads), ids.shape[1] + max_new_tokens, how.dtype)
    how = how._replace(logits="last")
    generators = [np.random.Generator(np.random.PCG64([sampling.seed, row])) for row in range(len(prompts))]
    open_rows = [True] * len(prompts)
    soft = embed_images(images, ids, params.config, how) if images else None
    for _ in range(max_new_tokens):
        logits, cache = forward(params, ids, how, cache, soft=soft)
        soft = None  # later steps are text
        chosen = [choose(logits[row, -1], sampling, generators[row], how) for row in range(len(prompts))]
        yield [token if is_open else None for token, is_open in zip(chosen, open_rows, strict=True)]
        open_rows = [is_open and token not in stop for token, is_open in zip(chosen, open_rows, strict=True)]
        if not any(open_rows):
            return
        ids = np.array([[token if is_open else PAD] for token, is_open in zip(chosen, open_rows, strict=True)])


def choose(logits: np.ndarray, sampling: Sampling, generator: np.random.Generator, how: How) -> int:
    """Pick one token from the logits of one position: the arg-max (the smallest id of a tie), or a draw.

    Args:
        logits: [V] float.
        sampling: how.
        generator: one number is taken from it unless greedy.
        how: whose ops filter the probabilities.

    Raises:
        BadInput: a logit is NaN or infinite; the weights or the dtype are broken.

    Source: `ref.ops.sampling`.
    Differs: see `generate`.
    """
    if not np.isfinite(logits.max()):  # NaN wins every maximum
        raise wanted("logits", "generate", "finite numbers", "NaN or infinity")
    if sampling.greedy:
        return int(np.argmax(logits))
    probs = how.ops.filtered_probs(logits, sampling.temperature, sampling.top_k, sampling.top_p)
    return draw(probs, generator.random())
