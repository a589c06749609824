"""Runs kernels in Triton's interpreter, on the CPU, for tests of the program that launches them.

Reads launches from standard input: a line of JSON, then the bytes of its buffers. Answers each with a line of JSON, then the bytes of all
buffers. A launch is {"kernel", "element", "size", "dropout", "grid", "buffers": [bytes], "arguments": [[name, type, value] or
[name, "ptr", buffer, offset]]}. Needs triton 3.6.0 and numpy below 2.2, and no torch.
"""
import ctypes
import json
import os
import sys
import traceback

os.environ["TRITON_INTERPRET"] = "1"

import numpy
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

import variants

NUMBERS = {"i32": (numpy.int32, tl.int32), "i64": (numpy.int64, tl.int64), "f32": (numpy.float32, tl.float32)}
NAMES = {"i32": "i32", "i64": "i64", "fp32": "f32"}
ELEMENTS = {"bf16": tl.bfloat16, "fp16": tl.float16, "fp32": tl.float32, "i64": tl.int64}


def find(launch):
    """The variant of a launch. fp32, which is not compiled, has the constants of bf16."""
    element = {"fp32": "bf16"}.get(launch["element"], launch["element"])
    for variant in variants.variants(90):
        if (variant.name, variant.element, variant.size, variant.dropout) == (
            launch["kernel"], element, launch["size"], launch["dropout"]
        ):
            return variant
    raise ValueError(f"no such kernel: {launch['kernel']}, {launch['element']}, size {launch['size']}, dropout {launch['dropout']}")


def convert(variant, launch, argument, buffers):
    """An argument as the interpreter has it inside a kernel."""
    name, given, *value = argument
    kind = variant.types[name]
    if kind.startswith("*"):
        if given != "ptr":
            raise ValueError(f"{variant.name}: {name} is a pointer, not {given}")
        element = launch["element"] if kind[1:] == variant.element else kind[1:]
        pointer = tl.pointer_type(ELEMENTS[element])
        address = ctypes.addressof(buffers[value[0]]) + value[1]
        return tl.tensor(TensorHandle(numpy.array([address], dtype=numpy.uint64), pointer), pointer)
    if given != NAMES[kind]:
        raise ValueError(f"{variant.name}: {name} is {kind}, not {given}")
    number, kind = NUMBERS[given]
    return tl.tensor(TensorHandle(numpy.array([value[0]], dtype=number), kind), kind)


def run(launch, buffers):
    """Runs one launch on its buffers."""
    variant = find(launch)
    names = [argument[0] for argument in launch["arguments"]]
    if names != list(variant.types):
        raise ValueError(f"{variant.name}: arguments are {list(variant.types)}, not {names}")
    arguments = {argument[0]: convert(variant, launch, argument, buffers) for argument in launch["arguments"]}
    variant.function[tuple(launch["grid"])](**arguments, **variant.constants)


def main():
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    # Nothing that a library prints may come between the answers.
    sys.stdout = sys.stderr
    while line := source.readline():
        launch = json.loads(line)
        buffers = [ctypes.create_string_buffer(source.read(size), size) for size in launch["buffers"]]
        try:
            run(launch, buffers)
            error = None
        except Exception:
            error = traceback.format_exc()
        answers.write(json.dumps({"error": error}).encode() + b"\n")
        for buffer in buffers:
            answers.write(buffer.raw)
        answers.flush()


if __name__ == "__main__":
    main()
