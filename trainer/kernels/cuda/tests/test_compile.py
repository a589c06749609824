"""Tests of compile.py with kernels of their own. Run with an interpreter that can import Triton; no GPU is needed:

    PYTHONPATH=.libtorch .venv/bin/python trainer/kernels/cuda/tests/test_compile.py
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

COMPILE = Path(__file__).resolve().parent.parent / "compile.py"
ARCHITECTURES = ["80", "90", "100", "120"]

# A variants.py with two kernels: one takes all types of arguments, the other much shared memory.
KERNELS = '''
from types import SimpleNamespace
import triton
import triton.language as tl


@triton.jit
def scale(x, out, factor, numbers, stride, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * stride + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < numbers, other=0.0).to(tl.float32)
    tl.store(out + i, (value * factor).to(out.dtype.element_ty), mask=i < numbers)


@triton.jit
def multiply(x, y, out, steps, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    acc = tl.zeros((M, N), tl.float32)
    for step in range(steps):
        a = tl.load(x + step * M * K + m[:, None] * K + k[None, :])
        b = tl.load(y + step * K * N + k[:, None] * N + n[None, :])
        acc = tl.dot(a, b, acc)
    tl.store(out + m[:, None] * N + n[None, :], acc)


def scaling(element, **changes):
    types = {"x": f"*{element}", "out": f"*{element}", "factor": "fp32", "numbers": "i64", "stride": "i32"}
    default = dict(function=scale, name="scale", element=element, size=0, dropout=False, types=types, constants={"BLOCK": 256},
                   warps=2, stages=1, aligned=("x", "out", "stride"))
    return SimpleNamespace(**(default | changes))


def multiplication():
    types = {"x": "*bf16", "y": "*bf16", "out": "*fp32", "steps": "i32"}
    return SimpleNamespace(function=multiply, name="multiply", element="bf16", size=128, dropout=True, types=types,
                           constants={"M": 128, "N": 128, "K": 64}, warps=8, stages=5, aligned=("x", "y", "out"))


def variants(arch):
    return [%s]
'''


class CompileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_compile(self, variants, *options, out="out", cache="cache", env=None):
        source = self.folder / "variants.py"
        source.write_text(KERNELS % variants)
        command = [sys.executable, COMPILE, "--variants", source, "--out", self.folder / out, "--cache", self.folder / cache]
        return subprocess.run([*command, *options], capture_output=True, text=True, env=env, check=False)

    def compiled(self, *arguments, **options):
        result = self.run_compile(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads((self.folder / options.get("out", "out") / "table.json").read_text())

    def error(self, *arguments, **options):
        """Text of the error, which must be all that is printed."""
        result = self.run_compile(*arguments, **options)
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertNotIn("Traceback", result.stderr)
        return result.stderr

    def test_table_describes_cubins_of_all_architectures(self):
        table = self.compiled('scaling("fp16"), scaling("bf16")')
        self.assertEqual(list(table), ARCHITECTURES)
        for arch, entries in table.items():
            cubins = (self.folder / "out" / f"sm_{arch}.bin").read_bytes()
            self.assertEqual([entry["element"] for entry in entries], ["bf16", "fp16"])
            for entry in entries:
                cubin = cubins[entry["offset"]:][:entry["length"]]
                self.assertEqual(cubin[:4], b"\x7fELF")
                self.assertIn(entry["symbol"].encode(), cubin)
                self.assertEqual(entry["offset"] % 16, 0)
                self.assertEqual((entry["name"], entry["size"], entry["dropout"]), ("scale", 0, False))
                self.assertEqual((entry["symbol"], entry["warps"], entry["scratch"]), ("scale", 2, [0, 0]))
                element = "*" + entry["element"]
                arguments = [["x", element], ["out", element], ["factor", "fp32"], ["numbers", "i64"], ["stride", "i32"]]
                self.assertEqual(entry["args"], arguments)

    def test_output_does_not_depend_on_the_run(self):
        variants = 'scaling("bf16"), multiplication()'
        for run, jobs in [("first", 1), ("second", 2)]:
            self.compiled(variants, "--arch", "90,100", "--jobs", str(jobs), out=run, cache=run)
        for name in ["sm_90.bin", "sm_100.bin", "table.json"]:
            first, second = [(self.folder / run / name).read_bytes() for run in ("first", "second")]
            self.assertTrue(first == second, f"{name} differs")

    def test_shared_memory_beyond_the_architecture_is_an_error(self):
        table = self.compiled("multiplication()", "--arch", "90")
        self.assertGreater(table["90"][0]["shared"], 99 << 10)
        error = self.error("multiplication()", "--arch", "80,90")
        self.assertIn("multiply (bf16, 128, dropout) for sm_80: needs ", error)
        self.assertIn("the limit of sm_80, which also serves 8.6 and 8.9, is 101376", error)
        self.assertNotIn("for sm_90", error)

    def test_all_errors_are_reported_with_the_kernel(self):
        error = self.error('scaling("bf16", types={}), scaling("fp16", aligned=("y",))', "--arch", "90")
        self.assertIn("scale (bf16) for sm_90: arguments without a type or a value: x, out, factor, numbers, stride", error)
        self.assertIn("scale (fp16) for sm_90: aligned, but without a type: y", error)

    def test_a_kernel_is_listed_once_and_has_one_signature(self):
        error = self.error('scaling("bf16"), scaling("bf16")', "--arch", "90")
        self.assertIn("listed more than once for sm_90: scale (bf16)", error)
        types = '{"x": "*fp16", "out": "*fp16", "factor": "fp32", "numbers": "i64"}'
        other = f'scaling("fp16", types={types}, constants={{"BLOCK": 256, "stride": 256}}, aligned=())'
        error = self.error(f'scaling("bf16"), {other}', "--arch", "90")
        self.assertIn("scale: the variants have different arguments", error)

    def test_triton_must_have_the_right_version(self):
        package = self.folder / "other" / "triton"
        package.mkdir(parents=True)
        env = os.environ | {"PYTHONPATH": str(package.parent)}
        for content, text in [("__version__ = '3.5.1'", "has 3.5.1 in"), ("raise ImportError('broken')", "cannot import it (broken)")]:
            (package / "__init__.py").write_text(content)
            error = self.error('scaling("bf16")', env=env)
            self.assertIn("Triton 3.6.0 is required", error)
            self.assertIn(text, error)
            self.assertIn("scripts/setup --cuda", error)


if __name__ == "__main__":
    unittest.main()
