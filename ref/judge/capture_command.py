"""Commands to paste that capture more of a port: only taps that the dump lacks, and that its producer can give."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ref.capture.adapters import ADAPTERS, Adapter
from ref.dump.opened import Dump
from ref.dump.prompt_file import prompt_of_dump
from ref.errors import BadInput
from ref.hypotheses.lists import and_more
from ref.judge.next_prompt import Wish
from ref.model.taps import Recorder, inputs_of, layer_of, tap_group

NEW = "next-dump"  # what the commands write
DTYPES = ("float32", "bfloat16", "float16", "float64", "q8_0")
PAIRWISE = (".attn.scores", ".attn.probs")  # that no fused attention shows
MOST_TAPS = 40  # that are named one by one


class Source(NamedTuple):
    """The weights that a dump was judged against, as the command line names them."""

    weights: str
    mmproj: str | None = None
    adapted: bool = False  # whether an adapter is on them
    adapter: str | None = None  # its folder; None: nobody said
    merged: bool = False


class Producer(NamedTuple):
    """What an adapter's command can be asked for, made from what `ref.capture.adapters` says of it."""

    attention: tuple[str, ...] = ("eager",)
    images: bool = False
    left_pads: bool = False
    lacks: tuple[str, ...] = (".cache.positions",)  # ends of the names of taps that it never gives
    steps: bool = True
    words: str = ""  # of the command, where it is not called as the producer is and takes no --dtype
    adapters: bool = False  # whether it takes --adapter

    def takes(self, wish: Wish) -> bool:
        """Tell whether it runs such a prompt."""
        has = (self.images, self.left_pads, self.steps)
        return all(can or not asked for can, asked in zip(has, (wish.images, wish.left_pads, wish.steps), strict=True))


def _producer(adapter: Adapter, words: str = "") -> Producer:
    """Return what an adapter can be asked for; scores and probabilities that a fused attention hides can be had."""
    gives = adapter.gives
    lacks = tuple(
        end for end, _ in adapter.lacks if "scores" not in gives or end not in (".attn.scores", ".attn.probs")
    )
    takes = any(flag.name == "--adapter" for flag in adapter.flags)
    return Producer(adapter.attention, "images" in gives, "left pads" in gives, lacks, "steps" in gives, words, takes)


GRAPHS = {"onnxruntime": "onnx MODEL.onnx", "openvino": "onnx MODEL.onnx --runtime openvino"}
PRODUCERS = {name: _producer(adapter) for name, adapter in ADAPTERS.items() if name != "onnx"}
PRODUCERS |= {name: _producer(ADAPTERS["onnx"], words) for name, words in GRAPHS.items()}
ANYBODY = Producer(images=True, left_pads=True, lacks=())  # a port of one's own runs whatever it is given


