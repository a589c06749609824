//! Launches of the Triton kernels on libtorch's current stream.

use std::fmt;

use glm_kernels::cuda::calls::{Call, Value};
use glm_kernels::cuda::{Element, Variant};
use tch::{Device, Kind, TchError, Tensor};

/// One launch.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The compiled form of the kernel.
    pub variant: Variant,
    /// Number of programs in both directions.
    pub grid: [usize; 2],
    /// Names of the arguments.
    pub names: &'a [&'static str],
    /// Arguments in order.
    pub values: &'a [Value<&'a Tensor>],
}

/// Runs kernels: the CUDA driver, or Triton's interpreter in tests.
pub trait Runner: fmt::Debug + Send + Sync {
    /// Queues a launch.
    ///
    /// # Safety
    /// The kernel must not read or write outside the tensors' memory: shapes, strides and tables go together as the kernel's
    /// documentation requires.
    ///
    /// # Errors
    /// A [`TchError`].
    unsafe fn run(&self, launch: &Launch<'_>) -> Result<(), TchError>;

    /// Number format in which kernels compute on activations of this kind, if there is one.
    fn element(&self, kind: Kind) -> Option<Element>;

    /// True if the kernel was compiled in this form.
    fn has(&self, variant: Variant) -> bool;
}

/// Handle to a runner, with the number format of the activations.
#[derive(Debug, Clone, Copy)]
pub struct Launcher {
    runner: &'static dyn Runner,
    element: Element,
}

/// Form of a kernel beside its name and number format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Form {
    /// Head size, or width of the block that holds a row; 0 if the kernel has neither.
    pub size: u32,
    /// True for a form with dropout.
    pub dropout: bool,
    /// True for a kernel that is the same for all number formats.
    pub any_element: bool,
}

impl Launcher {
    /// Launches for activations of a kind, if the runner has kernels for it.
    pub fn new(runner: &'static dyn Runner, kind: Kind) -> Option<Self> {
        Some(Self { runner, element: runner.element(kind)? })
    }

    fn variant(&self, kernel: &'static str, form: Form) -> Variant {
        let element = (!form.any_element).then_some(self.element);
        Variant { kernel, element, size: form.size, dropout: form.dropout }
    }

    /// True if the kernel was compiled in this form.
    pub fn has(&self, kernel: &'static str, form: Form) -> bool {
        self.runner.has(self.variant(kernel, form))
    }

    /// Queues a launch.
    ///
    /// # Safety
    /// See [`Runner::run`].
    ///
    /// # Errors
    /// A [`TchError`].
    pub unsafe fn launch<'a, C: Call<&'a Tensor, N>, const N: usize>(
        &self,
        form: Form,
        grid: [usize; 2],
        call: C,
    ) -> Result<(), TchError> {
        let launch = Launch { variant: self.variant(C::KERNEL, form), grid, names: &C::ARGUMENTS, values: &call.values() };
        // SAFETY: the caller's.
        unsafe { self.runner.run(&launch) }
    }
}

/// The runner for a device: kernels on a GPU that there are compiled kernels for.
///
/// # Errors
/// The reason why there is none.
#[cfg(feature = "cuda")]
pub fn runner(device: Device) -> Result<&'static dyn Runner, String> {
    use std::sync::OnceLock;

    type Found = Result<&'static driver::CudaRunner, String>;
    static RUNNERS: [OnceLock<Found>; 64] = [const { OnceLock::new() }; 64];
    let Device::Cuda(index) = device else { return Err("the device is not a GPU".to_owned()) };
    let place = RUNNERS.get(index).ok_or_else(|| format!("cuda:{index} is beyond the GPUs of one machine"))?;
    let found = place.get_or_init(|| {
        let runner = driver::CudaRunner::new(index);
        runner.map(|runner| &*Box::leak(Box::new(runner)))
    });
    found.as_ref().map(|runner| *runner as &dyn Runner).map_err(Clone::clone)
}

/// Fails, because this build lacks the feature `cuda`.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cuda"))]
pub fn runner(_device: Device) -> Result<&'static dyn Runner, String> {
    Err("this build has no GPU support: build with --features cuda".to_owned())
}

#[cfg(feature = "cuda")]
mod driver {
    use glm_kernels::cuda::driver::{Kernels, kernels};
    use glm_kernels::cuda::{Arg, Element, Variant};
    use libtorch_ext::stream::current_handle;
    use tch::{Kind, TchError};

    use super::{Launch, Runner, Value};

    /// Limit on the number of arguments of a kernel.
    const MAX_ARGUMENTS: usize = 24;

    /// Kernels on one GPU.
    #[derive(Debug)]
    pub(super) struct CudaRunner {
        device: usize,
        kernels: &'static Kernels,
    }

    impl CudaRunner {
        pub(super) fn new(device: usize) -> Result<Self, String> {
            Ok(Self { device, kernels: kernels(device).map_err(|error| error.to_string())? })
        }
    }

    impl Runner for CudaRunner {
        unsafe fn run(&self, launch: &Launch<'_>) -> Result<(), TchError> {
            let mut arguments = [Arg::I32(0); MAX_ARGUMENTS];
            let room = arguments.get_mut(..launch.values.len());
            let arguments = room.ok_or_else(|| TchError::Shape("too many arguments of a kernel".to_owned()))?;
            for (argument, value) in arguments.iter_mut().zip(launch.values) {
                *argument = match *value {
                    Value::Pointer(tensor) => Arg::Pointer(tensor.data_ptr() as u64),
                    Value::I32(number) => Arg::I32(number),
                    Value::I64(number) => Arg::I64(number),
                    Value::F32(number) => Arg::F32(number),
                };
            }
            let [x, y] = launch.grid.map(|programs| programs as u32);
            let stream = current_handle(self.device)?;
            // SAFETY: the caller's; the pointers belong to tensors that live during the call, and libtorch's allocator gives
            // their memory to nothing that runs on this stream before the kernel.
            unsafe { self.kernels.launch(launch.variant, [x, y, 1], arguments, stream) }
                .map_err(|error| TchError::Torch(error.to_string()))
        }

        fn element(&self, kind: Kind) -> Option<Element> {
            match kind {
                Kind::BFloat16 => Some(Element::Bf16),
                Kind::Half => Some(Element::Fp16),
                _ => None,
            }
        }

        fn has(&self, variant: Variant) -> bool {
            self.kernels.has(variant)
        }
    }
}
