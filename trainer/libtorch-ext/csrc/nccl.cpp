// The backend between NVIDIA GPUs: c10d's ProcessGroupNCCL.
//
// A shared object of its own, since it needs libtorch_cuda.so, which the programs load at run time and do not link: one
// program serves machines with a GPU and without. build.rs compiles it with the feature `cuda`, src/distributed/nccl.rs
// has its bytes and loads it.

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
    TORCH_CHECK(device < count, "there is no cuda:", device, ": libtorch sees ", count, " GPUs");
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    auto options = ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    options->group_name = name;
    *out = c10::make_intrusive<ProcessGroupNCCL>(store, rank, size, options);
  });
}

// Fails to compile where it is not what distributed.cpp calls.
static ext_make_nccl* const as_declared = &glm_ext_make_nccl;
