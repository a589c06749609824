"""Starts glm-prep and glm-trainer, the latter with the libtorch of the installed PyTorch."""

import importlib.metadata
import importlib.util
import os
import sys

TORCH = "@TORCH@"


def prep():
    """Replaces this process by glm-prep."""
    _become("glm-prep")


def trainer():
    """Replaces this process by glm-trainer."""
    # Not imported: that takes seconds. Only the place and the version of its libraries matter.
    package = importlib.util.find_spec("torch")
    if package is None or not package.submodule_search_locations:
        sys.exit(f"glm-trainer: PyTorch is missing: {sys.executable} -m pip install torch=={TORCH}")
    version = importlib.metadata.version("torch")
    if version.split("+")[0] != TORCH:
        sys.exit(f"glm-trainer: PyTorch {version} is installed, {TORCH} is required: {sys.executable} -m pip install torch=={TORCH}")
    libraries = os.path.join(package.submodule_search_locations[0], "lib")
    others = os.environ.get("LD_LIBRARY_PATH")
    os.environ["LD_LIBRARY_PATH"] = f"{libraries}:{others}" if others else libraries
    _become("glm-trainer")


def _become(program):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", program)
    try:
        os.execv(path, [program, *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"{program}: cannot start {path}: {error.strerror}")
