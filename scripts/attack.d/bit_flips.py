"""Flips single bits of shards, their manifest, rejected records and checkpoints.

Each flip must be found before anything is learned from it, or be harmless: no command may succeed with other results.
"""

import json

from data_sets import copy, data_set, digest, evaluation, latest_checkpoint, results, settings, training
from processes import Failed

# Parts of the tries; the others hit checkpoints.
SHARDS, MANIFEST, REJECTS = 0.3, 0.25, 0.1
# The first part ends with one of the regular evaluations, so that a run from an earlier checkpoint has the same records.
TRAINED, RESUMED = "6", "12"
OPTIONS = settings("train.save_every=16", "train.eval_every=16")


def flip(path, random):
    """Flips a random bit of a file; returns its position."""
    data = bytearray(path.read_bytes())
    at, bit = random.randrange(len(data)), random.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"byte {at}, bit {bit}"


def found_or(ended, same):
    """Requires that a command has found the damage, or that `same` is true for its results."""
    if ended.check().code == 0:
        ended.require(same(), "exit code 0 with other results")
    else:
        ended.refuses()


class Originals:
    """A data set and a run before any damage, and the results of commands on them."""

    def __init__(self, attack, programs):
        self.programs, self.random = programs, attack.random
        self.data, self.run = attack.folder / "data", attack.folder / "run"
        self.ingest()
        # Everything below works on copies, so that no program leaves a note next to the originals that they are sound.
        self.read_data = data = copy(self.data, attack.folder / "read-data")
        programs.run(training(programs, data, self.run, "--max-steps", TRAINED, *OPTIONS)).succeeds()
        weights = copy(latest_checkpoint(self.run), attack.folder / "weights")
        self.weights = weights / "model.safetensors"
        self.scores, self.learned = {}, None
        for split in ("train", "val"):
            path = attack.folder / f"{split}.jsonl"
            programs.run(evaluation(programs, data, self.weights, path, "--split", split)).succeeds()
            self.scores[split] = digest(path)
        self.learned = self.learn(data, attack.folder / "learned")[1]
        resumed = copy(self.run, attack.folder / "resumed")
        self.resume(data, resumed).succeeds()
        self.resumed = results(resumed)
        programs.run([programs.trainer, "-q", "convert", self.weights, attack.folder / "converted.safetensors"]).succeeds()
        self.converted = digest(attack.folder / "converted.safetensors")
        self.inspected = self.inspect(weights.parent, weights.name).succeeds().out

    def ingest(self):
        """Ingests a small data set with one record that is rejected."""
        data_set(self.programs, self.data, 30, 10, 5)
        with open(self.data / "ReCoRD" / "val.jsonl", "a", encoding="utf-8") as file:
            file.write('{"source": "own"}\n')
        self.programs.run([self.programs.prep, "-q", "ingest", self.data, "--rows-per-shard", "40"]).succeeds(3)

    def learn(self, data, out):
        """Trains one epoch, without evaluations."""
        options = ("--set", "train.epochs=1", "--set", "train.eval_every=0")
        ended = self.programs.run(training(self.programs, data, out, *options))
        return ended, results(out)["model.safetensors"] if ended.code == 0 else None

    def resume(self, data, run):
        return self.programs.run(training(self.programs, data, run, "--max-steps", RESUMED, "--resume", *OPTIONS))

    def inspect(self, folder, name):
        """Inspects weights by a relative path, which is part of the output."""
        return self.programs.run([self.programs.trainer, "-q", "inspect", "--json", name], cwd=folder)

    def check_eval(self, folder, data, weights, split):
        scores = folder / "scores.jsonl"
        ended = self.programs.run(evaluation(self.programs, data, weights, scores, "--split", split))
        found_or(ended, lambda: digest(scores) == self.scores[split])

    def check_learning(self, folder, data):
        ended, learned = self.learn(data, folder / "out")
        found_or(ended, lambda: learned == self.learned)
        ended.require(ended.code == 0 or latest_checkpoint(folder / "out") is None, "learned from damaged data before it failed")


def run(attack, programs):
    originals = Originals(attack, programs)
    counts = [attack.share(part) for part in (SHARDS, MANIFEST, REJECTS)]
    for count, function in zip((*counts, max(1, attack.count - sum(counts))), (in_shard, in_manifest, in_rejects, in_checkpoint)):
        for number in range(count):
            attack.attempt(function.__name__.replace("_", " "), function, originals, number)


def damaged_set(folder, originals, pattern):
    """Copies the data set and flips a bit in one of the files that match; returns the copy and the name of the file."""
    data = copy(originals.data, folder / "data")
    path = originals.random.choice(sorted((data / "shards").rglob(pattern)))
    return data, path, f"{path.name}, {flip(path, originals.random)}"


def verify(originals, data, place):
    """Requires that `verify` finds the damage."""
    ended = originals.programs.run([originals.programs.prep, "-q", "verify", data]).check()
    ended.require(ended.code == 4, f"{place}: verify does not find it, exit code {ended.code}")
    ended.refuses(4)


def at(place, function, *arguments):
    """Calls a function; its failure names the place of the flip."""
    try:
        function(*arguments)
    except Failed as error:
        raise Failed(f"{place}: {error}") from None


def in_shard(folder, originals, number):
    split = ("train", "val")[number % 2]
    data, _, place = damaged_set(folder, originals, f"{split}-*.parquet")
    # Before `verify`, which must not be what stops them.
    if number % 4 == 0:
        at(place, originals.check_learning, folder, data)
    else:
        at(place, originals.check_eval, folder, data, originals.weights, split)
    verify(originals, data, place)


def in_manifest(folder, originals, number):
    data, _, place = damaged_set(folder, originals, "manifest.json")
    if number % 4 == 0:
        at(place, originals.check_learning, folder, data)
    else:
        at(place, originals.check_eval, folder, data, originals.weights, "val")
    verify(originals, data, place)


def in_rejects(folder, originals, _number):
    data, path, place = damaged_set(folder, originals, "rejects.jsonl")
    verify(originals, data, place)
    page = folder / "report.html"
    at(place, originals.programs.run([originals.programs.prep, "-q", "report", data, "--out", page]).check)


def in_checkpoint(folder, originals, number):
    run = copy(originals.run, folder / "run")
    checkpoint = latest_checkpoint(run)
    path = originals.random.choice(sorted(path for path in checkpoint.iterdir() if path.is_file()))
    place = f"{path.name}, {flip(path, originals.random)}"
    data = originals.read_data
    commands = [resumes, evaluates]
    if path.name == "model.safetensors":
        commands += [converts, inspects]
    at(place, commands[number % len(commands)], folder, originals, run, data)


def resumes(_folder, originals, run, data):
    # An earlier checkpoint may take the place of the damaged one.
    found_or(originals.resume(data, run), lambda: results(run) == originals.resumed)


def evaluates(folder, originals, run, data):
    originals.check_eval(folder, data, latest_checkpoint(run), "val")


def converts(folder, originals, run, _data):
    output = folder / "converted.safetensors"
    ended = originals.programs.run([originals.programs.trainer, "-q", "convert", latest_checkpoint(run), output])
    found_or(ended, lambda: digest(output) == originals.converted)


def inspects(_folder, originals, run, _data):
    checkpoint = latest_checkpoint(run)
    ended = originals.inspect(checkpoint.parent, checkpoint.name)
    found_or(ended, lambda: json.loads(ended.out).get("tensors") == json.loads(originals.inspected).get("tensors"))
