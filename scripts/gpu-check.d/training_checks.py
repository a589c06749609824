"""Checks of whole training runs of a tiny model with dropout, of `eval` and of `predict`."""

import hashlib
import json

from checks import at_most, equal, for_the_record

STEPS = 12
BUDGET = 60
# Settings of all runs; heads are 32 wide, so that fused operations exist for them.
SETTINGS = (
    "data.batch_size=8", "data.micro_batch_tokens=4096", "optim.lr=1e-3", "optim.decay_steps=30", "loss_scale.init_scale=1024",
    "train.log_every=1", "train.target_metric=0",
)


class Run:
    """Losses and weights of a finished run."""

    def __init__(self, folder):
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        self.folder = folder
        self.losses = [line["loss"] for line in lines if line["kind"] == "train"]
        latest = folder / "checkpoints" / (folder / "checkpoints/latest").read_text().strip()
        self.weights = hashlib.sha256((latest / "model.safetensors").read_bytes()).hexdigest()


# Short spans, sentences and long spans, several per sample, in samples of different lengths.
INFILLING = (
    "infill.token=0.5", "infill.sentence=0.25", "infill.document=0.25", "infill.task_mask=true", "infill.input_masking=0.1",
    "data.max_seq_len=128",
)


def train(context, name, precision, *options, steps=STEPS, settings=(), data="sample"):
    folder = context.scratch / f"{name}-{precision}"
    words = [word for setting in (*SETTINGS, f"train.precision={precision}", *settings) for word in ("--set", setting)]
    context.programs.run(
        "glm-trainer", "run", "--device", context.plan.device, "--preset", "tiny", "--init", "random", "--seed", 3,
        "--data", context.package / "data" / data, "--out", folder, "--max-steps", steps, *words, *options, budget=BUDGET)
    return Run(folder)


def reference(context, precision):
    return context.once(f"run {precision}", lambda: train(context, "first", precision))


def distance(found, expected):
    """Largest relative difference of the losses of two runs."""
    if len(found.losses) != STEPS or len(expected.losses) != STEPS:
        return None
    return max(abs(a - b) / b for a, b in zip(found.losses, expected.losses))


def same_bits(name, found, expected, precision):
    return [
        equal(f"losses of {name}", found.losses, expected.losses, precision),
        equal(f"sha256 of the weights of {name}", found.weights, expected.weights, precision),
    ]


def repeat(context):
    figures = []
    for precision in context.plan.precisions:
        again = train(context, "again", precision)
        figures += same_bits("the same run again", again, reference(context, precision), precision)
    return figures


