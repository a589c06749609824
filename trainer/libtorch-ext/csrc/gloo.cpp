// Backend for CPU tensors: c10d's ProcessGroupGloo.
//
// This is a separate file because the header ProcessGroupGloo.hpp includes headers of gloo, which may not be available or may
// not match; see build.rs.

#include "distributed.h"

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/headeronly/version.h>

using c10d::ProcessGroupGloo;

// Objects allocated here and used by libtorch must have the size that libtorch was compiled with, whichever headers of gloo
// are used here. These are the sizes with gloo's own headers.
#if defined(__x86_64__) && defined(__GLIBCXX__) && TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11
static_assert(sizeof(ProcessGroupGloo) == 488, "the size of ProcessGroupGloo differs from that with gloo's own headers");
static_assert(sizeof(ProcessGroupGloo::Options) == 176, "the size of ProcessGroupGloo::Options differs from that with gloo's own headers");
#endif

c10::intrusive_ptr<c10d::Backend> ext_make_gloo(
    const c10::intrusive_ptr<c10d::Store>& store,
    int rank,
    int size,
    std::chrono::milliseconds timeout,
    const std::string& address) {
  auto options = ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(ProcessGroupGloo::createDeviceForHostname(address));
  return c10::make_intrusive<ProcessGroupGloo>(store, rank, size, options);
}
