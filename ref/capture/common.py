"""What captures share: prompts that can be run, what a mask lets queries see, and which keys are there."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ref.capture.adapters import ADAPTERS, newer_than_tried
from ref.config import PAD, TextConfig, VisionConfig
from ref.errors import wanted
from ref.model.inputs import check_ids
from ref.model.params import TextParams
from ref.model.taps import check_patterns, tap_group, tap_names, tap_row


class LeftOut(UserWarning):
    """Values that a capture did not write: what it is, a tap or a group of them, and why.

    Args:
        what: its name; with `*` for the layers where there are several.
        why: in words.
        layers: how many.
    """

    def __init__(self, what: str, why: str, layers: int = 1):
        super().__init__(f"capture: {what}{f' ({layers} layers)' if layers > 1 else ''} left out: {why}")
        self.what, self.why = what, why


class NewerVersion(UserWarning):
    """A library is newer than all that its adapter was tried with."""


def check_prompts(
    prompts: Sequence[Sequence[int]], config: TextConfig, steps: int, taps: Sequence[str], padded=True
) -> None:
    """Refuse what cannot be captured, before anything is run.

    Args:
        prompts: token ids.
        config: the model's.
        steps: cached decode steps after each prompt.
        taps: patterns.
        padded: whether 0 is padding, which may stand on the left only.

    Raises:
        BadInput: no prompt, ids out of range, padding anywhere but on the left, too many tokens, no tap matches.
    """
    if len(prompts) == 0:
        raise wanted("token ids", "capture", "at least one prompt of at least one", "none")
    for number, prompt in enumerate(prompts):
        where = f"prompt {number}"
        ids = check_ids([prompt], config, where)[0]
        if padded and (ids[-1] == PAD or (ids[pads_of(ids) :] == PAD).any()):
            raise wanted("token ids", where, f"{PAD}, which is padding there, on the left only", ids.tolist())
        if len(ids) + steps > config.max_positions:
            raise wanted("prompt and new tokens", where, f"at most {config.max_positions}", len(ids) + steps)
    check_patterns(taps, tap_names(config.layers, cached=steps > 0), "capture")


def pads_of(ids: np.ndarray) -> int:
    """Count the padding on the left of ids that are not all padding."""
    return int((np.asarray(ids) != PAD).argmax())


def warn_if_newer(name: str) -> None:
    """Warn, in one line, where an adapter's library is newer than all that it was tried with; it goes on.

    Args:
        name: of the adapter.
    """
    if newer := newer_than_tried(ADAPTERS[name]):
        warnings.warn(f"capture: {newer}", NewerVersion, stacklevel=3)


def say_left_out(left: Mapping[str, str]) -> None:
    """Warn of taps that were left out, once a kind of tap.

    Args:
        left: tap -> why.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for tap, why in left.items():
        groups.setdefault((tap_group(tap), why), []).append(tap)
    for (group, why), taps in groups.items():
        warnings.warn(LeftOut(taps[0] if len(taps) == 1 else group, why, len(taps)), stacklevel=4)


def intervals(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return where each row's True cells start and stop, if they are one range in every row.

    Args:
        seen: [T, S] bool.

    Returns:
        (start, stop), two [T] integer arrays, half-open; (0, 0) of a row without any. None where a row has gaps.
    """
    start, last = seen.argmax(1), seen.shape[1] - seen[:, ::-1].argmax(1)
    stop = np.where(seen.any(1), last, start)
    return None if (seen.sum(1) != stop - start).any() else (start, stop)


def key_ranges(seen: np.ndarray) -> np.ndarray:
    """Return the keys that each query sees, as ranges where they are ranges.

    Args:
        seen: [T, S] bool.

    Returns:
        [1, T, 2] int64, half-open; (0, 0) where a query sees none. [1, T, S] bool where one sees no contiguous range.

    Source: docs/decisions.md: visibility is an interval.
    """
    found = intervals(seen)
    return seen[None] if found is None else np.stack(found, 1)[None].astype(np.int64)


def aligned(tap: str, value: np.ndarray, config: TextConfig, before: int, stop: int) -> np.ndarray:
    """Cut a value that has a row for every slot of a cache to the keys that ours has.

    Args:
        tap: its name; values on other axes are returned as they are.
        value: on the registry's axes; of `attn.visible`, [1, T, S] bool.
        config: the model's.
        before: keys in the cache before the pass.
        stop: and after it.

    Source: `ref.model.cache`: a local layer keeps the newest W keys; a first pass shows the scores of all.
    Differs: google-deepmind/gemma and keras-hub keep every key in every layer.
    """
    row, parts = tap_row(tap), tap.split(".")
    axes = row.axes.split() if row else []
    if tap.endswith("attn.visible"):
        return key_ranges(np.asarray(value)[0, :, :stop])
    if "S" not in axes:
        return value
    window = config.window_of(int(parts[2])) or stop
    first = 0 if before == 0 and parts[3] != "cache" else stop - min(window, stop)
    keys: list = [slice(None)] * value.ndim
    keys[axes.index("S")] = slice(first, stop)
    return value[tuple(keys)]


def tower_config(given: Any, soft_tokens: int) -> VisionConfig:
    """Return a tower's configuration under our names, checked by nobody: a port may have any.

    Args:
        given: an object with the names of Hugging Face's `SiglipVisionConfig`.
        soft_tokens: of each image.
    """
    return VisionConfig(
        width=given.hidden_size,
        layers=given.num_hidden_layers,
        heads=given.num_attention_heads,
        ffn_width=given.intermediate_size,
        patch=given.patch_size,
        image=given.image_size,
        channels=given.num_channels,
        soft_tokens=soft_tokens,
        layer_norm_eps=given.layer_norm_eps,
    )


def check_tied(params: TextParams) -> None:
    """Refuse weights with a head of their own, of an implementation that has none.

    Args:
        params: of the text model.

    Raises:
        BadInput: the head is not the embedding.
    """
    if params.head is not None:
        want = "weights whose head is the embedding; this implementation has no other"
        raise wanted("head", "capture", want, "one of its own")
