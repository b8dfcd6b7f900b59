"""What `gemma3-ref capture` says besides the dump: its adapters; which taps were heard, which not, and why."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ref.capture.adapters import ADAPTERS, Adapter, installed_adapters
from ref.commands import FINE
from ref.commands.shared import print_json


def list_adapters(args) -> int:
    """Print each adapter, what it runs, the versions it was tried with, the one that is here, and what it gives."""
    rows = [_row(name, adapter) for name, adapter in (ADAPTERS | installed_adapters()).items()]
    if getattr(args, "json", False):
        print_json(rows)
        return FINE
    for row in rows:
        tried = ", ".join(
            f"{one['package']} {' '.join(one['tried'])} ({one['here'] or 'not'} here)" for one in row["packages"]
        )
        print(f"{row['name']}: {row['what']}")
        print(f"    tried with {tried or 'no version that is known'}")
        print(f"    gives taps of modules{', ' if row['gives'] else ''}{', '.join(row['gives'])}")
        for why in dict.fromkeys(one["why"] for one in row["lacks"]):
            print(f"    lacks {', '.join(one['what'] for one in row['lacks'] if one['why'] == why)}: {why}")
    return FINE


def _row(name: str, adapter: Adapter) -> dict[str, Any]:
    packages = [{"package": one, "tried": list(tried), "here": _here(one)} for one, tried in adapter.tried]
    lacks = [{"what": end.removeprefix("."), "why": why} for end, why in adapter.lacks]
    return {"name": name, "what": adapter.what, "packages": packages, "gives": list(adapter.gives), "lacks": lacks}


def _here(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def heard_and_not(
    folder: Path, names: Sequence[str], patterns: Sequence[str], left: Sequence[Any], adapter: Adapter
) -> dict[str, Any]:
    """Say which taps a capture has, and of those that were asked for and are not there, why.

    Args:
        folder: of the dump.
        names: of the taps that such a run has.
        patterns: what was asked for.
        left: `LeftOut` warnings of the capture.
        adapter: says what it never gives.

    Returns:
        {"heard": names, "not_heard": [{"what", "why"}]}; groups with `*` where all layers are alike.
    """
    from ref.dump.write import read_dump
    from ref.model.taps import Recorder

    have = {tap for one in read_dump(folder)["passes"] for tap in one["tensors"]}
    asked = list(filter(Recorder(*patterns).wants, names))
    told = {warning.what: warning.why for warning in left}
    missing: dict[str, list[str]] = {}
    for tap in asked:
        if tap not in have:
            missing.setdefault(_why(tap, told, adapter), []).append(tap)
    heard = _grouped([tap for tap in names if tap in have], names)
    return {
        "heard": [*heard, *sorted(have - set(names))],
        "not_heard": [{"what": what, "why": why} for why, taps in missing.items() for what in _grouped(taps, names)],
    }


def _why(tap: str, told: dict[str, str], adapter: Adapter) -> str:
    from ref.model.taps import tap_group

    known = next((why for end, why in adapter.lacks if tap.endswith(end)), "nothing gave it while the model ran")
    return told.get(tap) or told.get(tap_group(tap)) or known


def _grouped(taps: Sequence[str], names: Sequence[str]) -> list[str]:
    """Write a group of which all layers are there as one name."""
    from ref.model.taps import tap_group

    some, out = set(taps), {}
    for tap in taps:
        group = tap_group(tap)
        whole = all(one in some for one in names if tap_group(one) == group)
        out[group if whole else tap] = None
    return list(out)
