"""Give every reader damaged inputs; report what was neither read nor refused in one printable line.

    python -m tests.fuzz --seconds 60 --seed 3              all readers in turn
    python -m tests.fuzz --reader npz --seed 3 --first 1234 --count 1       that one input again

An input is made from the seed, the reader's name and its number, so that a finding needs no file to be kept.
"""

import argparse
import itertools
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the makers of sound files lie

from ref.errors import BadInput

from . import bare, dumps, prompts, weights

READERS = {
    one.__name__: one
    for one in (
        *(dumps.dump, dumps.judged, dumps.layout),
        *(bare.safetensors, bare.npz, bare.llama_text, bare.llama_logits, bare.debugger, bare.server),
        *(weights.gguf, weights.gguf_weights, weights.folder, weights.adapter, weights.config, weights.tokenizer),
        *(prompts.ids, prompts.image, prompts.chat, prompts.goldens),
    )
}
MEMORY = Path("/dev/shm")  # a folder in memory, where there is one: thousands of files are written
LONGEST = 20  # seconds that an input may take
LINE = 2000  # characters of a refusal


class Waits(BaseException):
    """An input that takes too long; no reader catches it."""


def run(case, r: Random) -> tuple[str, str]:
    """Try one input and return what became of it, and where it failed."""
    try:
        signal.alarm(LONGEST)
        case(r)
    except BadInput as error:
        good = str(error).isprintable() and len(str(error)) <= LINE
        return ("refused", "") if good else ("unprintable refusal", ascii(str(error))[:200])
    except (Exception, Waits, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = next((frame for frame in reversed(frames) if "/ref/" in frame.filename), frames[-1])
        return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}", ascii(str(error))[:200]
    finally:
        signal.alarm(0)
    return "read", ""


def fuzz(name: str, seed: int, numbers, until: float) -> tuple[Counter, dict[str, tuple[int, str]]]:
    """Try inputs of one reader; return how many became what, and of each finding the first."""
    counts: Counter[str] = Counter()
    found: dict[str, tuple[int, str]] = {}
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        case = READERS[name](Path(place))
        for number in numbers:
            if time.monotonic() > until:
                break
            what, message = run(case, Random(f"{seed} {name} {number}"))
            counts[what] += 1
            if what not in ("read", "refused"):
                found.setdefault(what, (number, message))
    return counts, found


def main() -> int:
    """Run and print; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS, action="append", help="only this one (repeatable)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument(
        "--count", type=int, help="how many inputs of each reader; default: as many as there is time for"
    )
    args = parser.parse_args()
    names, bad, total = args.reader or list(READERS), 0, 0
    signal.signal(signal.SIGALRM, _stop)
    warnings.simplefilter("ignore")
    share = args.seconds / len(names) if args.count is None else float("inf")
    for name in names:
        numbers = itertools.islice(itertools.count(args.first), args.count)
        counts, found = fuzz(name, args.seed, numbers, time.monotonic() + share)
        tried = sum(counts.values())
        print(f"{name:<14}{tried:>9} inputs {counts['refused']:>9} refused {counts['read']:>9} read", flush=True)
        for what, (number, message) in found.items():
            again = f"--reader {name} --seed {args.seed} --first {number} --count 1"
            print(f"  FOUND {counts[what]} x {what}: {message}\n    again: python -m tests.fuzz {again}", flush=True)
        bad, total = bad + len(found), total + tried
    print(f"{total} inputs, {bad} findings")
    return 1 if bad else 0


def _stop(*_):
    raise Waits(f"longer than {LONGEST} s")


if __name__ == "__main__":
    sys.exit(main())
