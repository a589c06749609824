//! Runs cuda/compile.py, compresses its output and describes it as Rust code, which `src/cuda/embedded.rs` includes.
//!
//! Environment variables:
//! - `GLM_PYTHON`: Python interpreter. Default: that of the repository's `.venv`, else `python3`.
//! - `GLM_CUDA_ARCHS`: architectures to compile for, such as `90` or `80,90`, which makes builds faster. Default: all.
//! - `GLM_CACHE_DIR`: Triton's cache is the folder `triton` in it. Default: a folder in the target folder.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// High, as it costs a few seconds once and shrinks the cubins to a seventh.
const COMPRESSION_LEVEL: i32 = 15;

/// Compiles and embeds the kernels. The error is text for the user.
pub(crate) fn embed() -> Result<(), String> {
    println!("cargo:rerun-if-changed=build/cuda.rs");
    for variable in ["GLM_PYTHON", "GLM_CUDA_ARCHS", "LIBTORCH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let package = variable("CARGO_MANIFEST_DIR")?;
    let sources = package.join("cuda");
    // Single files, because tests may leave a __pycache__ in the folder. A new file comes with a change of variants.py.
    for entry in fs::read_dir(&sources).map_err(|error| format!("{}: {error}", sources.display()))? {
        let path = entry.map_err(|error| format!("{}: {error}", sources.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    let out = variable("OUT_DIR")?;
    let kernels = out.join("kernels");
    compile(&package, &sources, &out, &kernels)?;
    let table = read_table(&kernels)?;
    for arch in table.keys() {
        let cubins = read(&kernels.join(format!("sm_{arch}.bin")))?;
        let compressed = zstd::encode_all(&cubins[..], COMPRESSION_LEVEL).map_err(|error| error.to_string())?;
        write(&kernels.join(format!("sm_{arch}.zst")), &compressed)?;
    }
    write(&out.join("kernels.rs"), generate(&table)?.as_bytes())
}

fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("{name} is not set: this is a build script of cargo"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs compile.py, which writes into the folder `kernels`.
fn compile(package: &Path, sources: &Path, out: &Path, kernels: &Path) -> Result<(), String> {
    let repository = package.ancestors().nth(2).unwrap_or(package);
    let python = python(repository);
    let cache = match env::var_os("GLM_CACHE_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => repository.join(folder).join("triton"),
        // OUT_DIR is target/PROFILE/build/glm-kernels-HASH/out.
        None => out.ancestors().nth(4).unwrap_or(out).join("triton"),
    };
    let mut command = Command::new(&python);
    command.arg(sources.join("compile.py")).arg("--out").arg(kernels).arg("--cache").arg(cache);
    // Respects `cargo build --jobs`.
    if let Some(jobs) = env::var_os("NUM_JOBS") {
        command.arg("--jobs").arg(jobs);
    }
    if let Some(archs) = env::var_os("GLM_CUDA_ARCHS").filter(|archs| !archs.is_empty()) {
        command.arg("--arch").arg(archs);
    }
    if let Some(path) = python_path() {
        command.env("PYTHONPATH", path);
    }
    let output = command.output().map_err(|error| {
        format!(
            "{} does not start ({error}): the feature `cuda` needs Python; run scripts/setup --cuda, or set GLM_PYTHON",
            python.display()
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("the GPU kernels do not compile ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

fn python(repository: &Path) -> PathBuf {
    let environment = repository.join(".venv/bin/python");
    match env::var_os("GLM_PYTHON").filter(|python| !python.is_empty()) {
        Some(python) => python.into(),
        None if environment.exists() => environment,
        None => "python3".into(),
    }
}

/// Search path of Python's modules: Triton is installed beside libtorch.
fn python_path() -> Option<OsString> {
    let libtorch = env::var_os("LIBTORCH")?;
    let installed = Path::new(&libtorch).parent()?.to_owned();
    let others = env::var_os("PYTHONPATH").unwrap_or_default();
    env::join_paths(std::iter::once(installed).chain(env::split_paths(&others).filter(|path| !path.as_os_str().is_empty())))
        .ok()
}

/// Entries of table.json by architecture.
fn read_table(kernels: &Path) -> Result<BTreeMap<u32, Vec<Value>>, String> {
    let path = kernels.join("table.json");
    let table: BTreeMap<String, Vec<Value>> =
        serde_json::from_slice(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    table
        .into_iter()
        .map(|(arch, entries)| Ok((arch.parse().map_err(|_| format!("table.json: invalid {arch}"))?, entries)))
        .collect()
}

/// Rust code of the table, of the signatures and of their comparison with calls.rs.
fn generate(table: &BTreeMap<u32, Vec<Value>>) -> Result<String, String> {
    let mut code = String::from("// Generated by build.rs.\n\npub(super) static ARCHITECTURES: &[Architecture] = &[\n");
    let mut signatures = BTreeMap::new();
    for (arch, entries) in table {
        let file = format!("/kernels/sm_{arch}.zst");
        let blob = format!("include_bytes!(concat!(env!(\"OUT_DIR\"), {file:?}))");
        code += &format!("Architecture {{ number: {arch}, compressed: {blob}, entries: &[\n");
        for entry in entries {
            let arguments = arguments(entry)?;
            code += &describe(entry, &arguments)?;
            signatures.insert(text(entry, "name")?.to_owned(), arguments);
        }
        code += "] },\n";
    }
    code += "];\n\npub(super) const SIGNATURES: &[Signature] = &[\n";
    for (kernel, arguments) in &signatures {
        code += &format!("({kernel:?}, &{arguments:?}),\n");
    }
    code += "];\n";
    for (kernel, arguments) in &signatures {
        let expected: Vec<String> = arguments.iter().map(|(name, class)| format!("{name}: {class}")).collect();
        let message = format!("src/cuda/calls.rs must declare the kernel {kernel} with the arguments {}", expected.join(", "));
        code += &format!("const _: () = assert!(declares(calls::SIGNATURES, {kernel:?}, &{arguments:?}), {message:?});\n");
    }
    Ok(code)
}

/// Names and classes of the arguments of a kernel.
fn arguments(entry: &Value) -> Result<Vec<(String, &'static str)>, String> {
    let list = entry["args"].as_array().ok_or("table.json: no list `args`")?;
    let argument = |argument: &Value| {
        let (Some(name), Some(kind)) = (argument[0].as_str(), argument[1].as_str()) else {
            return Err(format!("table.json: invalid argument {argument}"));
        };
        let class = match kind {
            _ if kind.starts_with('*') => "ptr",
            "i32" | "u32" => "i32",
            "i64" | "u64" => "i64",
            "fp32" => "f32",
            _ => return Err(format!("table.json: invalid type {kind}")),
        };
        Ok((name.to_owned(), class))
    };
    list.iter().map(argument).collect()
}

/// Rust code of an `Entry`.
fn describe(entry: &Value, arguments: &[(String, &str)]) -> Result<String, String> {
    let element = match text(entry, "element")? {
        "" => "None",
        "bf16" => "Some(Element::Bf16)",
        "fp16" => "Some(Element::Fp16)",
        "fp32" => "Some(Element::Fp32)",
        other => return Err(format!("table.json: invalid element {other}")),
    };
    let dropout = entry["dropout"].as_bool().ok_or("table.json: no boolean `dropout`")?;
    let mut code = format!(
        "Entry {{ variant: Variant {{ kernel: {:?}, element: {element}, size: {}, dropout: {dropout} }}, symbol: c{:?}, ",
        text(entry, "name")?,
        number(entry, "size")?,
        text(entry, "symbol")?,
    );
    for field in ["offset", "length", "shared", "warps"] {
        write!(code, "{field}: {}, ", number(entry, field)?).map_err(|error| error.to_string())?;
    }
    code += "arguments: &[";
    for (name, class) in arguments {
        let class = match *class {
            "ptr" => "Pointer",
            "i32" => "I32",
            "i64" => "I64",
            _ => "F32",
        };
        write!(code, "({name:?}, Class::{class}), ").map_err(|error| error.to_string())?;
    }
    Ok(code + "] },\n")
}

fn text<'a>(entry: &'a Value, field: &str) -> Result<&'a str, String> {
    entry[field].as_str().ok_or_else(|| format!("table.json: no string `{field}`"))
}

fn number(entry: &Value, field: &str) -> Result<u64, String> {
    entry[field].as_u64().ok_or_else(|| format!("table.json: no number `{field}`"))
}
