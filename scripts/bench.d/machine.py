"""Description of the machine, and printing of tables and progress."""

import os
import sys
from pathlib import Path


def log(text):
    print(text, file=sys.stderr, flush=True)


def lines(path):
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def load():
    return f"{os.getloadavg()[0]:.1f}"


def describe():
    models = (line.split(":", 1)[1].strip() for line in lines("/proc/cpuinfo") if line.startswith("model name"))
    return f"{next(models, 'unknown processor')}, {os.cpu_count()} cores, load {load()} before the first run"


def has_bf16():
    """True if the processor has instructions for bfloat16 products."""
    flags = next((line for line in lines("/proc/cpuinfo") if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def memory_available():
    """Bytes that a program can allocate without swapping."""
    for line in lines("/proc/meminfo"):
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    return sys.maxsize


def table(rows, left=1):
    """Prints rows of strings, the first of which is the header; the first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    for row in rows:
        cells = [cell.ljust(width) if column < left else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
