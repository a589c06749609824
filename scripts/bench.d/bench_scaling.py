"""Measures all-reduces between processes of this machine and compares them with the ring model of scripts/simulate-ranks."""

import argparse
import os
import re
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

from bench_ingest import numbers
from machine import describe, load, log, table

ring = runpy.run_path(str(Path(__file__).parents[1] / "simulate-ranks"))["ring"]
# A line of the example's output: "all_reduce_sum of 64 MB on 2 ranks: 81.234ms (0.79 GB/s)".
LINE = re.compile(r"^(.+) of \d+ MB on \d+ ranks: ([\d.]+)(ns|µs|ms|s) ", re.MULTILINE)
UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
REDUCE, BACKWARD, BOTH = "all_reduce_sum", "backward pass", "backward pass with reduction"


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench scaling", description=__doc__)
    parser.add_argument("--ranks", type=numbers, default=[2, 3, 4], metavar="N,N", help="numbers of processes; the model is fitted to the first")
    parser.add_argument("--fit", type=numbers, default=[8, 128], metavar="MB,MB", help="the two sizes that the model is fitted to, multiples of 4")
    parser.add_argument("--sizes", type=numbers, default=[32, 256], metavar="MB,MB", help="sizes to predict, multiples of 4")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each measurement; the median is reported")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if len(args.fit) != 2 or args.fit[0] == args.fit[1]:
        parser.error("--fit needs two sizes")
    if min(args.ranks) < 2 or any(size % 4 or size <= 0 for size in args.fit + args.sizes):
        parser.error("ranks must be at least 2, and sizes multiples of 4")
    return args


def fit(ranks, first, second):
    """Bandwidth and latency of a ring of `ranks`, from two pairs (megabytes, seconds)."""
    (small, fast), (large, slow) = sorted([first, second])
    seconds_per_megabyte = (slow - fast) / (large - small)
    if seconds_per_megabyte <= 0:
        raise SystemExit("scripts/bench: cannot fit the model: the larger size was faster; the machine is too busy")
    messages = 2 * (ranks - 1)
    return messages / ranks / seconds_per_megabyte, (fast - small * seconds_per_megabyte) / messages


def measure(example, ranks, size):
    output = subprocess.run([example, str(ranks), str(size)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: float(value) * UNITS[unit] for name, value, unit in LINE.findall(output)}


def main():
    args = arguments()
    example = Path(args.program).resolve().parent / "examples" / "all_reduce"
    if not example.exists():
        raise SystemExit(f"scripts/bench: {example} is missing; build it: cargo build --release -p libtorch-ext --example all_reduce")
    log(describe())
    plan = [(ranks, size) for ranks in args.ranks for size in sorted({*args.fit, *args.sizes})]
    runs = {key: [] for key in plan}
    # Interleaved, so that other load on the machine affects all measurements.
    for number in range(args.rounds):
        for key in plan:
            runs[key].append(measure(example, *key))
        log(f"round {number + 1} of {args.rounds} done, load {load()}")

    def median(key, what):
        return statistics.median(run[what] for run in runs[key])

    cores, first = os.cpu_count(), args.ranks[0]
    bandwidth, latency = fit(first, *((size, median((first, size), REDUCE)) for size in args.fit))
    print(
        f"Fitted to {args.fit[0]} and {args.fit[1]} MB on {first} ranks: {bandwidth:.0f} MB/s, latency {1e6 * latency:.0f} µs. "
        f"Shared: more than {cores} ranks share the cores.\n"
    )
    rows = [["ranks", "MB", "measured, ms", "lowest", "highest", "ring, ms", "error", "shared, ms", "error"]]
    for ranks, size in plan:
        times = [run[REDUCE] for run in runs[ranks, size]]
        measured = statistics.median(times)
        row = [str(ranks), str(size), *(f"{1e3 * value:.1f}" for value in (measured, min(times), max(times)))]
        for share in (1.0, min(1.0, max(first, cores) / ranks)):
            predicted = ring(ranks, size, bandwidth * share, latency / share)
            row.append(f"{1e3 * predicted:.1f}")
            row.append("fitted" if ranks == first and size in args.fit else f"{100 * (predicted / measured - 1):+.0f} %")
        rows.append(row)
    table(rows)

    print("\nAfter a backward pass that only writes gradients:\n")
    rows = [["ranks", "MB", "backward, ms", "all-reduce, ms", "one after the other", "measured, ms"]]
    for key in plan:
        backward, reduce, both = (median(key, what) for what in (BACKWARD, REDUCE, BOTH))
        rows.append([*map(str, key), *(f"{1e3 * value:.1f}" for value in (backward, reduce, backward + reduce, both))])
    table(rows)


if __name__ == "__main__":
    sys.exit(main())
