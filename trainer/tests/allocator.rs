//! The allocator of the program is that of libtorch too. Memory stays flat only then, since tensors are most of it.

use libmimalloc_sys::mi_is_in_heap_region;
use tch::{Device, Kind, Tensor};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[test]
fn tensors_and_rust_values_are_allocated_by_mimalloc() {
    for count in [16, 1 << 10, 1 << 22] {
        let tensor = Tensor::zeros([count], (Kind::Float, Device::Cpu));
        let values = vec![0_f32; count as usize];
        // SAFETY: only compares addresses.
        let [ours, theirs] = unsafe { [mi_is_in_heap_region(values.as_ptr().cast()), mi_is_in_heap_region(tensor.data_ptr())] };
        assert!(ours && theirs, "{count} numbers: in a vector {ours}, in a tensor {theirs}");
    }
}