class Commands(NamedTuple):
    """Writes the commands for one dump."""

    opened: Dump
    source: Source
    folder: str  # of the prompts that the judge writes

    @property
    def producer(self) -> Producer:
        """What the dump's producer can be asked for."""
        return PRODUCERS.get(self.name, ANYBODY)

    @property
    def name(self) -> str:
        """The producer's name."""
        return str(self.opened.producer.get("name"))

    @property
    def is_fused(self) -> bool:
        """Tell whether the dump is of a fused attention, where another can be asked for."""
        used = str(self.opened.policy.get("attention_impl", "eager"))
        return used not in ("eager", "not said") and len(self.producer.attention) > 1

    def can_give(self, tap: str) -> bool:
        """Tell whether the producer can give a tap at all."""
        return not tap.endswith(self.producer.lacks) if self.producer.lacks else True

    def write(self, taps: Sequence[str], prompt: str = "", dtype: str = "", eager: bool = False) -> str:
        """Return the command; empty where no adapter can run it.

        Args:
            taps: patterns beside those of the dump, or of a prompt's run; none takes all.
            prompt: name of a file that the judge writes; empty runs the dump's own prompt once more.
            dtype: another one than the dump's.
            eager: ask for attention that is not fused.
        """
        if self.name not in PRODUCERS or (dtype and self.producer.words):  # the format of a graph is its own
            return ""
        if self.source.adapted and not (self.source.adapter and self.producer.adapters):
            return ""
        if prompt:
            source = ["--prompt-file", (Path(self.folder) / prompt).as_posix()]
        elif self._has_plain_prompt():
            source = ["--like", self.opened.where]
        else:
            return ""
        words = [
            "gemma3-ref",
            "capture",
            *(self.producer.words.split() or [self.name]),
            *self._weights(),
            *self._arithmetic(dtype, eager),
            *source,
        ]
        return shlex.join([*words, *(word for tap in taps for word in ("--taps", tap)), "-o", NEW])

    def _weights(self) -> list[str]:
        source = self.source
        return [
            *("--weights", source.weights),
            *(["--mmproj", source.mmproj] if source.mmproj and self.producer.images else []),
            *(["--adapter", source.adapter] if source.adapter else []),
            *(["--merged", "yes"] if source.merged else []),
        ]

    def _arithmetic(self, dtype: str, eager: bool) -> list[str]:
        if self.producer.words:
            return []
        dtype = dtype or str(self.opened.weights.get("dtype"))
        used = str(self.opened.policy.get("attention_impl", ""))
        attention = "eager" if eager else used if used in self.producer.attention[1:] else ""
        return [
            *(["--dtype", dtype] if dtype in DTYPES else []),
            *(["--attention", attention] if attention else []),
        ]

    def _has_plain_prompt(self) -> bool:
        """Tell whether an adapter can make the dump's passes from its prompt."""
        try:
            prompt_of_dump(self.opened)
            return Path(self.opened.where).exists()
        except (BadInput, OSError):
            return False


def as_patterns(taps: Iterable[str], all_taps: Iterable[str]) -> list[str]:
    """Write taps shortly: one pattern where a group is wanted in all its layers.

    Args:
        taps: wanted, in the order of execution.
        all_taps: that the passes may have.
    """
    taps, all_taps = list(dict.fromkeys(taps)), list(all_taps)
    told: dict[str, None] = {}
    for tap in taps:
        group = tap_group(tap)
        own = {one for one in taps if tap_group(one) == group}
        several = [group, group.replace("*", "*[0-9]")] if len(own) > 1 else []  # `*` matches dots, too
        fits = (one for one in several if own == {other for other in all_taps if Recorder(one).wants(other)})
        told[next(fits, tap)] = None
    return list(told)


def said(taps: Sequence[str]) -> str:
    """List taps in words, not too many of them."""
    return and_more([tap.replace("[0-9]", "") for tap in taps], 6)


def missing_taps(commands: Commands, tap: str, span: Iterable[str], there: set[str], order: Sequence[str]) -> list[str]:
    """List what a dump lacks on the way to a tap, as far as it can have it; of many layers what goes between them.

    Args:
        commands: of the dump.
        tap: that is to be explained.
        span: taps that were recomputed on the way. Attention is computed in one piece, so that scores are not among
            them: the registry knows.
        there: taps that the dump has in that pass.
        order: taps that the pass may have, in the order of execution.
    """
    wanted, todo, known = set(span), [tap, *span], set(order)
    while todo:
        name = todo.pop()
        inputs = inputs_of(name) & known - there - wanted
        wanted |= inputs
        todo += inputs
    taps = [one for one in order if one in wanted and one not in there and commands.can_give(one)]
    if len(taps) <= MOST_TAPS or len({layer_of(one) for one in taps}) <= 2:
        return taps
    between = ("text.layer.*.out", "vision.layer.*.out")
    return [one for one in taps if layer_of(one) is None or tap_group(one) in between]


def shown_by(commands: Commands, taps: Sequence[str]) -> tuple[list[str], bool]:
    """Return the taps that the dump's attention shows, or all and that it must not be fused where no other is left."""
    if not commands.is_fused:
        return list(taps), False
    others = [tap for tap in taps if not tap.endswith(PAIRWISE)]
    return (others, False) if others else (list(taps), bool(taps))
