//! Loading and launching of the kernels through the CUDA driver.

use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::OnceLock;

use cudarc::driver::sys::{self, CUcontext, CUdevice_attribute, CUfunction, CUfunction_attribute, CUresult};

use super::embedded::{self, ARCHITECTURES};
use super::table::{Architecture, Entry, select, supported};
use super::{Arg, CudaError, Variant};

/// Shared memory that a kernel gets without asking, in bytes.
const DEFAULT_SHARED: u32 = 48 << 10;

/// Limit on the number of arguments of a kernel.
const MAX_ARGUMENTS: usize = 48;

/// Pointers that Triton appends to the arguments: global and profiling scratch memory, which compile.py makes sure that no
/// kernel needs.
const SCRATCH_POINTERS: usize = 2;

const _: () = {
    let mut index = 0;
    while index < embedded::SIGNATURES.len() {
        assert!(embedded::SIGNATURES[index].1.len() <= MAX_ARGUMENTS);
        index += 1;
    }
};

/// Kernels of one GPU.
pub struct Kernels {
    context: Context,
    architecture: &'static Architecture,
    cubins: Vec<u8>,
    kernels: HashMap<Variant, Kernel>,
}

/// Primary context of a GPU, the one that libtorch uses.
#[derive(Clone, Copy)]
struct Context(CUcontext);

// SAFETY: the driver's functions may be called on a context from all threads.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// A loaded function.
#[derive(Clone, Copy)]
struct Function(CUfunction);

// SAFETY: the driver's functions may be called on a function from all threads.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

struct Kernel {
    entry: &'static Entry,
    /// Loaded by the first launch.
    function: OnceLock<Result<Function, CudaError>>,
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let architecture = self.architecture.number;
        f.debug_struct("Kernels").field("architecture", &architecture).field("kernels", &self.kernels.len()).finish()
    }
}

/// Returns the kernels of a GPU. Later calls for the same GPU return the same result.
///
/// # Errors
/// Without a CUDA driver, without this GPU, or if there are no kernels for its compute capability.
pub fn kernels(device: usize) -> Result<&'static Kernels, CudaError> {
    type Devices = Vec<OnceLock<Result<Kernels, CudaError>>>;
    static DEVICES: OnceLock<Result<Devices, CudaError>> = OnceLock::new();

    let devices = DEVICES.get_or_init(|| Ok((0..device_count()?).map(|_| OnceLock::new()).collect()));
    let devices = devices.as_ref().map_err(Clone::clone)?;
    let slot = devices.get(device).ok_or(CudaError::NoDevice { device, count: devices.len() })?;
    slot.get_or_init(|| Kernels::new(device)).as_ref().map_err(Clone::clone)
}

