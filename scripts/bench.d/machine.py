"""What the benchmarks say about the machine, and how they print tables."""

import os
import sys
from pathlib import Path


def say(text):
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
    """Whether the processor multiplies bfloat16 itself."""
    flags = next((line for line in lines("/proc/cpuinfo") if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def memory_available():
    """Bytes that a program may take without pushing others out."""
    for line in lines("/proc/meminfo"):
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    return sys.maxsize


def table(rows, left=1):
    """Rows of texts under a heading: the first `left` columns to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    for row in rows:
        cells = [cell.ljust(width) if column < left else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
