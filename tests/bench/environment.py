"""The machine, and the versions of what is loaded."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAMED = ("numpy", "numba", "torch", "transformers", "llama_cpp")
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def last_words(log: str, code: int) -> str:
    """Return the last line that a process which failed has written, or the code that it ended with."""
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"ended with {code}"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Describe the machine."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": named[1] if named else platform.processor() or platform.machine(),
        "cores": cores(),
        "memory GB": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of what this process has loaded."""
    found = {"Python": platform.python_version()}
    for name in NAMED:
        if name in sys.modules:
            found[name.replace("llama_cpp", "llama-cpp-python")] = str(sys.modules[name].__version__)
    if "numpy" in sys.modules and "numba" in sys.modules:
        found["BLAS"] = blas()
    if "llama_cpp" in sys.modules:
        found["llama.cpp"] = sys.modules["llama_cpp"].llama_print_system_info().decode().strip(" |")
    return found


def blas() -> str:
    """Return the library that NumPy's products run in."""
    from threadpoolctl import threadpool_info

    libraries = [one for one in threadpool_info() if one["user_api"] == "blas"]
    return ", ".join(f"{one['internal_api']} {one['version']} {one.get('architecture', '')}" for one in libraries)


def commit(checkout: Path) -> str:
    """Return the commit of a checkout, or nothing where git does not know."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
