"""Inspects, converts and evaluates malformed weights."""

import os

from data_sets import data_set, evaluation, latest_checkpoint, names, settings, training
from processes import Failed
from weight_mutants import (Container, Weights, archive, archive_mutant, archives, container_mutant, safetensors_mutant,
                            safetensors_with_claims, zip_bomb)

# Parts of the tries.
CLAIMS, MUTANTS, CONTAINERS = 0.2, 0.3, 0.35
# Bytes that an archive may leave on disk, beyond its own.
LEFT = 64 << 20


class Commands:
    """Commands that read weights."""

    def __init__(self, programs, folder):
        self.programs, self.data = programs, folder / "data"
        data_set(programs, self.data, 6, 4)
        run = folder / "run"
        options = settings("model.hidden=8", "train.eval_every=0")
        programs.run(training(programs, self.data, run, "--max-steps", "1", *options)).succeeds()
        self.safetensors = latest_checkpoint(run) / "model.safetensors"
        self.published = folder / "published.pt"
        programs.run([programs.trainer, "-q", "convert", self.safetensors, self.published]).succeeds()

    def inspect(self, path, _folder):
        return self.programs.run([self.programs.trainer, "-q", "inspect", path])

    def convert(self, path, folder):
        return self.programs.run([self.programs.trainer, "-q", "convert", "--heads", "2", path, folder / "converted.safetensors"])

    def eval(self, path, folder):
        command = evaluation(self.programs, self.data, path, folder / "scores.jsonl", *settings("model.heads=2"))
        return self.programs.run(command)


def run(attack, programs):
    commands, random = Commands(programs, attack.folder), attack.random
    readers = [commands.inspect, commands.convert, commands.eval]
    weights, container = Weights(commands.safetensors.read_bytes()), Container(commands.published.read_bytes())

    def one(folder, name, data, reader, must_fail, marker=None):
        path = folder / "inner" / name
        path.parent.mkdir()
        path.write_bytes(data)
        ended = reader(path, folder).check()
        if must_fail or ended.code:
            ended.refuses()
        if marker and marker.exists():
            marker.unlink()
            raise Failed("code of the file was run")

    def archived(folder, data, reader, must_fail, outside):
        before = set(names(folder.parent)), set(names(outside.parent))
        one(folder, "glm-large-blank.tar.bz2", data, reader, must_fail)
        expected = {"inner", "scores.jsonl", "converted.safetensors"}
        if (set(names(folder.parent)), set(names(outside.parent))) != before or not expected.issuperset(names(folder)):
            raise Failed("files were written outside of the archive's folder")
        size = sum(path.lstat().st_size for path in folder.rglob("*"))
        if size > len(data) + LEFT:
            raise Failed(f"{size / 1e6:.0f} MB are left on disk")

    claims = list(safetensors_with_claims(weights))
    random.shuffle(claims)
    for number, (title, data) in enumerate(claims[: attack.share(CLAIMS)]):
        # `inspect` may list what a header claims; nothing can be loaded from it.
        reader = readers[number % 3]
        attack.attempt(f"{title}, {reader.__name__}", one, "model.safetensors", data, reader, reader is not readers[0])
    for number in range(attack.share(MUTANTS)):
        title, data = safetensors_mutant(weights, random)
        reader = readers[number % 3]
        attack.attempt(f"{title}, {reader.__name__}", one, "model.safetensors", data, reader, False)
    marker = attack.folder / "called"
    for number in range(attack.share(CONTAINERS)):
        title, data = container_mutant(container, random, marker)
        reader = readers[number % 3]
        attack.attempt(f"{title}, {reader.__name__}", one, "model.pt", data, reader, False, marker)
    attack.attempt("a zip bomb", one, "model.pt", zip_bomb(container), commands.eval, True)
    outside = attack.folder / "elsewhere" / "outside"
    os.makedirs(outside.parent)
    directed = archives(commands.published.read_bytes(), outside)
    good = archive([("blocklm-large-blank/200000/mp_rank_00_model_states.pt", commands.published.read_bytes())])
    rest = max(1, attack.count - attack.tries)
    random.shuffle(directed)
    for number in range(rest):
        title, must_fail, data = directed[number] if number < len(directed) else archive_mutant(good, random)
        reader = readers[number % 3]
        attack.attempt(f"{title}, {reader.__name__}", archived, data, reader, must_fail, outside)
