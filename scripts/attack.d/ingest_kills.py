"""Kills ingests, partitioned ingests and merges. The published data set is whole at any time."""

import os
import shutil

from data_sets import files, names, sample
from processes import Failed

SHARDS = "shards"
# Part of the kills that hit `--partition` and `merge`.
MERGES = 0.25


class Raw:
    """A raw data set, and what an undisturbed ingest makes of it."""

    def __init__(self, programs, folder, seed):
        self.folder = folder
        sample(programs, folder, 150, 40, seed)
        reference = folder.with_name(f"{folder.name}-ingested")
        shutil.copytree(folder, reference)
        self.seconds = programs.run(ingest(programs, reference)).succeeds().seconds
        self.shards, self.names = files(reference / SHARDS), names(reference)

    def put(self, target):
        """Replaces the raw data in a folder."""
        for path in self.folder.rglob("*.jsonl"):
            new = target / path.relative_to(self.folder)
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target.with_name("new.jsonl"))
            os.replace(target.with_name("new.jsonl"), new)


def ingest(programs, folder, *options):
    return [programs.prep, "-q", "ingest", folder, "--threads", "2", *options]


def merge(programs, folder):
    return [programs.prep, "-q", "merge", folder, "--threads", "2"]


def check_folder(folder, expected_names, shards):
    """Requires that an ingest has left its data set and nothing else."""
    if files(folder / SHARDS) != shards:
        raise Failed(f"{folder / SHARDS} differs from the result of an undisturbed ingest")
    if names(folder) != expected_names:
        raise Failed(f"{folder} holds {names(folder)} instead of {expected_names}")


def run(attack, programs):
    sets = [Raw(programs, attack.folder / name, seed) for seed, name in enumerate(("a", "b"), 1)]
    kill_ingests(attack, programs, sets, attack.count - attack.share(MERGES))
    kill_merges(attack, programs, sets[0], attack.share(MERGES))


def kill_ingests(attack, programs, sets, count):
    target = attack.folder / "target"
    target.mkdir()

    def one(_folder, new, moment, again):
        before = files(target / SHARDS)
        new.put(target)
        ended = programs.kill(ingest(programs, target), moment)
        ended.require(ended.code in (0, -9), f"exit code {ended.code}")
        after = files(target / SHARDS)
        ended.require(after in (before, new.shards), f"{target / SHARDS} is neither the old nor the new data set")
        ended.require(after == new.shards or ended.code != 0, "exit code 0, but the old data set")
        if after:
            programs.run([programs.prep, "-q", "verify", target]).succeeds()
        if again:
            programs.run(ingest(programs, target)).succeeds()
            check_folder(target, new.names, new.shards)

    for number in range(count):
        new = attack.random.choice(sets)
        # Half of the kills are late, around the publication.
        moment = new.seconds * attack.random.uniform(*((0.0, 1.2) if number % 2 else (0.7, 1.2)))
        again = number + 1 == count or attack.random.random() < 0.3
        attack.attempt(f"kill of an ingest after {moment:.3f} s", one, new, moment, again)


def kill_merges(attack, programs, raw, count):
    reference = attack.folder / "merged"
    shutil.copytree(raw.folder, reference)
    commands = [lambda folder, part=part: ingest(programs, folder, "--partition", f"{part}/2") for part in range(2)]
    commands.append(lambda folder: merge(programs, folder))
    seconds = [programs.run(command(reference)).succeeds().seconds for command in commands]
    expected = names(reference)
    check_folder(reference, expected, raw.shards)
    target = attack.folder / "parts"

    def one(_folder, command, moment):
        ended = programs.kill(command(target), moment)
        ended.require(ended.code in (0, -9), f"exit code {ended.code}")
        programs.run(command(target)).succeeds()
        if command is commands[-1]:
            check_folder(target, expected, raw.shards)
            programs.run([programs.prep, "-q", "verify", target]).succeeds()

    for number in range(count):
        if number % len(commands) == 0:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(raw.folder, target)
        which = number % len(commands)
        if number + 1 == count and which != 2:
            break
        moment = seconds[which] * attack.random.uniform(0.0, 1.2)
        attack.attempt(f"kill of a {('part', 'part', 'merge')[which]} after {moment:.3f} s", one, commands[which], moment)
