"""Compares the training speed of glm-trainer with the published algorithm in plain PyTorch, on the same machine and shards, and
splits the speedup into its causes; see scripts/bench.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cloze_data
import corpus
import flops
import machine
import padded_model
from machine import log

HERE = Path(__file__).resolve().parent
RECOMPUTE, PLAIN = "published, with recomputation", "published, without recomputation"


def names(allowed):
    def parse(text):
        values = text.split(",")
        if any(value not in allowed for value in values):
            raise argparse.ArgumentTypeError(f"expected comma-separated values of {', '.join(allowed)}")
        return values
    return parse


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench train", description=__doc__)
    parser.add_argument("--preset", type=names(list(padded_model.PRESETS)), default=["base"], metavar="P,P", help="base, large, tiny")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each program (default 3)")
    parser.add_argument("--data", default=None, metavar="DIR", help="ingested data set; default: a temporary corpus")
    parser.add_argument("--passages", type=int, default=3000, help="passages of the temporary corpus (default 3000)")
    parser.add_argument("--dir", default=None, metavar="FOLDER", help="parent folder of the temporary corpus")
    parser.add_argument("--precision", type=names(["fp32", "bf16"]), default=None, metavar="P,P",
                        help="precisions of glm-trainer; default: fp32, and bf16 if the processor has instructions for it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--questions", type=int, default=2, help="timed questions per round of the published form (default 2)")
    parser.add_argument("--warmup", type=int, default=1, help="untimed questions of the published form, and untimed steps of glm-trainer (default 1)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps per round of glm-trainer (default 3)")
    parser.add_argument("--no-check", action="store_true", help="skip the comparison of the published form with golden outputs")
    parser.add_argument("--ours-json", default=None, metavar="FILE", help="use this output of glm-trainer bench instead of running it; for tests")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--trainer", required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.rounds, args.passages, args.threads, args.questions, args.steps) < 1 or args.warmup < 0:
        parser.error("all numbers must be at least 1, --warmup at least 0")
    if args.precision is None:
        args.precision = ["fp32", "bf16"] if machine.has_bf16() else ["fp32"]
    return args


def run_json(command):
    """Runs a program; returns the JSON object in the last line of its output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"scripts/bench: {' '.join(map(str, command))} failed with exit code {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(args, data, preset, precision):
    if args.ours_json:
        return json.loads(Path(args.ours_json).read_text()) | {"precision": precision}
    return run_json([
        args.trainer, "bench", "--data", data, "--preset", preset, "--device", "cpu", "--threads", str(args.threads),
        "--precision", precision, "--warmup", str(args.warmup), "--steps", str(args.steps), "--json",
    ])


def published(args, data, preset, recompute):
    return run_json([
        sys.executable, str(HERE / "padded_baseline.py"), "--data", data, "--preset", preset, "--threads", str(args.threads),
        "--questions", str(args.questions), "--warmup", str(args.warmup), "--json",
        *(["--checkpoint-activations"] if recompute else []),
    ])


def programs(args, data, preset, most_choices):
    """Programs in the order of a round, `{name: function that runs it}`; the published form only if it fits in memory."""
    found = {}
    for precision in args.precision:
        found[f"glm-trainer, {precision}"] = lambda precision=precision: ours(args, data, preset, precision)
    layers, hidden, heads = padded_model.PRESETS[preset]
    for name, recompute in ((RECOMPUTE, True), (PLAIN, False)):
        needed = padded_model.memory(most_choices, layers, hidden, heads, recompute)
        available = machine.memory_available()
        if needed > 0.85 * available:
            log(f"skipped: {name}, {preset}: needs about {needed / 1e9:.0f} GB, {available / 1e9:.0f} GB available")
            continue
        found[name] = lambda recompute=recompute: published(args, data, preset, recompute)
    return found


def measure(args, data, preset, split):
    """Runs all programs; returns `{name: [result of each round]}`."""
    most = max(len(split[row].choices) for row in split.spread(args.questions))
    todo = programs(args, data, preset, most)
    runs = {name: [] for name in todo}
    for number in range(args.rounds):
        for name, run in todo.items():
            runs[name].append(run())
            log(f"  {preset}, round {number + 1}, {name}: {runs[name][-1]['questions_per_second']:.4f} questions/s "
                f"({runs[name][-1]['mean_choices']:.2f} choices each), load {machine.load()}")
    return runs


def at_choices(result, choices):
    """Questions/s of the published form for questions with this many choices; its time is proportional to the number of sequences."""
    step = statistics.median(result["optimizer_step_seconds"]) / result["combined_batch_size"]
    return 1 / (choices / result["choices_per_second"] + step)


