// Backend for tensors on NVIDIA GPUs: c10d's ProcessGroupNCCL.
//
// This is a separate shared object because it needs libtorch_cuda.so, which programs load at run time instead of linking it,
// so that they also run on machines without a GPU. build.rs compiles it with the feature `cuda`; src/distributed/nccl.rs
// embeds and loads it.

#include "distributed.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

using c10d::ProcessGroupNCCL;

extern "C" char* glm_ext_make_nccl(
    const c10::intrusive_ptr<c10d::Store>& store,
    int rank,
    int size,
    std::chrono::milliseconds timeout,
    const std::string& name,
    int device,
    c10::intrusive_ptr<c10d::Backend>* out) {
  return ext_guarded([&] {
    const int count = c10::cuda::device_count();
    TORCH_CHECK(device < count, "cuda:", device, " does not exist: libtorch sees ", count, " GPUs");
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    auto options = ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    options->group_name = name;
    *out = c10::make_intrusive<ProcessGroupNCCL>(store, rank, size, options);
  });
}

// Checks at compile time that the signature is the one that group.cpp calls.
static ext_make_nccl* const as_declared = &glm_ext_make_nccl;