fn device_count() -> Result<usize, CudaError> {
    // SAFETY: loads the driver's library, whose initialization has no requirements.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    // SAFETY: the library is present, and initialization may be repeated.
    check(unsafe { sys::cuInit(0) }, || "cuInit".into())?;
    let mut count = 0;
    // SAFETY: the pointer is valid.
    check(unsafe { sys::cuDeviceGetCount(&mut count) }, || "cuDeviceGetCount".into())?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Converts the result of a function of the driver.
fn check(result: CUresult, call: impl FnOnce() -> String) -> Result<(), CudaError> {
    result.result().map_err(|error| {
        let text = |text: Result<&CStr, _>| text.map_or("unknown error".into(), |text| text.to_string_lossy().into_owned());
        CudaError::Driver { call: call(), reason: format!("{} ({})", text(error.error_name()), text(error.error_string())) }
    })
}

impl Kernels {
    fn new(device: usize) -> Result<Self, CudaError> {
        let mut handle = 0;
        // SAFETY: the pointer is valid, and the index is below the number of GPUs.
        check(unsafe { sys::cuDeviceGet(&mut handle, device as c_int) }, || format!("cuDeviceGet of GPU {device}"))?;
        let attribute = |attribute| {
            let mut value = 0;
            // SAFETY: the pointer is valid, and so is the handle.
            let result = unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, handle) };
            check(result, || format!("cuDeviceGetAttribute of GPU {device}"))?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        let capability = (
            attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let architecture = select(ARCHITECTURES, capability).ok_or_else(|| CudaError::Unsupported {
            device,
            name: device_name(handle),
            capability,
            supported: supported(ARCHITECTURES),
        })?;
        let cubins = embedded::cubins(architecture)?;
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is valid. The context is never released, as the kernels live as long as the process.
        let result = unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, handle) };
        check(result, || format!("cuDevicePrimaryCtxRetain of GPU {device}"))?;
        let kernel = |entry: &'static Entry| (entry.variant, Kernel { entry, function: OnceLock::new() });
        let kernels = architecture.entries.iter().map(kernel).collect();
        Ok(Self { context: Context(context), architecture, cubins, kernels })
    }

    /// Returns true if the kernel was compiled in this form.
    pub fn has(&self, variant: Variant) -> bool {
        self.kernels.contains_key(&variant)
    }

    /// Loads all kernels now instead of when they are first launched, and returns their number.
    ///
    /// # Errors
    /// The first error of the driver.
    pub fn load_all(&self) -> Result<usize, CudaError> {
        self.in_context(|| {
            self.kernels.values().try_for_each(|kernel| self.function(kernel).map(drop))?;
            Ok(self.kernels.len())
        })
    }

    /// Queues a launch on a stream of this GPU. A grid without programs launches nothing.
    ///
    /// # Errors
    /// If there is no such kernel, if the arguments do not match it, or if the driver fails.
    ///
    /// # Safety
    /// Programs of the grid must access only memory that the arguments point to and that lives until the kernel has run. The
    /// stream must be null or a valid stream of this GPU.
    pub unsafe fn launch(&self, variant: Variant, grid: [u32; 3], args: &[Arg], stream: *mut c_void) -> Result<(), CudaError> {
        let unknown = CudaError::UnknownVariant { variant, arch: self.architecture.number };
        let kernel = self.kernels.get(&variant).ok_or(unknown)?;
        let entry = kernel.entry;
        entry.check(args)?;
        if grid.contains(&0) {
            return Ok(());
        }
        let scratch: *mut c_void = ptr::null_mut();
        let mut parameters = [(&raw const scratch).cast_mut().cast::<c_void>(); MAX_ARGUMENTS + SCRATCH_POINTERS];
        for (parameter, arg) in parameters.iter_mut().zip(args) {
            *parameter = address(arg);
        }
        let [x, y, z] = grid;
        self.in_context(|| {
            let Function(function) = self.function(kernel)?;
            // SAFETY: the function belongs to the current context. `parameters` has an address for each argument, of the right
            // type, and for the scratch pointers; the driver copies the values during the call. What the kernel does with them
            // is the caller's promise.
            let result = unsafe {
                let parameters = parameters.as_mut_ptr();
                let threads = entry.warps * 32;
                sys::cuLaunchKernel(function, x, y, z, threads, 1, 1, entry.shared, stream.cast(), parameters, ptr::null_mut())
            };
            check(result, || format!("launch of kernel {variant} with the grid {x} x {y} x {z}"))
        })
    }

    /// Calls `action` while the context of this GPU is current in this thread.
    ///
    /// Threads of libtorch may have none (autograd), or that of another GPU, since libtorch does not set the device of a thread
    /// for every operation.
    fn in_context<T>(&self, action: impl FnOnce() -> Result<T, CudaError>) -> Result<T, CudaError> {
        let Context(context) = self.context;
        let mut current = ptr::null_mut();
        // SAFETY: the pointer is valid.
        check(unsafe { sys::cuCtxGetCurrent(&mut current) }, || "cuCtxGetCurrent".into())?;
        if current == context {
            return action();
        }
        if current.is_null() {
            // SAFETY: the context is never released.
            check(unsafe { sys::cuCtxSetCurrent(context) }, || "cuCtxSetCurrent".into())?;
            return action();
        }
        // SAFETY: the context is never released.
        check(unsafe { sys::cuCtxPushCurrent_v2(context) }, || "cuCtxPushCurrent".into())?;
        let result = action();
        // SAFETY: the pointer is valid, and the context on top is the one pushed above.
        let popped = check(unsafe { sys::cuCtxPopCurrent_v2(&mut current) }, || "cuCtxPopCurrent".into());
        result.and_then(|value| popped.map(|()| value))
    }

    /// Returns the function of a kernel, which the first call loads. The context of this GPU must be current.
    fn function(&self, kernel: &Kernel) -> Result<Function, CudaError> {
        kernel.function.get_or_init(|| self.load(kernel.entry)).clone()
    }

    fn load(&self, entry: &Entry) -> Result<Function, CudaError> {
        let cubin = &self.cubins[entry.offset..][..entry.length];
        let mut module = ptr::null_mut();
        // SAFETY: the bytes are a complete cubin, which the driver copies.
        let result = unsafe { sys::cuModuleLoadData(&mut module, cubin.as_ptr().cast()) };
        check(result, || format!("cuModuleLoadData of kernel {}", entry.variant))?;
        let mut function = ptr::null_mut();
        // SAFETY: the module was loaded, and is never unloaded; the name is a C string.
        let result = unsafe { sys::cuModuleGetFunction(&mut function, module, entry.symbol.as_ptr()) };
        check(result, || format!("cuModuleGetFunction of kernel {}", entry.variant))?;
        if entry.shared > DEFAULT_SHARED {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is valid.
            let result = unsafe { sys::cuFuncSetAttribute(function, attribute, entry.shared as c_int) };
            check(result, || format!("{} bytes of shared memory for kernel {}", entry.shared, entry.variant))?;
        }
        Ok(Function(function))
    }
}

