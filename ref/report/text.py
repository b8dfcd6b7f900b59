"""The report as a terminal table: groups of taps, what was not exercised, the causes; the verdict comes last."""

import textwrap
from collections.abc import Iterator
from typing import Any

from ref.report.causes import seen
from ref.report.figures import by_group, coefficient, counted, floors, in_floors, nonfinite, sentence, worst_of
from ref.report.next_lines import next_lines
from ref.report.ranks import by_rank
from ref.report.text_causes import causes_in_lines, wrapped
from ref.report.text_regression import regression_lines
from ref.report.words import arithmetic, follows, judged, printable, verdict_line
from ref.report.words_logits import about_whole, share, tried

WIDTH = 120
MOST_ROWS = 6  # single taps below their group's line: an error in every layer needs no more to be seen
MOST_NAMES = 20
MOST_OTHERS, MOST_CLEARED = 4, 8  # mistakes at the first divergence that are not it


def render_text(report: dict[str, Any], width: int | None = None, everything: bool = False) -> str:
    """Render a report for a terminal.

    Args:
        report: what `compare` returns.
        width: columns, at least 80; None is 120. The verdict is one line whatever its length, for `tail -1`.
        everything: a line for every tap, not only for the groups and for taps that are a bug or undetermined.

    Returns:
        Lines without a newline at the end. `error` is the relative L2 distance of an operation on the dump's own
        inputs; `floors` are errors in multiples of the noise floor, on the dump's own inputs and from the prompt on.

    Source: own; README, "Judging your implementation".
    """
    report, width = printable(report), max(80, width or WIDTH)
    lines = [
        *_table(report, width, everything),
        *_judged(report, width),
        *_notes(report, width),
        *_unaligned(report, width),
        *_coverage(report, width),
    ]
    lines += [*causes_in_lines(report, width), *_diagnosis(report, width), *_fits(report, width)]
    lines += [*_from_logits(report, width), *_decide(report, width), *_nonfinite(report, width)]
    lines += regression_lines(report, width, everything)
    return "\n".join(line.rstrip() for line in [*lines, verdict_line(report)])


def render_two(report: dict[str, Any], other: dict[str, Any], names: tuple[str, str], everything: bool = False) -> str:
    """Render the reports of two dumps, one below the other, then the taps where their verdicts differ.

    Args:
        report, other: what `compare` returns.
        names: of the dumps.
        everything: as `render_text`.
    """
    lines = []
    for name, one in zip(names, (report, other), strict=True):
        lines += [f"{printable(name)}:", render_text(one, everything=everything)]
    a, b = ({(row["pass"], row["tap"]): row for row in printable(one)["taps"]} for one in (report, other))
    both = [key for key in a if key in b]
    lines.append(f"{'tap':<40}{'pass':>5}  {'first: floors':>15}{'second: floors':>17}")
    for key in both:
        x, y = a[key], b[key]
        if x["verdict"] != y["verdict"]:
            ratios = f"{floors(x['local_ratio']):>15}{floors(y['local_ratio']):>17}"
            lines.append(f"{key[1]:<40}{key[0]:>5}  {ratios}  {x['verdict']} | {y['verdict']}")
    digests = [(a[key].get("sha256"), b[key].get("sha256")) for key in both]
    known = [one == other for one, other in digests if one and other]
    same = f"; {sum(known)} of the {len(known)} whose digests are known have the same bits" if known else ""
    return "\n".join([*lines, f"{len(both)} taps are in both; those above have different verdicts{same}"])


HEAD = f"  {'tap':<31}{'error':>8}{'floors (own inputs)':>20}{'floors (from prompt)':>21}  {'verdict':<12} "
NARROW = f"  {'tap; errors in floors:':<31}{'own inputs':>11}{'from prompt':>12}  {'verdict':<12} "


def _table(report, width: int, everything: bool) -> Iterator[str]:
    yield (HEAD if width >= WIDTH else NARROW) + "worst at"
    for group, rows in by_group(report["taps"]).items():
        local, inherited = worst_of(rows, "local_ratio"), worst_of(rows, "inherited_ratio")
        words = [row["verdict"] for row in rows]
        word = next((one for one in ("bug", "undetermined") if one in words), "match")
        count = f"{words.count(word)}/{len(words)} " if len(words) > 1 and word != "match" else ""
        worst = inherited if local["local_ratio"] is None else local
        layer = "" if worst["layer"] is None or len(rows) == 1 else f"layer {worst['layer']} "
        yield from _line(group, local, inherited, word, f"{count}{layer}pass {worst['pass']}", width)
        singles = [row for row in rows if everything or (row["verdict"] != "match" and not follows(row))]
        if len(rows) > 1 or any(row["why"] for row in singles):
            most = len(singles) if everything or len(singles) <= MOST_ROWS else MOST_ROWS - 1
            for row in singles[:most]:
                yield from _line(f"  {row['tap']}", row, row, row["verdict"], f"pass {row['pass']}", width, row["why"])
                if by_rank(row):
                    yield from wrapped(f"floors: {by_rank(row)}", width, "      ", "      ")
            if most < len(singles):
                yield f"    and {len(singles) - most} more"