def resume(context):
    figures = []
    for precision in context.plan.precisions:
        train(context, "halved", precision, steps=STEPS // 2)
        whole = train(context, "halved", precision, "--resume")
        figures += same_bits("a resumed run", whole, reference(context, precision), precision)
    return figures


def packing(context):
    figures = []
    for precision in context.plan.precisions:
        small = train(context, "small", precision, settings=["data.micro_batch_tokens=600"])
        deviation = distance(small, reference(context, precision))
        figures.append(at_most("losses with smaller batches", deviation, context.plan.loss_tolerances[precision], precision))
    return figures


def process_group(context):
    figures = []
    for precision in context.plan.precisions:
        alone = train(context, "nproc", precision, "--nproc", 1)
        expected = reference(context, precision)
        deviation = distance(alone, expected)
        figures.append(at_most("losses with --nproc 1", deviation, context.plan.loss_tolerances[precision], precision))
        figures.append(for_the_record("the same weights, bit for bit", alone.weights == expected.weights, precision))
    return figures


def answers(context, name, device, init, precision, data="data/sample", settings=()):
    """Result and answers of `eval` on the val split."""
    file = context.scratch / f"eval-{name}.jsonl"
    words = [word for setting in (f"train.precision={precision}", *settings) for word in ("--set", setting)]
    output, _ = context.programs.run(
        "glm-trainer", "eval", "--device", device, "--json", "--data", context.package / data, "--init", init,
        "--scores", file, *words, budget=BUDGET)
    return json.loads(output), [json.loads(line) for line in file.read_text().splitlines()]


def by_text(line):
    """Choices of an answer in the order of a val split."""
    return sorted(line["choices"], key=lambda choice: choice["text"])


def scores(line):
    """Scores of an answer, or of one of the published code, in the order of a val split."""
    return line["scores"] if "scores" in line else [choice["score"] for choice in by_text(line)]


def score_deviation(found, expected):
    """Largest relative difference of two lists of answers."""
    pairs = [pair for a, b in zip(found, expected) for pair in zip(scores(a), scores(b), strict=True)]
    return max(abs(a - b) / abs(b) for a, b in pairs) if len(found) == len(expected) else None


def evaluation(context):
    plan = context.plan
    init = reference(context, plan.precisions[0]).folder
    metrics, expected = answers(context, "cpu", "cpu", init, "fp32")
    figures = []
    for precision in ("fp32", *plan.precisions):
        found_metrics, found = answers(context, f"device-{precision}", plan.device, init, precision)
        tolerance = plan.score_tolerances[precision]
        figures.append(at_most("scores, to the CPU in fp32", score_deviation(found, expected), tolerance, precision))
        same = sum(a["predicted"] == b["predicted"] for a, b in zip(found, expected)) / len(expected)
        if precision == "fp32":
            figures.append(equal("accuracy", found_metrics["accuracy"], metrics["accuracy"], precision))
        figures.append(for_the_record("share of equal predictions", same, precision))
    return figures


def predicted(line):
    """Place of the best choice in the order of a val split."""
    return [choice["choice_index"] for choice in by_text(line)].index(line["predicted"])


def published_evaluation(context):
    """Weights in the published layout, and the scores of the published code."""
    model = context.package / "fixtures/golden/model/full-vocab"
    golden = json.loads((model / "cloze_scores.json").read_text())
    metrics, found = answers(
        context, "published", context.plan.device, model / "blocklm-tiny", "fp32", "data/golden", ["model.heads=2"])
    return [
        equal("accuracy", metrics["accuracy"], golden["dev_accuracy"]),
        equal("predictions", [predicted(one) for one in found], [one["predicted"] for one in golden["dev"]]),
        at_most("scores", score_deviation(found, golden["dev"]), context.plan.score_tolerances["fp32"]),
    ]


def predictions(context):
    init = reference(context, context.plan.precisions[0]).folder
    files = []
    for name, device in (("cpu", "cpu"), ("device", context.plan.device)):
        out, scored = (context.scratch / f"predict-{name}{end}.jsonl" for end in ("", "-scores"))
        context.programs.run(
            "glm-trainer", "predict", "--device", device, "--split", "val", "--data", context.package / "data/sample",
            "--init", init, "--out", out, "--scores", scored, "--set", "train.precision=fp32", budget=BUDGET)
        files.append((out.read_text(), [json.loads(line) for line in scored.read_text().splitlines()]))
    (expected, expected_scores), (found, found_scores) = files
    return [
        equal("predictions of the CPU", found, expected),
        at_most("scores", score_deviation(found_scores, expected_scores), context.plan.score_tolerances["fp32"]),
    ]


def documents_run(context, name, precision, *options, **more):
    settings = (*INFILLING, *more.pop("settings", ()))
    return train(context, f"infill-{name}", precision, "--task", "infill", *options, settings=settings, data="documents", **more)


def infilling(context):
    """Losses of samples with several spans, by objective, against the CPU; and training in smaller batches and resumed."""
    plan = context.plan
    run = documents_run(context, "first", plan.precisions[0])

    def losses(device, precision):
        words = [word for setting in (f"train.precision={precision}", *INFILLING) for word in ("--set", setting)]
        output, _ = context.programs.run(
            "glm-trainer", "eval", "--device", device, "--json", "--data", context.package / "data/documents", "--init", run.folder,
            *words, budget=BUDGET)
        return json.loads(output)

    expected = losses("cpu", "fp32")
    figures = []
    for precision in ("fp32", *plan.precisions):
        found, tolerance = losses(plan.device, precision), plan.loss_tolerances[precision]
        figures.append(equal("predicted tokens", found["target_tokens"], expected["target_tokens"], precision))
        for key in ("loss", "loss_token", "loss_sentence", "loss_document"):
            deviation = abs(found[key] - expected[key]) / expected[key]
            figures.append(at_most(f"{key}, to the CPU in fp32", deviation, tolerance, precision))
    precision = plan.precisions[0]
    small = documents_run(context, "small", precision, settings=["data.micro_batch_tokens=600"])
    figures.append(at_most("losses with smaller batches", distance(small, run), plan.loss_tolerances[precision], precision))
    documents_run(context, "halved", precision, steps=STEPS // 2)
    whole = documents_run(context, "halved", precision, "--resume")
    return figures + same_bits("a resumed run", whole, run, precision)


CHECKS = {
    "repeat": repeat, "resume": resume, "packing": packing, "nccl": process_group, "eval": evaluation,
    "eval-published": published_evaluation, "predict": predictions, "infill": infilling,
}
