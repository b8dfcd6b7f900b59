"""What to capture next, so that the next report can say more: which taps, of which prompt, with a command to paste."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ref.diagnosis.diagnose import Diagnosis
from ref.dump.opened import Dump
from ref.dump.sketched import SketchedTap
from ref.judge.capture_command import Commands, Source, as_patterns, missing_taps, said, shown_by
from ref.judge.case import possible_taps
from ref.judge.judgement import Judgement
from ref.judge.next_prompt import PlannedPrompt, Wish, exercised_by, lacking, plan, together, wish_of
from ref.judge.origins import Origins
from ref.measure.tap_finding import TapFinding
from ref.model.taps import inputs_of, layer_of, prefix_of, row_of, tap_names
from ref.mutants import tap_mutants
from ref.mutants.needs import Needs

FOLDER = "next"  # where prompts are written, if nobody says
LONG = 256  # tokens from which only some layers are asked for
UNTOLD = "No later tap of the dump tells whether it cancels"  # in the `why` of a tap in another basis


class Next(NamedTuple):
    """One thing to do."""

    why: str
    command: str = ""
    prompt: str = ""  # name of a file
    is_open: bool = True  # a question that this dump leaves open, not only something that it does not exercise

    def as_json(self) -> dict[str, str]:
        """Return a row of the report."""
        return {"why": self.why, "command": self.command, "prompt": self.prompt}


class Advice:
    """Makes the advice of one report.

    Args:
        judged: the judgement.
        opened: the dump.
        source: the weights, as the command line names them.
        folder: where the prompts will be written.
    """

    def __init__(self, judged: Judgement, opened: Dump, source: Source, folder: str = FOLDER):
        self.judged, self.opened = judged, opened
        self.commands, self.there = Commands(opened, source, folder), exercised_by(judged, opened)
        self.passes = {one.number: one for one in judged.all_runs}
        self.prompts: dict[str, PlannedPrompt] = {}
        self._wishes: dict[Wish, str] = {}
        self.origins = Origins(judged.findings, judged.all_runs)

    def of(self, causes: list[dict[str, Any]], diagnoses: list[Diagnosis], hidden: list[dict[str, Any]]) -> list[Next]:
        """List what to do next, the most urgent first.

        Args:
            causes: of the report.
            diagnoses: of wrong taps.
            hidden: mistakes that are smaller than rounding noise, as rows of the report.
        """
        by_place = {one.finding.place: one.finding for one in diagnoses}
        unexplained, several = False, []
        for cause in causes:
            finding = by_place[cause["first"]["pass"], cause["first"]["tap"]]
            if cause["verdict"] == "tied":
                several += self._tied(cause, finding)
            elif self.origins.is_sketch(finding.place):
                several.append(self._sketched(finding))
            elif cause["verdict"] == "unexplained" and not finding.nonfinite:
                several.append(self._unexplained(finding))
                unexplained = True
        several += [*self._bases(), *(self._few_tokens() if unexplained else ())]
        return list(dict.fromkeys([*several, *self._hidden(hidden), *self._coverage()]))

    def _order(self, number: int) -> list[str]:
        """List the taps that a pass may have, in the order of execution."""
        one_pass = self.passes[number].one_pass
        possible, tower = possible_taps(one_pass), one_pass.vision.config.layers if one_pass.vision else 0
        return [tap for tap in tap_names(one_pass.layers, one_pass.cached > 0, tower) if tap in possible]

    def _there(self, number: int) -> set[str]:
        """List the taps that a pass of the dump has, whole or as far as its producer shows them."""
        pass_runs = self.passes[number]
        shown = {tap for tap, one in pass_runs.partial.items() if not isinstance(one, SketchedTap)}
        return pass_runs.stored.keys() | shown

    def _span(self, finding: TapFinding) -> tuple[list[str], bool]:
        """List the taps on the way to one that can be captured, and whether attention must not be fused for them."""
        there, order = self._there(finding.pass_number), self._order(finding.pass_number)
        return shown_by(self.commands, missing_taps(self.commands, finding.tap, finding.span, there, order))

    def _unexplained(self, finding: TapFinding) -> Next:
        why = f"no known mistake explains {finding.tap} (pass {finding.pass_number})"
        taps, eager = self._span(finding)
        if taps:
            patterns = as_patterns(taps, self._order(finding.pass_number))
            more = "; with eager attention, since a fused one does not show it" if eager else ""
            why = f"{why}: capture what lies between it and its inputs, {said(patterns)}{more}"
            return Next(why, self.commands.write(patterns, eager=eager))
        if finding.dtype in ("bfloat16", "float16"):
            why = f"{why}, whose inputs are all in the dump: in float32 rounding hides less"
            return Next(why, self.commands.write([], dtype="float32"))
        op = row_of(finding.tap).op or "none that is registered"
        return Next(f"{why}, whose inputs are all in the dump: the mistake is in the operation ({op}) or its weights")

    def _sketched(self, finding: TapFinding) -> Next:
        """Ask for the taps between those that match and the first that does not, whole."""
        near, between = self.origins.around(finding.place)
        order = self._order(finding.pass_number)
        wanted = {tap for _, tap in (*near, *between, finding.place) if self.commands.can_give(tap)}
        taps, eager = shown_by(self.commands, [tap for tap in order if tap in wanted])
        patterns = as_patterns(taps, order)
        why = f"what is wrong at {finding.tap} cannot be told from a sketch: capture {said(patterns)} whole"
        return Next(why, self.commands.write(patterns, eager=eager))

    def _tied(self, cause: dict[str, Any], finding: TapFinding) -> Iterator[Next]:
        names = [cause["mutant"], *cause["tied_with"]]
        needs = {name: tap_mutants()[name].needs for name in names if name in tap_mutants()}
        missing = [lacking(one, self.there) for one in needs.values()]
        alike = f"{', '.join(names[:-1])} and {names[-1]} explain {finding.tap} alike"
        why = ": ".join([alike, "; ".join(f"{name} shows with: {one.words}" for name, one in needs.items())])
        wish = together(wish_of(one, self.there) for one in missing)
        twice = Wish(tokens=min(2 * self.there.longest, self.there.config.max_positions))
        if not any(wish) and any(one.windows for one in needs.values()):  # longer than the window, but not by enough
            wish = twice
        taps, eager = self._span(finding)
        kinds = [kind for kind in ("local_layer", "global_layer") if any(getattr(one, kind) for one in missing)]
        taps += [tap for kind in kinds for tap in self._in_layer(kind, finding)]
        if any(wish):
            yield self._prompted(why, wish, layer_of(finding.tap))
        elif taps:
            patterns = as_patterns(taps, self._order(finding.pass_number))
            yield Next(f"{why}; capture {said(patterns)}", self.commands.write(patterns, eager=eager))
        else:  # all that they need is there, but not enough of it
            yield self._prompted(f"{why}; a longer prompt may tell them apart", twice, layer_of(finding.tap))

    def _in_layer(self, kind: str, finding: TapFinding) -> list[str]:
        """Return a tap in the first layer of a kind, and what it is made from."""
        layer = self._first_layer(kind == "global_layer")
        if layer is None or not finding.group.startswith("text.layer."):
            return []
        name = finding.group.removeprefix("text.layer.*.")
        wanted = [f"text.layer.{layer}.{one}" for one in (*row_of(finding.tap).inputs, name)]
        there = self._there(finding.pass_number)
        order = self._order(finding.pass_number)
        return [tap for tap in order if tap in wanted and tap not in there and self.commands.can_give(tap)]

    def _first_layer(self, is_global: bool) -> int | None:
        config = self.there.config
        return next((i for i in range(config.layers) if config.is_global(i) == is_global), None)

    def _bases(self) -> Iterator[Next]:
        """Ask for the tap that tells whether another basis cancels."""
        begun = {one.finding.place: one.best for one in self.judged.hearing.diagnoses.found}
        for finding in self.judged.findings:
            best = begun.get(finding.place)
            if UNTOLD not in finding.why or best is None or best.hypothesis is None or not best.hypothesis.basis:
                continue
            there, letters = self._there(finding.pass_number), {one.axis for one in best.hypothesis.basis}
            order = [tap for tap in self._order(finding.pass_number) if self.commands.can_give(tap)]
            tap = next((tap for tap in _where_it_cancels(finding.tap, letters, order) if tap not in there), None)
            if tap:
                taps, eager = shown_by(self.commands, [tap])
                why = f"{finding.tap} is in another basis, and nothing tells whether it cancels: capture {tap}"
                yield Next(why, self.commands.write(taps, eager=eager))

    def _few_tokens(self) -> Iterator[Next]:
        tried = self.judged.hearing.diagnoses.tried
        if tried.tokens > self.there.longest:
            names = [name for name in tried.few if name not in tried.families]
            why = f"not tried for want of tokens: {', '.join(names)}; {tried.tokens} in one pass are enough"
            yield self._prompted(why, Wish(tokens=tried.tokens))

    def _hidden(self, hidden: list[dict[str, Any]]) -> Iterator[Next]:
        for row in hidden:
            if not self.there.float32:
                why = f"{row['mutant']} is smaller than rounding noise at each value: in float32 it shows at each"
                yield Next(why, self.commands.write([], dtype="float32"), is_open=False)

    def _coverage(self) -> Iterator[Next]:
        """Make one prompt that shows most of what this one does not exercise."""
        coverage, there, can = self.judged.hearing.coverage, self.there, self.commands.producer
        kinds = {
            "the window": Needs(windows=1),
            "images": Needs(image="any"),
            "the cache": Needs(cached=True),
            "left pads": Needs(left_pads=True),
        }
        several = {kind: wish_of(lacking(one, there), there) for kind, one in kinds.items()}
        hidden = sorted(coverage.tried - coverage.shown)
        several |= {name: wish_of(lacking(tap_mutants()[name].needs, there), there) for name in hidden}
        able = {name: wish for name, wish in several.items() if wish and can.takes(wish)}
        whole = together(able.values())
        if any(whole):
            told = [name for name in able if name in kinds] or list(able)
            why = f"not exercised: {', '.join(told)}; one prompt shows {len(able)} of what is missing"
            yield self._prompted(why, whole)._replace(is_open=False)

    def _prompted(self, why: str, wish: Wish, layer: int | None = None) -> Next:
        """Have a prompt made, and say how it is run."""
        can = self.commands.producer
        if not can.takes(wish):
            return Next(f"{why}; `gemma3-ref capture {self.commands.name}` takes no such prompt")
        number = len(self._wishes) + 1
        name = self._wishes.setdefault(wish, f"prompt-{number}.json" if number > 1 else "prompt.json")
        self.prompts.setdefault(name, plan(wish, self.there, self.opened))
        return Next(why, self.commands.write(self._some(wish, layer), prompt=name), name)

    def _some(self, wish: Wish, layer: int | None) -> list[str]:
        """Of a long prompt ask for one layer of each kind only: scores of all would be gigabytes."""
        if wish.tokens <= LONG:
            return []
        layers = {one for one in (self._first_layer(False), self._first_layer(True), layer) if one is not None}
        return ["text.embed", *(f"text.layer.{one}.*" for one in sorted(layers)), "text.logits"]


def _where_it_cancels(tap: str, letters: set[str], order: list[str]) -> Iterator[str]:
    """Yield the taps of a layer made from one: first those that have no axis of its basis, then those on the way."""
    if tap not in order:
        return
    letters = letters | ({"N"} if "K" in letters else set())
    prefix = "" if layer_of(tap) is None else prefix_of(tap)
    line, ends = [tap], []
    for one in order[order.index(tap) + 1 :]:
        if one.startswith(prefix) and inputs_of(one) & set(line):
            (line if letters & set(row_of(one).axes.split()) else ends).append(one)
    yield from (*ends, *line[1:])