def _line(name: str, local, inherited, word: str, place: str, width: int, why: str = "") -> Iterator[str]:
    own, prompt = floors(local["local_ratio"]), floors(inherited["inherited_ratio"])
    error = "-" if local["local"] is None else f"{local['local']:.1e}"
    # a narrow terminal has room for ratios only
    numbers = f"{error:>8}{own:>20}{prompt:>21}" if width >= WIDTH else f"{own:>11}{prompt:>12}"
    name = name if len(name) <= 31 else name[:30] + "…"
    line = f"  {name:<31}{numbers}  {word:<12} "
    yield line + textwrap.shorten(place, max(8, width - len(line)), placeholder="")
    if why:
        yield from wrapped(why, width, "      ", "      ")


def _judged(report, width: int) -> Iterator[str]:
    for name, text in judged(report):
        if text and name != "seconds":
            yield from wrapped(f"{name}: {text}", width, "")


def _notes(report, width: int) -> Iterator[str]:
    """Say what the dump says of itself and what is so; values beyond the format; another arithmetic, which it has."""
    if report.get("arithmetic"):
        what = "a mistake of the format: no operation is wrong, and the rest is judged by that arithmetic"
        yield from wrapped(f"arithmetic: {arithmetic(report)}: {what}", width, "")
    for note in report.get("notes") or []:
        yield from wrapped(f"note: {note}", width, "")
    for row in [row for row in report["taps"] if row.get("overflow")][:MOST_ROWS]:
        yield from wrapped(f"note: {row['tap']} (pass {row['pass']}): {row['why']}", width, "")


def _unaligned(report, width: int) -> Iterator[str]:
    rows = report.get("unaligned") or []
    if rows:
        yield f"not compared: {counted(len(rows), 'tensor')} of the dump"
    for row in rows[:MOST_NAMES]:
        yield from wrapped(f"{row['name']}: {row['why']}", width)
    if len(rows) > MOST_NAMES:
        yield f"  and {len(rows) - MOST_NAMES} more"


def _coverage(report, width: int) -> Iterator[str]:
    for line in report.get("left_out") or []:
        yield from wrapped(f"left out: {line}", width, "")
    if report.get("coverage"):
        yield "not exercised by this dump"
    for line in report.get("coverage") or []:
        yield from wrapped(line, width)


def _diagnosis(report, width: int) -> Iterator[str]:
    """Tabulate the mistakes that were tried at the first divergence; what a cause is has been said above."""
    rows = report.get("diagnosis") or []
    if not rows:
        return
    where = rows[0].get("tap") or (report["first"] or {}).get("tap") or "the first bug"
    yield from wrapped(f"diagnosis of {where}: a coefficient of 1 is this mistake, 0 is none of it", width, "")
    yield f"  {'mistake':<31}{'coefficient':>21}{'floors left':>12}  verdict"
    told = {cause["mutant"] for cause in report.get("causes") or []}
    shown = [row for row in rows if row["verdict"] in ("named", "tied")]
    other = [row for row in rows if row["verdict"] == "undetermined"]
    for row in [*shown, *other[: MOST_OTHERS if not shown else 1]]:
        word = row["verdict"] if row["verdict"] != "tied" else f"tied ({row['class']})"
        name = row["mutant"] if len(row["mutant"]) <= 30 else row["mutant"][:29] + "…"
        yield f"  {name:<31}{coefficient(row):>21}{floors(row['left']):>12}  {word}"
        if row["mutant"] not in told:
            yield from wrapped(f"{sentence(row['what'])} {seen(row)}", width, "      ", "      ")
    cleared = list(dict.fromkeys(row["mutant"] for row in rows if row["verdict"] == "cleared"))
    if len(tied := [row for row in shown if row["verdict"] == "tied"]) > 1:
        yield f"  this input cannot tell the {len(tied)} tied mistakes apart"
    if cleared:
        names = ", ".join(cleared[:MOST_CLEARED]) + (", ..." if len(cleared) > MOST_CLEARED else "")
        yield from wrapped(f"cleared: {len(cleared)}: {names}", width)


def _fits(report, width: int) -> Iterator[str]:
    if report.get("fits"):
        yield "simple changes of the truth that come near"
    for row in report.get("fits") or []:
        yield from wrapped(f"{row['kind']}: {row['what']}: {in_floors(row['left'])} left", width)


def _from_logits(report, width: int) -> Iterator[str]:
    found = report.get("from_logits")
    if not found:
        return
    yield "from the logits alone"
    yield from wrapped(tried(found), width, rest="  ")
    yield f"  {'mistake':<31}{'explains':>13}{'held out':>13}{'floors left':>12}  verdict"
    for row in found["ranked"][:MOST_ROWS]:
        name = row["mutant"] if len(row["mutant"]) <= 30 else row["mutant"][:29] + "…"
        numbers = f"{share(row['explains']):>13}{share(row['heldout']):>13}{floors(row['left']):>12}"
        yield f"  {name:<31}{numbers}  {row['verdict']}"
        yield from wrapped(about_whole(row), width, "      ", "      ")


def _decide(report, width: int) -> Iterator[str]:
    if report.get("decide"):
        yield from wrapped(f"what would decide: {report['decide']}", width, "")
        yield from next_lines(report, width)


def _nonfinite(report, width: int) -> Iterator[str]:
    rows = [row for row in report["taps"] if row.get("nonfinite")]
    if rows:
        yield f"not finite: {counted(len(rows), 'tap')}"
    for row in rows[:MOST_ROWS]:
        yield from wrapped(f"{row['tap']} (pass {row['pass']}): {nonfinite(row)}", width)
    if len(rows) > MOST_ROWS:
        yield f"  and {len(rows) - MOST_ROWS} more"
