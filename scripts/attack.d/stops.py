"""Processes that are stopped (SIGSTOP), as on a machine that freezes; and second Ctrl-Cs."""

import os
import signal
import time

from data_sets import data_set, settings, training
from processes import Failed
from training_kills import require_no_ranks, wait_for_ranks

# Does not end by itself.
ENDLESS = settings("train.epochs=100000", "train.eval_every=0")
# Seconds until a rank gives up waiting for another, and until everything must have ended.
TIMEOUT, BOUND = 5, 90
VICTIMS = ("rank 1", "rank 0", "the launcher", "rank 0 by hand", "rank 1 by hand")


def until_it_trains(running, out, limit):
    """Waits until some steps are done."""
    start = time.monotonic()
    metrics = out / "metrics.jsonl"
    while not (metrics.is_file() and metrics.read_text().count("\n") > 2):
        if running.has_ended(0.02):
            running.end(1).require(False, "ended before the first step")
        if time.monotonic() - start > limit:
            raise Failed(f"no steps within {limit:.0f} s")


def stop_processes(attack, programs):
    data = attack.folder / "data"
    data_set(programs, data)
    options = (*ENDLESS, *settings(f"distributed.timeout={TIMEOUT}"))

    def launched(folder, victim):
        out = folder / "run"
        with programs.start(training(programs, data, out, *options, "--nproc", "2")) as launcher:
            ranks = wait_for_ranks(launcher, {}, 60 * programs.patience)
            until_it_trains(launcher, out, 60 * programs.patience)
            of_rank = {variables["RANK"]: pid for pid, variables in ranks.items()}
            stopped = launcher.pid if victim == "the launcher" else of_rank[victim[-1]]
            os.kill(stopped, signal.SIGSTOP)
            if victim == "the launcher":
                end_of_ranks(launcher, BOUND * programs.patience)
                launcher.send(signal.SIGCONT)
            ended = launcher.end(BOUND * programs.patience).check()
            ended.require(ended.code == 1, f"exit code {ended.code} instead of 1")
            require_no_ranks(launcher)

    def by_hand(folder, victim):
        out, port = folder / "run", str(attack.random.randrange(12_000, 28_000))
        variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = training(programs, data, out, *options)
        with programs.start(command, RANK="0", **variables) as first, programs.start(command, RANK="1", **variables) as second:
            until_it_trains(first, out, 60 * programs.patience)
            stopped, other = (first, second) if victim == "rank 0 by hand" else (second, first)
            stopped.send(signal.SIGSTOP)
            other.end(BOUND * programs.patience).refuses()

    for number in range(attack.count):
        victim = VICTIMS[number % len(VICTIMS)]
        attack.attempt(f"stop of {victim}", by_hand if victim.endswith("by hand") else launched, victim)


def end_of_ranks(launcher, limit):
    """Waits until only the launcher, which is stopped, is left."""
    start = time.monotonic()
    while set(launcher.family()) - {launcher.pid}:
        if time.monotonic() - start > limit:
            raise Failed(f"ranks {sorted(set(launcher.family()) - {launcher.pid})} have not ended after {limit:.0f} s")
        time.sleep(0.1)


def interrupt_twice(attack, programs):
    data = attack.folder / "data"
    data_set(programs, data)

    def one(folder, several, pause):
        out = folder / "run"
        # Large steps, so that the second signal arrives during one.
        options = (*ENDLESS, *settings("data.batch_size=64", "model.hidden=64"), *(("--nproc", "2") if several else ()))
        with programs.start(training(programs, data, out, *options)) as running:
            until_it_trains(running, out, 60 * programs.patience)
            running.send(signal.SIGINT)
            running.has_ended(pause)
            running.send(signal.SIGINT)
            # 75: the step and its checkpoint were faster than the second signal.
            ended = running.end(60 * programs.patience).succeeds(75, 130)
            ended.require("killed by" not in ended.err, "a rank was killed by a signal")
            require_no_ranks(running)

    for number in range(attack.count):
        several, pause = number % 4 == 3, attack.random.uniform(0.001, 0.02)
        attack.attempt(f"two SIGINT {1000 * pause:.0f} ms apart", one, several, pause)
