"""Compiles the Triton kernels ahead of time, for all GPU architectures. It needs no GPU and no driver.

    python compile.py --out DIR [--arch 80,90,...] [--jobs N] [--cache DIR] [--list]

What is compiled is the list returned by `variants(arch)` of variants.py. For each architecture, the output is a file of cubins,
`sm_90.bin`; `table.json` says where each cubin is and how it is launched:

    {"90": [{"name": "attention_forward", "element": "bf16", "size": 64, "dropout": true, "symbol": "attention_forward",
             "offset": 0, "length": 21800, "shared": 32768, "warps": 4, "args": [["q", "*bf16"], ...], "scratch": [0, 0]}, ...]}

`args` are the arguments of a launch, in order. The kernel expects two null pointers after them. The output is the same for every
run on the same sources. The build script of the crate glm-kernels embeds it in the program.
"""
import argparse
import collections
import concurrent.futures
import ctypes
import importlib.util
import json
import multiprocessing
import os
import sys
import time
import traceback
from pathlib import Path

TRITON = "3.6.0"

# Bytes of shared memory that a block may use. Cubins of sm_80 also run on 8.6 and 8.9, which have 99 KB, as has 12.0.
SHARED_LIMITS = {80: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}

# Class of an argument of a launch, by its type in Triton's signature. All pointers are of the class "ptr".
CLASSES = {"i32": "i32", "u32": "i32", "i64": "i64", "u64": "i64", "fp32": "f32"}

# Cubins start at multiples of this many bytes, as the driver reads structs in them.
ALIGNMENT = 16


class CompileError(Exception):
    """An error whose text is all that the user has to know."""


def main():
    arguments = parse_arguments()
    prepare_environment(arguments.cache)
    fix_addresses()
    check_triton()
    source = arguments.variants.resolve()
    lists = {arch: load_variants(source, arch) for arch in arguments.arch}
    for arch, variants in lists.items():
        check_unique(arch, variants)
    if arguments.list:
        for arch, variants in lists.items():
            for variant in variants:
                print(f"sm_{arch} {describe(variant)}: {variant.warps} warps, {variant.stages} stages, {variant.constants}")
        return
    start = time.monotonic()
    tasks = [(source, arch, index) for arch, variants in lists.items() for index in range(len(variants))]
    results = run(tasks, arguments.jobs)
    check_signatures(results)
    write(arguments.out, arguments.arch, results)
    print(f"{len(results)} kernels compiled in {time.monotonic() - start:.1f} s with {arguments.jobs} processes")


def parse_arguments():
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(prog="compile.py", description="Compiles the Triton kernels ahead of time.")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the output")
    parser.add_argument("--arch", type=architectures, default=list(SHARED_LIMITS), metavar="80,90,...",
                        help=f"architectures to compile for (default: {','.join(map(str, SHARED_LIMITS))})")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
                        help="number of processes (default: number of cores)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="Triton's cache, which makes later runs take seconds")
    parser.add_argument("--list", action="store_true", help="list what would be compiled, and exit")
    parser.add_argument("--variants", type=Path, default=here / "variants.py", metavar="FILE",
                        help="Python file with the function `variants` (default: variants.py beside this file)")
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.list:
        parser.error("--out is required")
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    return arguments


def architectures(text):
    """Parses the value of --arch."""
    try:
        values = sorted({int(part) for part in text.split(",")})
    except ValueError:
        values = [0]
    if any(value not in SHARED_LIMITS for value in values):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(map(str, SHARED_LIMITS))}, not {text!r}")
    return values


def prepare_environment(cache):
    """Sets Triton's environment variables, for this process and its workers. Others could change the output."""
    for name in [name for name in os.environ if name.startswith(("TRITON_", "MLIR_", "LLVM_"))]:
        del os.environ[name]
    # Line information names source files by absolute paths.
    os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
    # Intermediate code is ten times the size of the cubins.
    os.environ["TRITON_STORE_BINARY_ONLY"] = "1"
    if cache is not None:
        os.environ["TRITON_CACHE_DIR"] = str(cache.resolve())
    # No __pycache__ among the sources.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True


def fix_addresses():
    """Switches off the randomization of addresses in the processes started from here on.

    The register allocation of ptxas for sm_100 depends on addresses. Where a container forbids this call, the output is correct but
    can differ between runs.
    """
    addr_no_randomize = 0x0040000
    libc = ctypes.CDLL(None)
    current = libc.personality(0xFFFFFFFF)
    if current != -1:
        libc.personality(current | addr_no_randomize)


def check_triton():
    remedy = "run scripts/setup --cuda, which installs it into .libtorch, and set PYTHONPATH to that folder"
    try:
        import triton
    except ImportError as error:
        raise CompileError(f"Triton {TRITON} is required, but {sys.executable} cannot import it ({error}): {remedy}") from None
    if triton.__version__ != TRITON:
        found = f"{triton.__version__} in {Path(triton.__file__).parent}"
        raise CompileError(f"Triton {TRITON} is required, but {sys.executable} has {found}: {remedy}")


def load_variants(source, arch):
    """Returns what the file `source` lists for an architecture, in the order of the table."""
    module = sys.modules.get("variants")
    if module is None or Path(module.__file__) != source:
        # The kernels import each other by file name.
        sys.path.insert(0, str(source.parent))
        spec = importlib.util.spec_from_file_location("variants", source)
        module = importlib.util.module_from_spec(spec)
        sys.modules["variants"] = module
        spec.loader.exec_module(module)
    return sorted(module.variants(arch), key=key)


