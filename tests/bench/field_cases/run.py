"""Plant, capture, judge and score: one case, one change of basis, or three mistakes at once."""

import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from ref import compare

from .case import Case, NoDraw
from .score import causes_of, in_words, others, said, score
from .subject import LOGITS, Subject, draw, logits_moved, subject
from .three import draw_three, plant_three
from .twins import Twin

Line = dict[str, Any]


@cache
def clean_seconds(name: str, dtype: str, kind: str) -> float:
    """Judge the clean dump, of which nothing may be named, and return its seconds, when all is compiled."""
    one = subject(name, dtype)
    with tempfile.TemporaryDirectory() as temporary:
        one.write(one.model, kind, Path(temporary) / "dump")
        reports = [compare(Path(temporary) / "dump", loaded=one.loaded) for _ in range(2)]
    assert reports[1]["verdict"] == "match", f"{name} {dtype} {kind}: clean, and {said(reports[1])}"
    assert not causes_of(reports[1]), f"{name} {dtype} {kind}: clean, and {said(reports[1])}"
    return min(report["seconds"] for report in reports)


def run_case(one: Subject, case: Case, seed: int) -> Line:
    """Plant a mistake, judge the dump and score the report; print what it missed."""
    start = time.perf_counter()
    line: Line = {"kind": "planted", "name": case.name, "subject": one.name, "dtype": one.dtype}
    with tempfile.TemporaryDirectory() as temporary:
        try:
            drawn = draw(one, case, str(seed), lambda attempt: Path(temporary) / str(attempt))
        except NoDraw as reason:
            print(f"{shown(line)} not planted: {reason}", flush=True)
            return line | {"kind": "not planted", "why": str(reason)}
        report = compare(Path(temporary) / str(drawn.redrawn), loaded=one.loaded)
    scored = score(report, drawn.planted)
    line |= scored._asdict() | {"drawn": drawn.planted.drawn, "moved": drawn.found.moved, "redrawn": drawn.redrawn}
    line |= {"wanted": f"{drawn.found.tap}: {in_words(drawn.planted.answers)}", "got": said(report)}
    line |= {"others": others(report, [drawn.planted]), "seconds": time.perf_counter() - start}
    line |= {"of_clean": report["seconds"] / clean_seconds(one.name, one.dtype, case.prompt)}
    print_planted(line)
    return line


def run_twin(one: Subject, twin: Twin, seed: int) -> Line:
    """Change the basis of a model, assert that its logits stay, and judge the dump."""
    start, model = time.perf_counter(), one.copied()
    drawn = twin.change(one.scene(model, twin.prompt, f"{seed} {one.name} {one.dtype} {twin.name}", set()))
    line: Line = {"kind": "twin", "name": twin.name, "subject": one.name, "dtype": one.dtype, "drawn": drawn}
    with tempfile.TemporaryDirectory() as temporary:
        moved = logits_moved(one, twin.prompt, one.write(model, twin.prompt, Path(temporary) / "dump"))
        assert moved < LOGITS[one.dtype], f"{twin.name} moves the logits by {moved:.1e}: it is no twin"
        report = compare(Path(temporary) / "dump", loaded=one.loaded)
    bases = [base["what"] for base in report.get("bases") or ()]
    line |= {
        "matched": report["verdict"].startswith("match"),
        "told": bool(bases),
        "bases": bases,
        "logits_moved": moved,
    }
    line |= {"got": said(report), "seconds": time.perf_counter() - start}
    words = "match" if line["matched"] else f"{line['got']} ({drawn})"
    print(f"{shown(line)}{line['seconds']:5.0f} s  {words}{''.join(f'; {base}' for base in bases)}", flush=True)
    return line


def run_three(one: Subject, number: int, seed: int) -> Line:
    """Plant three mistakes at once: each must be placed and named, and the proof must say whether that is all."""
    start = time.perf_counter()
    line: Line = {"kind": "three", "name": f"draw {number}", "subject": one.name, "dtype": one.dtype}
    with tempfile.TemporaryDirectory() as temporary:
        alone = Path(temporary) / "alone"
        alone.mkdir()
        drawn = draw_three(one, f"{seed} three {number}", alone)
        plant_three(one, drawn, Path(temporary) / "dump")
        report = compare(Path(temporary) / "dump", loaded=one.loaded)
    scores = [score(report, each.planted, alone=False) for each in drawn]
    line |= {word: all(getattr(each, word) for each in scores) for word in scores[0]._fields}
    proof = report.get("proof") or {}
    line["proven"] = is_right(proof.get("verdict"), line)
    line |= {"others": others(report, [each.planted for each in drawn])}
    line |= {"scores": [each._asdict() for each in scores], "proof": proof.get("says"), "got": said(report)}
    line |= {"wanted": [f"{each.found.tap}: {in_words(each.planted.answers)}" for each in drawn]}
    line["seconds"] = time.perf_counter() - start
    print_three(line)
    return line


def is_right(proof: str | None, line: Line) -> bool:
    """Tell whether a proof says what is so; where a name has another number, either may be."""
    if line["exact"] or not line["named"]:
        return proof is not None and (proof == "explained") == line["exact"]
    return proof is not None


def print_three(line: Line) -> None:
    """Print a draw of three."""
    named = sum(each["named"] for each in line["scores"])
    proof = f"{'right' if line['proven'] else 'wrong'}: {line['proof']}" if line["proof"] else "none"
    print(f"{shown(line)}{line['seconds']:5.0f} s  {named} of 3 named; proof {proof}", flush=True)
    for wanted, each in zip(line["wanted"], line["scores"], strict=True):
        if not each["exact"]:
            print(f"      wanted {wanted}; {'' if each['placed'] else 'not '}placed", flush=True)
    if named < len(line["scores"]):
        print(f"      got {line['got']}", flush=True)


def shown(line: Line) -> str:
    """Return the head of a line."""
    return f"{line['subject']:<5}{line['dtype']:<9}{line['name']:<32}"


def print_planted(line: Line) -> None:
    """Print a case; of a miss what was wanted, too."""
    words = " ".join(word if line[word] else f"not {word}" for word in ("caught", "placed", "named", "exact"))
    again = f", redrawn {line['redrawn']} times" if line["redrawn"] else ""
    print(f"{shown(line)}{line['seconds']:5.0f} s  {words}{again}", flush=True)
    if not line["exact"] or not line["placed"] or line["others"]:
        print(f"      wanted {line['wanted']} ({line['drawn']})\n      got {line['got']}", flush=True)
