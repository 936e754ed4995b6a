"""The memory of this process, from Linux, in MB."""

from pathlib import Path


def forget_peak() -> None:
    """Of memory: making random weights takes more than reading trained ones."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_so_far() -> int:
    """The most since it began, or since `forget_peak`."""
    return _status("VmHWM")


def memory_now() -> int:
    """What it holds."""
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) // 1024