def summary(preset, runs, counted):
    layers, hidden, _ = padded_model.PRESETS[preset]
    steps = flops.steps(counted, layers, hidden)
    choices = flops.means(counted)["choices"]
    ours_choices = statistics.median(run["mean_choices"] for name in runs if name.startswith("glm") for run in runs[name])
    rates, rows = {}, {}
    for name, results in runs.items():
        mine = name.startswith("glm")
        rates[name] = [run["questions_per_second"] if mine else at_choices(run, ours_choices) for run in results]
        # FLOPs of an average question of the shards; for the published form, scaled to the choices of the timed questions.
        work = steps[-1][1] if mine else steps[0 if name == RECOMPUTE else 1][1] * ours_choices / choices
        rows[name] = {
            "questions_per_second": statistics.median(rates[name]),
            "lowest": min(rates[name]),
            "highest": max(rates[name]),
            "gflop_per_second": statistics.median(rates[name]) * work / 1e9,
            "peak_memory_bytes": max(run["peak_memory_bytes"] for run in results),
        }
        if not mine:
            rows[name]["as_timed_questions_per_second"] = statistics.median(run["questions_per_second"] for run in results)
            rows[name]["as_timed_mean_choices"] = statistics.median(run["mean_choices"] for run in results)
    ratios = []
    for name in runs:
        for base in (RECOMPUTE, PLAIN):
            if not name.startswith("glm") or base not in runs:
                continue
            of_rounds = [a / b for a, b in zip(rates[name], rates[base])]
            first = steps[0 if base == RECOMPUTE else 1][1]
            ratio, fewer = statistics.median(of_rounds), first / steps[-1][1]
            ratios.append({
                "of": name, "to": base, "ratio": ratio, "lowest": min(of_rounds), "highest": max(of_rounds),
                "flop_factor": fewer, "rest": ratio / fewer,
            })
    savings = [{"step": what, "gflop": value / 1e9, "factor": before / value}
               for (what, value), (_, before) in zip(steps, [steps[0], *steps])]
    return {"preset": preset, "mean_choices": ours_choices, "programs": rows, "ratios": ratios, "savings": savings}


def print_summary(args, result, runs, means):
    print(f"\nGLM-{result['preset']}, {args.threads} threads, median of {args.rounds} rounds (lowest to highest); forward, backward and "
          f"optimizer at 32 questions per step;\nquestions/s for questions with {result['mean_choices']:.2f} choices\n")
    rows = [["program", "questions/s", "", "GFLOP/s", "peak GB"]]
    for name, row in result["programs"].items():
        rows.append([name, f"{row['questions_per_second']:.4f}", f"({row['lowest']:.4f} to {row['highest']:.4f})",
                     f"{row['gflop_per_second']:.1f}", f"{row['peak_memory_bytes'] / 1e9:.2f}"])
    machine.table(rows)
    for name, row in result["programs"].items():
        if "as_timed_mean_choices" in row:
            print(f"{name}: timed on {args.questions} questions per round with {row['as_timed_mean_choices']:.2f} choices, "
                  f"{row['as_timed_questions_per_second']:.4f} questions/s")
        else:
            last = runs[name][-1]
            print(f"{name}: timed on {args.steps} steps of {last['batch_size']} questions per round; per question: "
                  f"{last['mean_context_tokens']:.1f} context tokens, {last['mean_piece_tokens']:.1f} piece tokens, "
                  f"{last['mean_scored']:.1f} scored, padding {last['padding']:.1%}, waiting for data {last['data_wait']:.1%}")
    print()
    rows = [["speedup", "ratio", "", "fewer FLOPs", "rest"]]
    for row in result["ratios"]:
        rows.append([f"{row['of']} to {row['to']}", f"{row['ratio']:.1f}", f"({row['lowest']:.1f} to {row['highest']:.1f})",
                     f"{row['flop_factor']:.2f}", f"{row['rest']:.2f}"])
    machine.table(rows)
    print("rest = ratio / fewer FLOPs: efficiency of the kernels, precision, padding of batches, optimizer step\n")
    rows = [["saved", "GFLOP/question", "factor"]]
    for row in result["savings"]:
        rows.append([row["step"], f"{row['gflop']:,.1f}", f"{row['factor']:.3f}"])
    machine.table(rows)
    print(f"counted over {means['questions']:,} questions of these shards")


def print_counts(means):
    print(f"\nmeans over {means['questions']:,} questions of these shards: {means['choices']:.2f} choices, "
          f"{means['answer_tokens']:.1f} answer tokens")
    print(f"published: {means['published_positions']:,.0f} positions computed, each projected to the vocabulary; "
          f"{means['published_positions_without_padding']:,.0f} are not padding")
    print(f"packed: {means['packed_context_tokens'] + means['packed_piece_tokens']:,.1f} positions computed "
          f"in {means['packed_rows']:.3f} rows, "
          f"{means['packed_context_tokens']:,.1f} of the context and {means['packed_piece_tokens']:.1f} of pieces; "
          f"{means['packed_scored_positions']:.1f} projected to the vocabulary")


def main():
    args = arguments()
    place = machine.describe()
    log(place)
    if not args.no_check:
        log("comparing the published form with golden outputs")
        command = [sys.executable, str(HERE / "check_baseline.py"), "--program", args.program]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{done.stdout}scripts/bench: the published form differs from its golden outputs")
    folder = None
    try:
        if args.data is None:
            folder = Path(tempfile.mkdtemp(prefix="glm-bench-", dir=args.dir))
        data = args.data or corpus.ingested(folder, args.passages, args.program)
        split = cloze_data.Split(data, "train")
        counted = flops.count(split)
        means = flops.means(counted)
        results = [(preset, measure(args, data, preset, split)) for preset in args.preset]
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
    summaries = [summary(preset, runs, counted) for preset, runs in results]
    if args.json:
        print(json.dumps({
            "machine": place, "threads": args.threads, "rounds": args.rounds, "questions": means,
            "presets": [one | {"runs": runs} for one, (_, runs) in zip(summaries, results)],
        }))
        return
    print(place)
    print(f"data: {args.data or f'corpus of {args.passages:,} passages'}")
    print_counts(means)
    for one, (_, runs) in zip(summaries, results):
        print_summary(args, one, runs, means)


if __name__ == "__main__":
    main()
