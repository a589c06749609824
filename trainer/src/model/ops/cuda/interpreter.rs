//! Kernels in Triton's interpreter, on the CPU: tests run the operations of this module without a GPU.
//!
//! A Python process (`kernels/cuda/interpret.py`) receives the memory that a launch refers to, runs the kernel on it, and sends it back.

use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use glm_kernels::cuda::calls::Value;
use glm_kernels::cuda::{Element, Variant};
use serde_json::json;
use tch::{Kind, TchError, Tensor};

use super::launch::{Launch, Runner};

/// Triton's interpreter.
#[derive(Debug)]
pub struct Interpreter {
    process: Mutex<Process>,
}

#[derive(Debug)]
struct Process {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// The interpreter, started on first use.
pub fn interpreter() -> &'static Interpreter {
    static STARTED: OnceLock<Interpreter> = OnceLock::new();
    STARTED.get_or_init(Interpreter::start)
}

impl Interpreter {
    fn start() -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = std::env::var_os("GLM_PYTHON").map_or_else(|| repository.join(".venv/bin/python"), PathBuf::from);
        let mut child = Command::new(&python)
            .arg(repository.join("trainer/kernels/cuda/interpret.py"))
            .env("PYTHONPATH", repository.join(".triton"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; scripts/setup --triton installs what it needs", python.display()));
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { process: Mutex::new(Process { _child: child, input, output: BufReader::new(output) }) }
    }
}

/// Addresses of the memory that a tensor's elements lie in.
fn span(tensor: &Tensor) -> Range<usize> {
    let start = tensor.data_ptr() as usize;
    if tensor.numel() == 0 {
        return start..start;
    }
    let last: i64 = tensor.size().iter().zip(tensor.stride()).map(|(size, stride)| (size - 1) * stride).sum();
    start..start + (last as usize + 1) * tensor.kind().elt_size_in_bytes()
}

/// Memory of all pointers, ascending and apart.
fn spans(launch: &Launch<'_>) -> Vec<Range<usize>> {
    let mut spans: Vec<_> = launch
        .values
        .iter()
        .filter_map(|value| match value {
            Value::Pointer(tensor) => Some(span(tensor)),
            _ => None,
        })
        .filter(|span| !span.is_empty())
        .collect();
    spans.sort_by_key(|span| span.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

impl Runner for Interpreter {
    unsafe fn run(&self, launch: &Launch<'_>) -> Result<(), TchError> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let buffers = spans(launch);
        let arguments: Vec<_> = launch
            .names
            .iter()
            .zip(launch.values)
            .map(|(name, value)| match value {
                Value::Pointer(tensor) => {
                    let address = tensor.data_ptr() as usize;
                    // An empty tensor is in no buffer, and the kernel reads nothing from it.
                    let buffer = buffers.iter().position(|buffer| buffer.contains(&address));
                    let offset = buffer.map_or(0, |buffer| address - buffers[buffer].start);
                    json!([name, "ptr", buffer.unwrap_or(0), offset])
                }
                Value::I32(number) => json!([name, "i32", number]),
                Value::I64(number) => json!([name, "i64", number]),
                Value::F32(number) => json!([name, "f32", number]),
            })
            .collect();
        let element = match launch.variant.element {
            None => "",
            Some(Element::Bf16) => "bf16",
            Some(Element::Fp16) => "fp16",
            Some(Element::Fp32) => "fp32",
        };
        let Variant { kernel, size, dropout, .. } = launch.variant;
        let sizes: Vec<usize> = buffers.iter().map(ExactSizeIterator::len).collect();
        let header = json!({
            "kernel": kernel, "element": element, "size": size, "dropout": dropout,
            "grid": launch.grid, "buffers": sizes, "arguments": arguments,
        });
        // The lock also keeps two launches of one process apart.
        let mut process = self.process.lock().expect("no launch has panicked");
        writeln!(process.input, "{header}").expect("the interpreter is alive");
        for buffer in &buffers {
            // SAFETY: a tensor's memory, which the caller keeps alive and unmodified during the call.
            let bytes = unsafe { std::slice::from_raw_parts(buffer.start as *const u8, buffer.len()) };
            process.input.write_all(bytes).expect("the interpreter is alive");
        }
        process.input.flush().expect("the interpreter is alive");
        let mut answer = String::new();
        process.output.read_line(&mut answer).expect("an answer");
        for buffer in &buffers {
            // SAFETY: as above; only the kernel, which writes here, uses the memory now.
            let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.start as *mut u8, buffer.len()) };
            process.output.read_exact(bytes).expect("the memory");
        }
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        match answer["error"].as_str() {
            Some(error) => Err(TchError::Torch(error.to_owned())),
            None => Ok(()),
        }
    }

    fn element(&self, kind: Kind) -> Option<Element> {
        match kind {
            Kind::Float => Some(Element::Fp32),
            Kind::BFloat16 => Some(Element::Bf16),
            Kind::Half => Some(Element::Fp16),
            _ => None,
        }
    }

    fn has(&self, _variant: Variant) -> bool {
        true
    }
}
