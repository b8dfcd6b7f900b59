"""What was found at one tap of one pass, as a frozen record; `as_json` is the only place that makes a report's row."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from ref.measure.distance import Distance
from ref.model.taps import layer_of, row_of, tap_group

Verdict = Literal["match", "bug", "undetermined"]


@dataclass(frozen=True)
class FirstNonfinite:
    """The first value that is NaN or infinite."""

    count: int  # how many there are
    token: int  # its place in the pass
    channel: int
    truth: float  # what it ought to be


@dataclass(frozen=True)
class Beyond:
    """Values that the dump's number format cannot hold."""

    count: int  # how many there are
    token: int  # of the first
    channel: int
    truth: float  # what the first ought to be
    format: str  # dtype of the dump's tensor
    largest: float  # finite number of that format


@dataclass(frozen=True)
class FiveDistances:
    """The five distances of an error and of its floor, all relative to the truth."""

    local: Distance
    local_floor: Distance


class RankFinding(NamedTuple):
    """What one rank holds of a tap: its slice, its replica, or its part of a sum."""

    rank: int  # of tensor parallelism
    pipeline: int
    kind: str  # slice, replica, partial
    axis: str  # letter of a slice's
    start: int
    stop: int
    floors: float  # error on what the rank saw, in multiples of the noise floor there
    off: bool  # whether it is beyond the limit
    apart: float | None  # of a replica with other bits: relative L2 distance from the one that is judged


@dataclass(frozen=True)
class TapFinding:
    """One tap of one pass: its two errors, their noise floors, and the verdict.

    Errors and floors are relative L2 distances from the truth, ratios are multiples of the noise floor; None where a
    number is not known. `exact` taps and integers have a floor of 0, and a ratio of 0 or infinity.
    """

    tap: str
    pass_number: int  # from 0; `pass` in JSON
    dtype: str  # of the dump's tensor
    verdict: Verdict = "match"
    why: str = ""  # a sentence, empty where the numbers say it all
    local: float | None = None  # error of the operation, on the dump's own inputs
    local_floor: float | None = None
    local_ratio: float | None = None  # the worst of five distances, each in multiples of its own floor
    inherited: float | None = None  # error that has gathered from the prompt on
    floor: float | None = None  # of what is inherited
    inherited_ratio: float | None = None
    span: tuple[str, ...] = ()  # taps on the way that the dump lacks, recomputed
    metrics: dict[str, Any] = field(default_factory=dict)  # max_abs, ulp, cosine, slope, ...: from `metrics_of`
    nonfinite: FirstNonfinite | None = None
    overflow: Beyond | None = None
    distances: FiveDistances | None = None
    ranks: tuple[RankFinding, ...] = ()  # where they differ
    sha256: str = ""  # of the whole tensor's bytes, where a dump keeps a sketch of it
    seconds: float | None = None  # since the tap before, weights made ready for this one included

    @property
    def group(self) -> str:
        """The tap's name with layers folded."""
        return tap_group(self.tap)

    @property
    def layer(self) -> int | None:
        """The layer it is of; None outside layers."""
        return layer_of(self.tap)

    @property
    def exact(self) -> bool:
        """Whether its operation only moves values."""
        return row_of(self.tap).exact

    @property
    def place(self) -> tuple[int, str]:
        """(pass, tap), which no other finding has."""
        return self.pass_number, self.tap

    def as_json(self) -> dict[str, Any]:
        """Return a row of a report's `taps`: see golden/schema/report.schema.json."""
        row = {"tap": self.tap, "group": self.group, "layer": self.layer, "pass": self.pass_number, "dtype": self.dtype}
        row |= {"verdict": self.verdict, "why": self.why}
        row |= {"local": self.local, "local_floor": self.local_floor, "local_ratio": self.local_ratio}
        row |= {"inherited": self.inherited, "floor": self.floor, "inherited_ratio": self.inherited_ratio}
        row |= {"exact": self.exact, "span": list(self.span), "metrics": self.metrics}
        row |= {"nonfinite": self.nonfinite and asdict(self.nonfinite)}
        row |= {"overflow": self.overflow and asdict(self.overflow)}
        five = self.distances
        if five:
            row["distances"] = {"local": five.local._asdict(), "local_floor": five.local_floor._asdict()}
        if self.ranks:
            row["ranks"] = [one._asdict() for one in self.ranks]
        row |= {"sha256": self.sha256} if self.sha256 else {}
        if self.seconds is not None:
            row["seconds"] = self.seconds
        return row
