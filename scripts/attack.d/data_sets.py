"""Small data sets, small training runs, and comparisons of what they write."""

import hashlib
import json
import os
import shutil

from processes import Failed

# A model that takes milliseconds per step.
TINY = ("model.layers=1", "model.hidden=16", "model.heads=2", "data.batch_size=8", "data.micro_batch_tokens=600", "optim.lr=1e-3",
        "optim.decay_steps=30", "train.log_every=1", "train.target_metric=0")
# Fields of metrics.jsonl that do not depend on time.
FIELDS = ("kind", "step", "samples", "loss", "gradient_norm", "lr", "accuracy", "hits", "questions")


def settings(*pairs):
    """Options that set these settings."""
    return [word for pair in pairs for word in ("--set", pair)]


def sample(programs, folder, passages, val_passages, seed):
    """Generates raw data in ReCoRD's format."""
    words = [programs.prep, "-q", "sample", "--out", folder, "--passages", passages, "--val-passages", val_passages, "--seed", seed]
    programs.run(words).succeeds()


def data_set(programs, folder, passages=40, val_passages=12, seed=5, *options):
    """Generates and ingests raw data."""
    sample(programs, folder, passages, val_passages, seed)
    programs.run([programs.prep, "-q", "ingest", folder, *options]).succeeds()


def training(programs, data, out, *options):
    """Command that trains a tiny model from random weights."""
    return [programs.trainer, "-q", "run", "--device", "cpu", "--preset", "tiny", "--data", data, "--out", out, "--seed", "3",
            "--init", "random", *settings(*TINY), *options]


def evaluation(programs, data, weights, scores, *options):
    """Command that evaluates weights and writes the scores."""
    return [programs.trainer, "-q", "eval", "--device", "cpu", "--data", data, "--init", weights, "--scores", scores, *options]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(folder):
    """SHA-256 of all files in a folder, by relative path. Empty if there is no folder."""
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def names(folder):
    return sorted(os.listdir(folder))


def copy(source, target):
    """Copies a folder; the copies have new times, as if they had just been written."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    return target


def latest_checkpoint(run):
    """Folder of the latest checkpoint, or None."""
    latest = run / "checkpoints" / "latest"
    return latest.parent / latest.read_text().strip() if latest.is_file() else None


def check_checkpoint(folder):
    """Requires that all files of a checkpoint match their checksums."""
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        checksum, name = line.split("  ")
        if digest(folder / name) != checksum:
            raise Failed(f"{folder / name} does not match its checksum")


def results(run):
    """Results of a training run that do not depend on time."""
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        raise Failed(f"{run} has no checkpoint")
    found = {name: digest(checkpoint / name) for name in ("model.safetensors", "optimizer.safetensors")}
    found["answers"] = digest(run / "answers.jsonl")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [{name: line.get(name) for name in FIELDS} for line in lines]
    return found


def check_run(run, data, expected):
    """Requires that a finished run has these results, and that no temporary files are left there or in the folder of the data."""
    found = results(run)
    different = [name for name in expected if found[name] != expected[name]]
    if different:
        raise Failed(f"{', '.join(different)} of {run} differ from those of the undisturbed run")
    paths = [*run.rglob("*"), *data.rglob("*")]
    left = [path for path in paths if path.name.endswith(".tmp") or path.name.startswith(".writing-")]
    if left:
        raise Failed(f"temporary files are left: {', '.join(map(str, left))}")
