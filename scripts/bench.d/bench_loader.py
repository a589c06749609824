"""Measures the trainer's data loader, from shards to batches, on a corpus with ReCoRD's lengths; see scripts/bench."""

import argparse
import subprocess
import tempfile
from pathlib import Path

import corpus
from bench_ingest import numbers
from machine import describe, log


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench loader", description=__doc__)
    parser.add_argument("--passages", type=int, default=25_000, metavar="N", help="size of the train split")
    parser.add_argument("--threads", type=numbers, default=[1, 2], metavar="T,T", help="numbers of threads per stage")
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="number of epochs")
    parser.add_argument("--dir", default=None, metavar="FOLDER", help="parent folder of the temporary corpus and shards")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = arguments()
    ingest = Path(args.program).resolve()
    loader = ingest.parent / "examples" / "loader_throughput"
    if not loader.exists():
        raise SystemExit(f"scripts/bench: {loader} is missing; build it: cargo build --release --workspace --all-targets")
    log(describe())
    with tempfile.TemporaryDirectory(prefix="glm-bench-", dir=args.dir) as folder:
        corpus.write(Path(folder), args.passages)
        subprocess.run([ingest, "ingest", folder, "--quiet"], check=True)
        for feed in ([], ["--feed"]):
            print("To tensors, through the feeder:" if feed else "To batches:", flush=True)
            for threads in args.threads:
                command = [loader, folder, "--threads", str(threads), "--epochs", str(args.epochs), *feed]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
