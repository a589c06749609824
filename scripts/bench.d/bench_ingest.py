"""Measures `glm-prep ingest` on corpora of several sizes with several numbers of threads; see scripts/bench."""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import corpus
import machine
from machine import log


def numbers(text):
    values = [int(part.replace("_", "")) for part in text.split(",")]
    if any(value < 1 for value in values):
        raise argparse.ArgumentTypeError("expected comma-separated numbers of at least 1")
    return values


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench ingest", description=__doc__)
    parser.add_argument("--passages", type=numbers, default=[10_000, 1_000_000], metavar="N,N", help="sizes of the train split")
    parser.add_argument("--threads", type=numbers, default=[1, 2], metavar="T,T", help="numbers of threads")
    parser.add_argument("--dir", default=None, metavar="FOLDER", help="parent folder of the temporary corpora and shards")
    parser.add_argument("--keep", action="store_true", help="keep the corpora and the last shards")
    parser.add_argument("--json", action="store_true", help="print one JSON object per run instead of tables")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def ingest(program, folder, threads):
    """Ingests into an empty shards folder; returns the summary with peak memory in bytes."""
    shutil.rmtree(folder / "shards", ignore_errors=True)
    command = [program, "ingest", str(folder), "--json", "--quiet", "--threads", str(threads)]
    with tempfile.TemporaryFile() as out:
        # Until the child calls exec, its peak memory is that of this process, which is lower than any ingest's because worker
        # processes have written the corpus.
        child = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(f"scripts/bench: {' '.join(command)} failed with exit code {child.returncode}")
        out.seek(0)
        summary = json.load(out)
    questions = sum(split["questions"] for split in summary["splits"])
    return {
        "passages": sum(split["records"] for split in summary["splits"]),
        "questions": questions,
        "choices": sum(split["choices"] for split in summary["splits"]),
        "tokens": sum(split["tokens"] for split in summary["splits"]),
        "raw_bytes": sum(split["raw_bytes"] for split in summary["splits"]),
        "threads": threads,
        "seconds": summary["seconds"],
        "questions_per_second": questions / summary["seconds"],
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "bytes_per_row": sum(split["shard_bytes"] for split in summary["splits"]) / questions,
        "stages": summary.get("stages") or {},
        "fingerprint": summary["fingerprint"],
    }


def print_tables(runs):
    first = {}
    rows = [["passages", "questions", "raw MB", "threads", "seconds", "questions/s", "speedup", "CPU s", "peak MB", "bytes/row"]]
    for run in runs:
        base = first.setdefault(run["passages"], run)
        rows.append([
            f"{run['passages']:,}", f"{run['questions']:,}", f"{run['raw_bytes'] / 1e6:,.0f}", str(run["threads"]),
            f"{run['seconds']:.2f}", f"{run['questions_per_second']:,.0f}",
            f"{run['questions_per_second'] / base['questions_per_second']:.2f}", f"{run['cpu_seconds']:.1f}",
            f"{run['peak_bytes'] / 1e6:.0f}", f"{run['bytes_per_row']:,.0f}",
        ])
    machine.table(rows, left=0)
    last = runs[-1]
    print(f"\nper question: {last['choices'] / last['questions']:.1f} choices, {last['tokens'] / last['questions']:.0f} tokens")
    stages = list(dict.fromkeys(name for run in runs for name in run["stages"]))
    if not stages:
        return
    print("\nseconds per stage, summed over threads, and share of the total")
    rows = [["passages", "threads", *stages]]
    for run in runs:
        total = sum(run["stages"].values()) or 1.0
        shares = (f"{run['stages'].get(name, 0):.2f} {run['stages'].get(name, 0) / total:4.0%}" for name in stages)
        rows.append([f"{run['passages']:,}", str(run["threads"]), *shares])
    machine.table(rows, left=0)


def main():
    args = arguments()
    program = str(Path(args.program).resolve())
    folder = Path(tempfile.mkdtemp(prefix="glm-bench-", dir=args.dir))
    runs = []
    log(machine.describe())
    try:
        for passages in args.passages:
            place = folder / str(passages)
            place.mkdir()
            started = time.monotonic()
            corpus.write(place, passages)
            log(f"{passages:,} passages written in {time.monotonic() - started:.1f} s")
            for threads in args.threads:
                runs.append(ingest(program, place, threads))
                log(f"  {threads} threads: {runs[-1]['questions_per_second']:,.0f} questions/s")
            if len({run["fingerprint"] for run in runs[-len(args.threads):]}) > 1:
                raise SystemExit("scripts/bench: the shards depend on the number of threads")
            if not args.keep:
                shutil.rmtree(place)
    finally:
        if args.keep:
            log(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        for run in runs:
            print(json.dumps(run))
    else:
        print_tables(runs)


if __name__ == "__main__":
    main()
