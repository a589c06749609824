"""Measures the throughput of data loading from shards without training; see scripts/bench.

Compares, each in a separate process: glm-trainer; a PyTorch DataLoader that makes the same packed form (the context once, followed
by the pieces, rows padded to the longest of the batch); a DataLoader that makes the published form (every choice padded to 512).
Times include reading the shards, but not starting the program and loading its libraries. CPU time includes all processes.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import cloze_data
import corpus
import machine
from machine import log

OURS = "glm-trainer"
FORMS = {"packed": "DataLoader, packed", "padded": "DataLoader, every choice padded to 512"}


def worker_numbers(text):
    values = [int(part) for part in text.split(",")]
    if any(value < 0 for value in values):
        raise argparse.ArgumentTypeError("expected comma-separated numbers of at least 0")
    return values


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=None, metavar="DIR", help="ingested data set; default: a temporary corpus")
    parser.add_argument("--passages", type=int, default=10_000, help="passages of the temporary corpus (default 10000)")
    parser.add_argument("--dir", default=None, metavar="FOLDER", help="parent folder of the temporary corpus")
    parser.add_argument("--questions", type=int, default=5000, metavar="N",
                        help="questions per DataLoader (default 5000); glm-trainer reads one epoch")
    parser.add_argument("--workers", type=worker_numbers, default=[0, 2], metavar="W,W", help="numbers of DataLoader workers (default 0,2)")
    parser.add_argument("--batch", type=int, default=32, help="DataLoader batch size in questions (default 32)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each program (default 3)")
    parser.add_argument("--ours-json", default=None, metavar="FILE", help="use this output of glm-trainer bench instead of running it; for tests")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--trainer", required=True, help=argparse.SUPPRESS)
    # The program runs itself with this option for each measurement: form and number of workers.
    parser.add_argument("--measure", nargs=2, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.passages, args.questions, args.batch, args.rounds) < 1:
        parser.error("all numbers must be at least 1")
    return args


class Questions(Dataset):
    """Questions that are encoded on access."""

    def __init__(self, split, encode):
        self.split, self.encode = split, encode

    def __len__(self):
        return len(self.split)

    def __getitem__(self, row):
        return self.encode(self.split[row])


def encode_packed(question):
    return {"rows": cloze_data.packed_rows(question), "choices": len(question.choices), "label": question.label}


def collate_packed(questions):
    """Makes a batch: rows are padded to the longest, indices refer to the whole batch."""
    rows = [row for question in questions for row in question["rows"]]
    width = max(len(row["ids"]) for row in rows)
    batch = {name: np.zeros((len(rows), width), dtype=np.int64) for name in ("ids", "position", "block_position", "piece")}
    batch["sep"] = np.array([row["sep"] for row in rows])
    for number, row in enumerate(rows):
        for name in ("ids", "position", "block_position", "piece"):
            batch[name][number, :len(row["ids"])] = row[name]
    scored, scored_at, choice, choice_table = [], [], [], []
    number = positions = choices = 0
    widest = max(question["choices"] for question in questions)
    for question in questions:
        for row in question["rows"]:
            scored.append(row["scored"] + number * width)
            scored_at.append(row["scored_at"] + positions)
            choice.append(row["choice"] + choices)
            positions += len(row["scored"])
            number += 1
        own = np.arange(widest)
        choice_table.append(np.where(own < question["choices"], own + choices, -1))
        choices += question["choices"]
    batch["scored"], batch["scored_at"], batch["choice"] = map(np.concatenate, (scored, scored_at, choice))
    batch["target"] = np.concatenate([row["target"] for row in rows])
    batch["choice_table"] = np.stack(choice_table)
    batch["label"] = np.array([question["label"] for question in questions])
    tokens = sum(len(row["ids"]) for row in rows)
    return {name: torch.from_numpy(value) for name, value in batch.items()}, len(questions), tokens


def collate_padded(questions):
    """Makes a batch; missing choices are copies of the first one."""
    widest = max(len(question["real"]) for question in questions)
    batch = {}
    for name in ("ids", "position", "target", "counts", "sep", "real"):
        wide = []
        for question in questions:
            value = question[name]
            missing = widest - len(value)
            filler = np.zeros(missing, dtype=bool) if name == "real" else np.repeat(value[:1], missing, axis=0)
            wide.append(np.concatenate((value, filler)))
        batch[name] = torch.from_numpy(np.stack(wide))
    batch["label"] = torch.tensor([question["label"] for question in questions])
    return batch, len(questions), batch["ids"].numel()


def cpu_seconds():
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(data, form, workers, wanted, size):
    """Reads the shards and runs a DataLoader over `wanted` shuffled questions, repeating epochs as needed."""
    torch.set_num_threads(1)
    encode, collate = {
        "packed": (encode_packed, collate_packed),
        "padded": (cloze_data.padded_question, collate_padded),
    }[form]
    started, cpu_started = time.perf_counter(), cpu_seconds()
    dataset = Questions(cloze_data.Split(data, "train"), encode)
    generator = torch.Generator().manual_seed(1)
    order = [row for _ in range(-(-wanted // len(dataset))) for row in torch.randperm(len(dataset), generator=generator).tolist()]
    loader = DataLoader(dataset, batch_size=size, sampler=order[:wanted], collate_fn=collate, num_workers=workers)
    questions = tokens = 0
    for _, of_batch, positions in loader:
        questions += of_batch
        tokens += positions
    # The workers have ended, so their CPU time is included in RUSAGE_CHILDREN.
    wall, cpu = time.perf_counter() - started, cpu_seconds() - cpu_started
    return {"questions_per_second": questions / wall, "wall_seconds": wall, "cpu_seconds": cpu, "questions": questions, "tokens": tokens}


def run_json(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"scripts/bench: {' '.join(command)} failed with exit code {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def programs(args, data):
    """Programs in the order of a round: `{name: function that runs it}`."""
    def ours():
        if args.ours_json:
            return json.loads(Path(args.ours_json).read_text())
        return run_json([args.trainer, "bench", "--data-only", "--data", data, "--json"])

    def python(form, workers):
        return run_json([
            sys.executable, __file__, "--program", args.program, "--trainer", args.trainer, "--data", data,
            "--questions", str(args.questions), "--batch", str(args.batch), "--measure", form, str(workers),
        ])

    found = {OURS: ours}
    for form, name in FORMS.items():
        for workers in args.workers:
            found[f"{name}, {workers} workers"] = lambda form=form, workers=workers: python(form, workers)
    return found


def summary(runs):
    def median(results, value):
        return statistics.median(value(run) for run in results)

    rows = {}
    for name, results in runs.items():
        rates = [run["questions_per_second"] for run in results]
        rows[name] = {
            "questions_per_second": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
            "questions_per_cpu_second": median(results, lambda run: run["questions"] / run["cpu_seconds"]),
            "cores": median(results, lambda run: run["cpu_seconds"] / run["wall_seconds"]),
            "tokens_per_question": median(results, lambda run: run["tokens"] / run["questions"]),
            "questions": results[-1]["questions"],
        }
    return rows


def print_summary(args, place, result):
    print(place)
    print(f"data: {args.data or f'corpus of {args.passages:,} passages'}; DataLoader: {args.questions:,} shuffled questions, "
          f"{args.batch} per batch; median of {args.rounds} rounds\n")
    rows = [["program", "questions/s", "(lowest to highest)", "per CPU second", "cores used", "positions/question", "questions",
             "glm-trainer is"]]
    for name, row in result.items():
        ratio = result[OURS]["questions_per_second"] / row["questions_per_second"]
        rows.append([
            name, f"{row['questions_per_second']:,.0f}", f"({row['lowest']:,.0f} to {row['highest']:,.0f})",
            f"{row['questions_per_cpu_second']:,.0f}", f"{row['cores']:.2f}", f"{row['tokens_per_question']:,.0f}", f"{row['questions']:,}",
            "" if name == OURS else f"{ratio:.1f} times",
        ])
    machine.table(rows)


def main():
    args = arguments()
    if args.measure:
        form, workers = args.measure
        print(json.dumps(measure(args.data, form, int(workers), args.questions, args.batch)))
        return
    place = machine.describe()
    log(place)
    folder = None
    try:
        if args.data is None:
            folder = Path(tempfile.mkdtemp(prefix="glm-bench-", dir=args.dir))
        data = args.data or corpus.ingested(folder, args.passages, args.program)
        todo = programs(args, data)
        runs = {name: [] for name in todo}
        for number in range(args.rounds):
            for name, run in todo.items():
                runs[name].append(run())
                log(f"  round {number + 1}, {name}: {runs[name][-1]['questions_per_second']:,.0f} questions/s, load {machine.load()}")
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
    result = summary(runs)
    if args.json:
        print(json.dumps({"machine": place, "rounds": args.rounds, "batch": args.batch, "programs": result, "runs": runs}))
    else:
        print_summary(args, place, result)


if __name__ == "__main__":
    main()
