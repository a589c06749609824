// The backend between CPUs: c10d's ProcessGroupGloo.
//
// A file of its own, because its header wants headers of gloo, which a libtorch may need others of; see build.rs.

#include "distributed.h"

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/headeronly/version.h>

using c10d::ProcessGroupGloo;

// What is allocated here and used in libtorch has to be as large as libtorch takes it to be, whichever headers of gloo this
// was compiled with. These are the sizes with the real ones.
#if defined(__x86_64__) && defined(__GLIBCXX__) && TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11
static_assert(sizeof(ProcessGroupGloo) == 488, "ProcessGroupGloo has another size than with gloo's own headers");
static_assert(sizeof(ProcessGroupGloo::Options) == 176, "ProcessGroupGloo::Options has another size than with gloo's own headers");
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
