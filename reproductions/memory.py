"""How much memory there is to take."""

import os
from contextlib import suppress
from pathlib import Path

SHARE_OF_FREE_MEMORY = 0.5
"""Of a GPU's free memory that cached images may take, and of any memory that images or descriptions may."""


def available_memory() -> int:
    """Bytes that this process can take without swapping, as far as the system tells."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError):  # Linux: what is free, and what file caches would give back
        limits.append(1024 * _numbers(Path("/proc/meminfo"))["MemAvailable:"])
    with suppress(OSError, ValueError):  # a container's limit, if there is one ("max" is none)
        group = Path("/sys/fs/cgroup")
        limit, taken = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        limits.append(limit - taken + _numbers(group / "memory.stat")["inactive_file"])
    return max(0, min(limits))


def _numbers(table: Path) -> dict[str, int]:
    """The first two columns of a table of the kernel's."""
    rows = (line.split() for line in table.read_text(encoding="ascii").splitlines())
    return {row[0]: int(row[1]) for row in rows}