def key(variant):
    return (variant.name, variant.element, variant.size, variant.dropout)


def describe(variant):
    """For example `attention_forward (bf16, 64, dropout)`."""
    details = [variant.element, str(variant.size or ""), "dropout" if variant.dropout else ""]
    details = ", ".join(part for part in details if part)
    return f"{variant.name} ({details})" if details else variant.name


def check_unique(arch, variants):
    for variant in variants:
        if variant.element not in ("", "bf16", "fp16", "fp32"):
            raise CompileError(f"{describe(variant)}: unknown element {variant.element!r}")
    repeated = [name for name, count in collections.Counter(map(describe, variants)).items() if count > 1]
    if repeated:
        raise CompileError(f"listed more than once for sm_{arch}: {', '.join(repeated)}")


def run(tasks, jobs):
    """Compiles all variants. Reports all failures, not only the first."""
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        results = [attempt(task) for task in tasks]
    else:
        # A forked child would inherit LLVM's state.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as executor:
            results = list(executor.map(attempt, tasks))
    failures = [result for result in results if isinstance(result, str)]
    if failures:
        raise CompileError("\n".join(failures))
    return results


def attempt(task):
    """Compiles one variant. Returns (architecture, variant's entry in the table, cubin), or the text of an error."""
    source, arch, index = task
    label = f"sm_{arch}"
    try:
        variant = load_variants(source, arch)[index]
        label = f"{describe(variant)} for sm_{arch}"
        return (arch, *compile_variant(variant, arch))
    except CompileError as error:
        return f"{label}: {error}"
    except Exception as error:  # Triton's errors have no common base class, and not all can be sent between processes.
        return f"{label}: {''.join(traceback.format_exception(error))}"


def compile_variant(variant, arch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.function.arg_names
    check_names(variant, names)
    signature = {name: "constexpr" if name in variant.constants else variant.types[name] for name in names}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in variant.aligned}
    kernel = triton.compile(
        ASTSource(fn=variant.function, signature=signature, constexprs=variant.constants, attrs=attributes),
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": variant.warps, "num_stages": variant.stages},
    )
    metadata = kernel.metadata
    scratch = [metadata.global_scratch_size, metadata.profile_scratch_size]
    if any(scratch):
        raise CompileError(f"needs scratch memory ({scratch} bytes), which launches do not provide")
    if metadata.num_ctas != 1:
        raise CompileError("needs a cluster of blocks, which launches do not provide")
    limit = SHARED_LIMITS[arch]
    if metadata.shared > limit:
        also = ", which also serves 8.6 and 8.9," if arch == 80 else ""
        raise CompileError(f"needs {metadata.shared} bytes of shared memory; the limit of sm_{arch}{also} is {limit}: "
                           "use smaller blocks or fewer stages")
    entry = {
        "name": variant.name,
        "element": variant.element,
        "size": variant.size,
        "dropout": variant.dropout,
        "symbol": metadata.name,
        "shared": metadata.shared,
        "warps": metadata.num_warps,
        "args": [[name, signature[name]] for name in names if name not in variant.constants],
        "scratch": scratch,
    }
    return entry, kernel.asm["cubin"]


def check_names(variant, names):
    """Checks that every argument of the function is either typed or constant, and that nothing else is."""
    listed = [*variant.types, *variant.constants]
    missing = [name for name in names if name not in listed]
    unknown = [name for name in listed if name not in names]
    twice = [name for name in variant.types if name in variant.constants]
    unaligned = [name for name in variant.aligned if name not in variant.types]
    for problem, found in [("arguments without a type or a value", missing), ("not arguments of the function", unknown),
                           ("both typed and constant", twice), ("aligned, but without a type", unaligned)]:
        if found:
            raise CompileError(f"{problem}: {', '.join(found)}")
    for name, kind in variant.types.items():
        if not kind.startswith("*") and kind not in CLASSES:
            raise CompileError(f"{name}: unsupported type {kind}; supported: pointers, {', '.join(CLASSES)}")


def check_signatures(results):
    """Checks that all variants of a kernel have the same arguments, since the program declares them once."""
    first = {}
    for arch, entry, _ in results:
        arguments = [(name, "ptr" if kind.startswith("*") else CLASSES[kind]) for name, kind in entry["args"]]
        expected = first.setdefault(entry["name"], arguments)
        if arguments != expected:
            raise CompileError(f"{entry['name']}: the variants have different arguments: {expected} and {arguments} (sm_{arch})")


def write(out, archs, results):
    """Writes the table last: whoever finds it finds the cubins."""
    out.mkdir(parents=True, exist_ok=True)
    table = {}
    for arch in archs:
        blob, entries = bytearray(), []
        for _, entry, cubin in (result for result in results if result[0] == arch):
            entries.append(entry | {"offset": len(blob), "length": len(cubin)})
            blob += cubin
            blob += bytes(-len(blob) % ALIGNMENT)
        (out / f"sm_{arch}.bin").write_bytes(blob)
        table[str(arch)] = entries
        print(f"sm_{arch}: {len(entries)} kernels, {len(blob) / 1e6:.1f} MB")
    (out / "table.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except CompileError as error:
        sys.exit(f"compile.py: {error}")