fn device_name(handle: sys::CUdevice) -> String {
    let mut name = [0_u8; 128];
    // SAFETY: the pointer is valid for the given number of bytes, and so is the handle.
    let result = unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as c_int, handle) };
    let text = result.result().ok().and_then(|()| CStr::from_bytes_until_nul(&name).ok());
    text.map_or("unknown model".into(), |text| text.to_string_lossy().into_owned())
}

/// Address of the value of an argument.
fn address(arg: &Arg) -> *mut c_void {
    match arg {
        Arg::Pointer(value) => ptr::from_ref(value).cast_mut().cast(),
        Arg::I32(value) => ptr::from_ref(value).cast_mut().cast(),
        Arg::I64(value) => ptr::from_ref(value).cast_mut().cast(),
        Arg::F32(value) => ptr::from_ref(value).cast_mut().cast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_without_a_driver_gets_an_error() {
        // SAFETY: loads the driver's library, if there is one.
        if unsafe { sys::is_culib_present() } {
            return;
        }
        for _ in 0..2 {
            let error = kernels(0).expect_err("no driver");
            assert_eq!(error.to_string(), "no CUDA driver: libcuda.so.1 was not found; install NVIDIA's driver");
        }
    }

    #[test]
    fn arguments_are_passed_by_the_address_of_their_value() {
        let value = 0x1234_5678_9abc_def0;
        // SAFETY: the addresses are those of values of these types, which live.
        unsafe {
            assert_eq!(*address(&Arg::Pointer(value)).cast::<u64>(), value);
            assert_eq!(*address(&Arg::I32(-7)).cast::<i32>(), -7);
            assert_eq!(*address(&Arg::I64(-7)).cast::<i64>(), -7);
            assert_eq!(*address(&Arg::F32(0.1)).cast::<f32>(), 0.1);
        }
    }

    #[test]
    fn all_kernels_load_where_there_is_a_gpu() {
        let kernels = match kernels(0) {
            Ok(kernels) => kernels,
            Err(CudaError::NoDriver | CudaError::NoDevice { .. } | CudaError::Unsupported { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(kernels.load_all(), Ok(kernels.architecture.entries.len()));
    }
}
