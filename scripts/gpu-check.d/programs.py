"""Runs the packed programs, each within a time limit, and keeps their output."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

# A log line of a run that repeats itself must not fill the log.
OUTPUT_LIMIT = 200_000
# Variables that would change the behavior of the programs.
REMOVED = ("GLM_DATA_DIR", "RUST_LOG", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID")


class Failed(Exception):
    """A check failed; the text is the reason."""


class Skipped(Exception):
    """A check does not apply to this machine; the text is the reason."""


class Log:
    """One file with the output of all programs."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()

    def add(self, title, text):
        with self.lock:
            self.file.write(f"==== {title}\n{text.rstrip()}\n\n")
            self.file.flush()


class Programs:
    """The programs in a folder; `deadline` ends all of them."""

    def __init__(self, folder, log, deadline):
        self.folder, self.log, self.deadline = Path(folder), log, deadline
        self.environment = {name: value for name, value in os.environ.items() if name not in REMOVED}
        libraries = libtorch()
        if libraries:
            # Prepended, because the folder of the driver's libraries may be in it.
            rest = self.environment.get("LD_LIBRARY_PATH")
            self.environment["LD_LIBRARY_PATH"] = ":".join(filter(None, (str(libraries), rest)))
        # Programs run side by side; spinning threads in excess of the cores would take minutes.
        self.environment.setdefault("OMP_NUM_THREADS", "2")
        self.environment["GLM_FIXTURES"] = str(self.folder.parent / "fixtures")

    def run(self, name, *arguments, budget=60):
        """Runs a program; returns its standard output and the text of both streams."""
        words = [str(self.folder / name), *map(str, arguments)]
        title = " ".join([name, *words[1:]])
        limit = min(budget, self.deadline - time.monotonic())
        if limit <= 0:
            raise Failed(f"out of time before `{title}`")
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            began = time.monotonic()
            # A session of its own, so that its children can be ended with it.
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.environment, start_new_session=True)
            try:
                code = process.wait(limit)
                ended = f"exit code {code}"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code, ended = None, f"no end after {limit:.0f} s"
            stdout, stderr = (read(stream) for stream in (out, err))
        both = f"{stdout}\n{stderr}".strip()
        self.log.add(f"{title}: {ended}, {time.monotonic() - began:.1f} s", both)
        if code != 0:
            last = both.splitlines()[-1] if both else "no output"
            raise Failed(f"`{title}`: {ended}: {last}", stdout)
        return stdout, both


def read(stream):
    stream.seek(0)
    text = stream.read().decode("utf-8", "replace")
    if len(text) > OUTPUT_LIMIT:
        half = OUTPUT_LIMIT // 2
        return f"{text[:half]}\n[... {len(text) - OUTPUT_LIMIT} characters left out ...]\n{text[-half:]}"
    return text


def libtorch():
    """The folder of libtorch in the packages of this Python, if there is one."""
    found = find_spec("torch")
    folder = Path(found.origin).parent / "lib" if found and found.origin else None
    return folder if folder and folder.is_dir() else None
