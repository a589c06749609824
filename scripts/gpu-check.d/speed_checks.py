"""Checks of speed, which have the GPU to themselves: checkpoints, `run` against `bench`, and the table of `bench`."""

import json
import re
import statistics
import sys

from checks import at_least, at_most, equal, for_the_record
from programs import Failed, Skipped, libtorch

BUDGET = 60
# Seconds that a checkpoint may block training.
MAX_BLOCKED = 0.2
# Speed of `run` in relation to `bench`.
MIN_RATIO = 0.97
BLOCKED = re.compile(r"checkpoint .*?blocked (?:for )?([0-9.]+) s, written in ([0-9.]+) s")


def settings(plan, precision, questions):
    # One batch per step.
    chosen = (f"train.precision={precision}", f"data.batch_size={questions}", f"data.micro_batch_tokens={plan.micro_batch_tokens}")
    return [word for setting in chosen for word in ("--set", setting)]


def long_run(context, *options):
    """A run with a checkpoint halfway: its train records, and the times of its checkpoints as (blocked, written)."""
    plan = context.plan
    folder = context.scratch / "-".join(["speed", *map(str, options)])
    _, text = context.programs.run(
        "glm-trainer", "run", "--device", plan.device, "--preset", plan.preset, "--init", "random", "--seed", 1,
        "--data", context.package / "data/speed", "--out", folder, "--max-steps", plan.steps,
        *settings(plan, plan.precisions[0], plan.questions), "--set", "train.target_metric=0",
        "--set", f"train.log_every={plan.log_every}", "--set", f"train.save_every={plan.steps // 2 * plan.questions}",
        *options, budget=BUDGET)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = [(float(blocked), float(written)) for blocked, written in BLOCKED.findall(text)]
    return [record for record in records if record["kind"] == "train"], times


def speed_of(context, records):
    """Questions per second before the checkpoint, without the steps that warm up, and while it is written."""
    half = context.plan.steps // 2
    before = [record["samples_per_second"] for record in records if context.plan.log_every < record["step"] <= half]
    beside = [record["samples_per_second"] for record in records if record["step"] > half]
    if not before or not beside:
        raise Failed(f"{len(records)} train records are too few")
    return statistics.median(before), statistics.median(beside)


def shared_run(context):
    return context.once("long run", lambda: long_run(context))


def checkpoint(context):
    _, times = shared_run(context)
    if not times:
        raise Failed("no log line reports a checkpoint")
    # The last one waits for the first, which may still be being written.
    return [
        at_most("seconds that a checkpoint blocks training", times[0][0], MAX_BLOCKED),
        for_the_record("seconds to write it", times[0][1]),
        for_the_record("seconds that the last checkpoint blocks", times[-1][0]),
    ]


def bench(context, *arguments):
    output, _ = context.programs.run(
        "glm-trainer", "bench", "--device", context.plan.device, "--preset", context.plan.preset, "--json", *arguments,
        budget=BUDGET)
    result = json.loads(output)
    return result if isinstance(result, list) else [result]


def speed(context):
    plan = context.plan
    records, _ = shared_run(context)
    before, beside = speed_of(context, records)
    [found] = bench(
        context, "--data", context.package / "data/speed", "--steps", plan.bench_steps,
        *settings(plan, plan.precisions[0], plan.questions))
    ratio = before / found["questions_per_second"]
    return [
        at_least("speed of run in relation to bench", ratio, plan.min_ratio),
        for_the_record("questions/s of run", before),
        for_the_record("questions/s of run while a checkpoint is written", beside),
        for_the_record("questions/s of bench on the same questions", found["questions_per_second"]),
        for_the_record("share of time that run waits for data", max(record["data_wait"] for record in records)),
    ]


def group_speed(context):
    records, times = long_run(context, "--nproc", 1)
    before, _ = speed_of(context, records)
    alone, _ = speed_of(context, shared_run(context)[0])
    return [
        for_the_record("questions/s with --nproc 1", before),
        for_the_record("in relation to one process without a group", before / alone),
        for_the_record("seconds that a checkpoint blocks training", times[0][0] if times else None),
    ]


def table(context, precision, sizes):
    plan = context.plan
    results = bench(
        context, "--steps", plan.bench_steps, "--batch-sizes", ",".join(map(str, sizes)),
        *settings(plan, precision, plan.questions))
    figures = [equal("numbers of questions", [result["batch_size"] for result in results], list(sizes), precision)]
    figures += [
        for_the_record(f"questions/s with {result['batch_size']} questions per step", result["questions_per_second"], precision)
        | {"bench": result}
        for result in results
    ]
    figures.append(equal("skipped steps", sum(result.get("skipped_steps", 0) for result in results), 0, precision))
    return figures


def first_table(context):
    return table(context, context.plan.precisions[0], context.plan.sizes)


def second_table(context):
    return table(context, context.plan.precisions[1], context.plan.few_sizes)


def profile(context):
    plan = context.plan
    [result] = bench(context, "--steps", plan.bench_steps, "--profile", *settings(plan, plan.precisions[0], plan.questions))
    figures = [for_the_record(f"seconds per step: {name}", seconds) for name, seconds in result["profile"]]
    return [at_least("kinds of operations", len(figures), 1), *figures]


def published(context):
    if libtorch() is None:
        raise Skipped("this Python has no torch")
    plan = context.plan
    [result] = bench(
        context, "--baseline", "--python", sys.executable, "--steps", plan.bench_steps,
        *settings(plan, plan.precisions[0], plan.questions))
    form = result.pop("published")
    return [
        at_least("speed in relation to the published form", result["speedup"], 1.0),
        for_the_record("questions/s of the published form in PyTorch", form["questions_per_second"]) | {"published": form},
        for_the_record("questions/s", result["questions_per_second"]) | {"bench": result},
    ]


def infilling(context):
    """Tokens per second of training on synthetic questions and on synthetic documents, in as many samples per step."""
    plan = context.plan
    results = bench(
        context, "--task", "cloze,infill", "--steps", plan.bench_steps, *settings(plan, plan.precisions[0], plan.questions))
    figures = [equal("tasks", [result["task"] for result in results], ["cloze", "infill"])]
    for result in results:
        task = result["task"]
        figures.append(for_the_record(f"tokens/s, {task}", result["tokens_per_second"]))
        figures.append(for_the_record(f"predicted tokens/s, {task}", result["targets_per_second"]))
        figures.append(for_the_record(f"share of a matrix product, {task}", result["utilisation"]))
    figures.append(equal("skipped steps", sum(result["skipped_steps"] for result in results), 0))
    return figures


def generation(context):
    """Tokens per second of generation, one text at a time and several together, and of a plain loop in PyTorch."""
    plan = context.plan
    compared = [] if libtorch() is None else ["--baseline", "--python", sys.executable]
    [result] = bench(
        context, "--generate", "--precision", plan.precisions[0], "--steps", 2,
        "--new-tokens", 8 if plan.device == "cpu" else 128, *compared)
    figures = [
        for_the_record(f"tokens/s, {speed['batch_size']} texts together", speed["tokens_per_second"]) for speed in result["speeds"]
    ]
    if compared:
        figures.append(for_the_record("tokens/s of a plain loop in PyTorch", result["plain"]["tokens_per_second"]))
    figures[0]["bench"] = result
    return figures


CHECKS = {
    "checkpoint": checkpoint, "speed": speed, "bench": first_table, "bench-second": second_table, "profile": profile,
    "published": published, "infill-speed": infilling, "generation-speed": generation, "nccl-speed": group_speed,
}
