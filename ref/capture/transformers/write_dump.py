"""Capture a Hugging Face transformers model as it is, also one that its owner has patched. Extra: [transformers].

Nothing is asked of the model but to run: modules are heard by hooks, whatever their `forward` became; queries, keys,
mask, scores and probabilities where an attention function is called, whoever rotated or calls; logits are what the
model returns. Its weights, configuration and functions are afterwards what they were.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ref.capture.common import say_left_out
from ref.capture.rows import NoWriter, Rows
from ref.capture.transformers.adapters import adapter_of, without_adapters
from ref.capture.transformers.attention import hear_attention
from ref.capture.transformers.caches import check_cache, make_cache
from ref.capture.transformers.listen import Listener
from ref.capture.transformers.model import import_transformers, text_config, text_model, vision_config
from ref.capture.transformers.modules import attentions, hook_modules
from ref.capture.transformers.parallel import ranks_of, wait_for_all, writer_of
from ref.capture.transformers.policy import policy_of
from ref.capture.transformers.run import Batch, check_batch, run
from ref.capture.transformers.wrapped import traced_anew
from ref.config import TextConfig, VisionConfig, as_fields
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.model.taps import check_patterns, tap_names
from ref.weights.resolve import weights_name


def capture(
    model: Any,
    ids: Any,
    out_dir: str | Path,
    *,
    pixel_values: Any = None,
    token_type_ids: Any = None,
    left_pads: Sequence[int] | None = None,
    right_pads: Sequence[int] | None = None,
    packed: Sequence[int] | None = None,
    steps: int = 0,
    cache: Any = None,
    weights: str | None = None,
    taps: Sequence[str] = ("*",),
    each_rank: bool = False,
) -> Path:
    """Run a model on token ids and write every tap of it as a dump.

    Args:
        model: any loaded Gemma3ForCausalLM or Gemma3ForConditionalGeneration, in any dtype and attention; a classifier
            made of one; compiled, offloaded, or with an adapter of plain LoRA, merged or not.
        ids: [T] or [B, T] integers; tensors, arrays or lists. Each row is its own pass of the dump.
        out_dir: where the dump will be; must not exist or be empty.
        pixel_values: [images, C, Y, X] in [-1, 1], in the order of their soft tokens.
        token_type_ids: as ids, 1 at soft tokens; made from the ids where there are pixels and none is given. Zeros
            run the images as text is run, causally.
        left_pads: pads of each row; mask and positions are then those that `generate` makes. None gives neither.
        right_pads: pads at the end of each row, with a mask and positions that leave them out; steps then begin at the
            last token that is none.
        packed: lengths of the prompts that one row holds; each has positions of its own, and no mask is given.
        steps: greedy cached decode steps after the prompt, each a pass of its own.
        cache: the cache of these passes, an empty one of transformers or what `generate` calls it: `dynamic`,
            `static`, `offloaded`, `offloaded_static`. None: without steps no cache, else the dynamic one.
        weights: what the dump calls the weights, as `--weights` takes it; by default what the model was loaded from.
        taps: patterns of the taps to keep.
        each_rank: of a model in slices on several ranks, write what each holds into `out_dir/rank0`, `rank1` ..., which
            the judge puts together, so that it names the rank that is wrong; else the first writes one whole dump.

    Returns:
        out_dir. Each pass has the taps of `ref.model.taps` in the dtype that they had, except those that it does not
        show: scores and probabilities of a fused implementation, `cache.positions`, and what its owner has removed. Of
        what was heard and cannot be told, as whose axis is whose, a `LeftOut` warning says so.

    Raises:
        BadInput: another model, ids out of the vocabulary or of another shape, pixels and soft tokens unlike each
            other, steps of a classifier, a cache that is not empty or too short, adapters of other kinds or several,
            weights that are nowhere, no tap matches, the folder is in use, or transformers is missing or broken.

    Rounding: pixels to the dtype of the tower, as it does itself first.
    Source: transformers 5.23 `modeling_gemma3.py`, `modeling_siglip.py`, `generation/utils.py`.
    Differs: transformers' own `model_addition_debugger` writes outputs of modules only, rounded to text.
    """
    model = without_adapters(model)
    batch = check_batch(model, ids, pixel_values, token_type_ids, left_pads, right_pads, packed)
    if packed is not None and steps:
        raise wanted("steps", "capture", "0 of packed prompts", steps)
    return write(model, [batch], Path(out_dir), steps, cache, weights, taps, each_rank)


def write(
    model: Any,
    batches: list[Batch],
    out: Path,
    steps: int,
    cache: Any,
    weights: str | None,
    taps: Sequence[str],
    each_rank: bool = False,
) -> Path:
    """Run batches one after the other and write their dump; arguments, result and refusals as `capture`."""
    if steps < 0:
        raise wanted("steps", "capture", "0 or more", steps)
    longest = [batch.ids.shape[1] + steps for batch in batches]
    check_cache(cache, max(longest))
    is_cached = steps > 0 or cache is not None
    sees = any(batch.pixels is not None for batch in batches)
    with writing(model, out, weights, taps, cached=is_cached, sees=sees, each_rank=each_rank) as (writer, listener):
        for batch, length in zip(batches, longest, strict=True):
            rows = Rows(writer, len(batch.ids))
            run(model, batch, steps, make_cache(cache, model, length) if is_cached else None, listener, rows)
            rows.finish()
    say_left_out(listener.left_out)
    return out.resolve()


@contextmanager
def writing(
    model: Any,
    out: Path,
    weights: str | None,
    taps: Sequence[str],
    *,
    cached: bool,
    sees: bool,
    each_rank: bool = False,
) -> Iterator[tuple[DumpWriter | NoWriter, Listener]]:
    """Write a dump of what a model computes until the end of a `with` statement.

    Args:
        model: transformers'.
        out, weights, taps: as `capture`.
        cached: whether the passes keep a cache.
        sees: whether any of them has an image.
        each_rank: as `capture`.

    Yields:
        The dump, and what hears the model; its `left_out` is to be said afterwards.

    Raises:
        BadInput: no tap matches, or as `DumpWriter`.
    """
    text, vision = text_config(model), vision_config(model)
    names = tap_names(text.layers, cached=cached, vision_layers=vision.layers if vision and sees else 0)
    check_patterns(taps, names, "capture")
    ranks = ranks_of(text_model(model))
    ranks = ranks._replace(each=each_rank) if ranks else None
    listener = Listener(taps, text, vision, cached, ranks)
    described = _model(model, text, vision, _name_of(model, weights))
    adapter = adapter_of(model)
    described |= {"adapter": adapter} if adapter else {}
    policy = policy_of(model, None)
    with writer_of(ranks, out, described, policy, _producer()) as writer, _listening(model, listener):
        yield writer, listener
        policy.update(policy_of(model, listener.product))  # by what was heard: autocast may be inside the model
        _say_held(writer, listener.held)
    wait_for_all(ranks)


def _say_held(writer: DumpWriter | NoWriter, held: dict[str, dict[str, Any]]) -> None:
    """Say of each tensor of a rank's own dump what it is."""
    if isinstance(writer, DumpWriter):
        for one in writer.content["passes"]:
            for name, entry in one["tensors"].items():
                entry |= held.get(name, {})


@contextmanager
def _listening(model: Any, listener: Listener):
    """Hear a model's modules and attention until the end of a `with` statement."""
    with traced_anew(model), ExitStack() as stack:
        hook_modules(stack, model, listener)
        hear_attention(stack, listener, attentions(model))
        yield


def _producer() -> dict[str, str]:
    return {"name": "transformers", "version": import_transformers()[1].__version__}


def _name_of(model: Any, weights: str | None) -> str:
    """Name the weights; never by a machine's path."""
    name = weights or getattr(model.config, "_name_or_path", "") or "not said"
    known = weights_name(name)
    return Path(known).name if Path(known).is_absolute() else known  # a folder that is gone by now


def _model(model: Any, text: TextConfig, vision: VisionConfig | None, name: str) -> dict[str, Any]:
    return {"config": as_fields(text, vision), "weights": {"name": name, "dtype": _dtype(model), "sha256": None}}


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")
