"""Processes with limits on time and memory. Linux only: reads /proc."""

import itertools
import os
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

# Variable by which the descendants of a process are found.
MARK = "GLM_ATTACK_PROCESS"
# Variables that would change the behavior of the programs.
REMOVED = ("GLM_DATA_DIR", "RUST_LOG", "RUST_BACKTRACE", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT",
           "GLM_STORE_SECRET", "GLM_STORE_SERVER", "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT", "SLURM_STEP_ID")
# A process that allocates more than this is refused memory by the system, before it harms the machine.
DATA_LIMIT = 6 << 30
# A process that uses more than this fails its try.
MEMORY_LIMIT = 1 << 30
# Text of crashes and of errors that are not meant for users.
UNCLEAR = ("panicked at", "stack backtrace", "terminate called", "frame #", "unreachable code", "Exception raised from")

_numbers = itertools.count()


class Failed(Exception):
    """A try failed; the text is the reason."""


class Stopped(BaseException):
    """All attacks are to end, because the user wants it."""


class Ended(NamedTuple):
    """A process that has ended."""

    words: list
    # Exit code, or a negative signal number.
    code: int
    # Time limit in seconds if the process exceeded it.
    exceeded: float
    out: str
    err: str
    seconds: float
    peak_bytes: int

    def require(self, condition, message):
        """Fails with the command and the end of its output if the condition is false."""
        if not condition:
            tail = "\n".join((self.out[-500:] + self.err[-1500:]).splitlines()[-12:])
            raise Failed(f"{message}\n$ {shlex.join(self.words)}\n{tail}".rstrip())

    def check(self, memory=MEMORY_LIMIT):
        """Requires that the process neither hung nor crashed, and used little memory."""
        self.require(not self.exceeded, f"no end within {self.exceeded or 0:.0f} s")
        self.require(self.code >= 0, f"killed by {name_of(-self.code)}")
        self.require(self.code != 101 and "panicked at" not in self.err, f"panic, exit code {self.code}")
        self.require(self.peak_bytes <= memory, f"{self.peak_bytes / 1e6:.0f} MB of memory")
        return self

    def succeeds(self, *codes):
        """Requires one of these exit codes; 0 if none is given."""
        self.check()
        self.require(self.code in (codes or (0,)), f"exit code {self.code}")
        return self

    def refuses(self, code=1):
        """Requires this exit code, with an error message of one line."""
        self.check()
        self.require(self.code == code, f"exit code {self.code} instead of {code}")
        lines = [line for line in self.err.splitlines() if line.strip() and " WARN " not in line and " INFO " not in line]
        unclear = [text for text in UNCLEAR if text in self.err]
        self.require(not unclear, f"the error contains {unclear}")
        # `verify` reports a fault on standard output.
        self.require(len(lines) == 1 or (not lines and self.out.strip()), f"an error of {len(lines)} lines")
        return self


class Running:
    """A process, and its descendants."""

    def __init__(self, programs, words, cwd, variables):
        self.programs = programs
        self.words = [str(word) for word in words]
        self.mark = f"{os.getpid()}-{next(_numbers)}"
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        limited = ["sh", "-c", 'ulimit -c 0 && ulimit -d "$0" && exec "$@"', str(DATA_LIMIT >> 10), *self.words]
        self.start = time.monotonic()
        # A session of its own, so that Ctrl-C in a terminal does not reach it.
        self.process = subprocess.Popen(
            limited, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, cwd=cwd, start_new_session=True,
            env={**programs.environment, **variables, MARK: self.mark})
        self.pid = self.process.pid
        self.watch = os.pidfd_open(self.pid)
        self.ended = None

    def has_ended(self, seconds=0.0):
        """Waits for at most `seconds`; returns true if the process has ended."""
        if self.ended is not None:
            return True
        poll = select.poll()
        poll.register(self.watch, select.POLLIN)
        return bool(poll.poll(max(seconds, 0) * 1000))

    def send(self, number):
        """Sends a signal to the process, unless it has ended."""
        if not self.has_ended():
            os.kill(self.pid, number)

    def end(self, limit):
        """Waits for the process to end; after `limit` seconds, kills it with its descendants."""
        ended = self.reap(limit)
        if self.programs.stopped:
            raise Stopped
        return ended

    def reap(self, limit):
        if self.ended is None:
            exceeded = 0.0 if self.has_ended(limit) else limit
            if exceeded:
                self.kill_all()
            _, status, usage = os.wait4(self.pid, 0)
            self.process.returncode = code = os.waitstatus_to_exitcode(status)
            os.close(self.watch)
            seconds = time.monotonic() - self.start
            out, err = (text_of(stream) for stream in (self.out, self.err))
            self.ended = Ended(self.words, code, exceeded, out, err, seconds, usage.ru_maxrss << 10)
        return self.ended

    def family(self):
        """Returns the environments of all running processes with the mark of this one, by process id."""
        return marked(lambda mark: mark == self.mark)

    def kill_all(self):
        """Kills the process and its descendants."""
        # Twice, because a process may have started another one in between.
        for _ in range(2):
            kill({*self.family(), *([] if self.ended else [self.pid])})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill_all()
        self.reap(60)
        self.out.close()
        self.err.close()


class Programs:
    """Both programs. `patience` multiplies all time limits."""

    def __init__(self, folder, patience):
        self.prep, self.trainer = folder / "glm-prep", folder / "glm-trainer"
        self.patience = patience
        self.environment = {name: value for name, value in os.environ.items() if name not in REMOVED}
        # Several attacks run side by side, so that more threads would only wait for each other.
        self.environment["OMP_NUM_THREADS"] = "1"
        self.stopped = False

    def stop(self):
        """Ends all processes, and all attacks at their next one."""
        self.stopped = True
        kill(marked(lambda mark: mark.startswith(f"{os.getpid()}-")))

    def start(self, words, cwd=None, **variables):
        if self.stopped:
            raise Stopped
        return Running(self, words, cwd, variables)

    def run(self, words, limit=60, cwd=None):
        """Runs a command to its end."""
        with self.start(words, cwd) as running:
            return running.end(limit * self.patience)

    def kill(self, words, moment):
        """Starts a command and kills it after `moment` seconds. Its exit code is -9 if it had not ended before."""
        with self.start(words) as running:
            running.has_ended(moment)
            running.send(signal.SIGKILL)
            return running.end(60 * self.patience)


def marked(is_wanted):
    """Returns the environments of all running processes with a wanted mark, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            entries = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            # It has ended, or belongs to another user.
            continue
        variables = dict(entry.partition("=")[::2] for entry in entries)
        if MARK in variables and is_wanted(variables[MARK]):
            found[int(folder.name)] = variables
    return found


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def name_of(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def text_of(stream):
    stream.seek(0)
    return stream.read().decode(errors="replace")


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
