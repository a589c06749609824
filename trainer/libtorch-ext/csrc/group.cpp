// Process groups and their collectives: c10d's ProcessGroup.

#include "group.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <algorithm>
#include <thread>

namespace {

// A tensor on another GPU would make NCCL create another communicator and wait for the other ranks to do the same.
void check_device(const ext_group& group, const at::Tensor& tensor) {
  if (tensor.is_cuda()) {
    TORCH_CHECK(group.gpu, "the tensor is on ", tensor.device(), ", but the group is for CPU tensors only");
    TORCH_CHECK(tensor.device() == *group.gpu, "the tensor is on ", tensor.device(), ", but the group is on ", *group.gpu);
  }
}

// Waits for work on a GPU and returns true if it finished in time. The work is polled because NCCL's own wait treats a timeout
// as a failure of the whole group.
bool wait_for_gpu(c10d::Work& work, std::chrono::milliseconds timeout) {
  constexpr std::chrono::microseconds longest(1000);
  const auto end = std::chrono::steady_clock::now() + timeout;
  for (std::chrono::microseconds pause(20); !work.isCompleted(); pause = std::min(2 * pause, longest)) {
    if (std::chrono::steady_clock::now() >= end) {
      return false;
    }
    std::this_thread::sleep_for(pause);
  }
  // Throws the error of the work, and makes this thread's stream wait for it.
  work.wait();
  return true;
}

// As above, for work on the CPU.
bool wait_for_cpu(c10d::Work& work, std::chrono::milliseconds timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  try {
    return work.wait(timeout);
  } catch (...) {
    // Work that consists of several others is never completed.
    if (work.isCompleted() || std::chrono::steady_clock::now() < end) {
      throw;
    }
    return false;
  }
}

// Waits for work and throws its error. Work that is not done after the timeout continues: the backend owns it and its tensors.
void wait_for(const c10::intrusive_ptr<c10d::Work>& work, bool on_gpu, uint64_t timeout) {
  TORCH_CHECK(work, "the backend started no work");
  const auto limit = ext_milliseconds(timeout);
  const bool done = on_gpu ? wait_for_gpu(*work, limit) : wait_for_cpu(*work, limit);
  TORCH_CHECK(done, "not done after ", timeout, " ms");
}

}  // namespace

// Backends ignore strides.
void ext_check_tensor(const ext_group& group, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined(), "the tensor is undefined");
  TORCH_CHECK(tensor.layout() == at::kStrided && tensor.is_contiguous(), "the tensor is not contiguous");
  check_device(group, tensor);
}

c10::intrusive_ptr<c10d::Work> ext_start_sum(c10d::ProcessGroup& group, const at::Tensor& tensor) {
  std::vector<at::Tensor> tensors = {tensor};
  auto work = group.allreduce(tensors);
  TORCH_CHECK(work, "the backend started no work");
  return work;
}

c10::intrusive_ptr<c10d::Work> ext_start_scatter(c10d::ProcessGroup& group, const at::Tensor& part, const at::Tensor& whole) {
  at::Tensor output = part, input = whole;
  auto work = group._reduce_scatter_base(output, input);
  TORCH_CHECK(work, "the backend started no work");
  return work;
}

c10::intrusive_ptr<c10d::Work> ext_start_gather(c10d::ProcessGroup& group, const at::Tensor& whole, const at::Tensor& part) {
  // NCCL allows the part to be in the whole; gloo would copy it onto itself.
  at::Tensor output = whole, input = part.is_cuda() ? part : part.clone();
  auto work = group._allgather_base(output, input);
  TORCH_CHECK(work, "the backend started no work");
  return work;
}

void ext_wait_on_stream(const c10::intrusive_ptr<c10d::Work>& work, bool on_gpu, uint64_t timeout) {
  if (on_gpu) {
    work->wait();
  } else {
    wait_for(work, false, timeout);
  }
}

std::vector<at::Tensor> ext_gather(c10d::ProcessGroup& group, const std::vector<int64_t>& numbers) {
  std::vector<at::Tensor> inputs = {at::tensor(numbers, at::kLong)};
  std::vector<std::vector<at::Tensor>> outputs(1);
  for (int rank = 0; rank < group.getSize(); ++rank) {
    outputs[0].push_back(at::empty_like(inputs[0]));
  }
  group.allgather(outputs, inputs)->wait();
  return outputs[0];
}

#ifndef EXT_WITH_GLOO
// Not reached: the Rust code checks `available()` first.
c10::intrusive_ptr<c10d::Backend> ext_make_gloo(
    const c10::intrusive_ptr<c10d::Store>&,
    int,
    int,
    std::chrono::milliseconds,
    const std::string&) {
  TORCH_CHECK(false, "this build has no gloo");
}
#endif

extern "C" {

// Waits until all ranks have called it. `name` distinguishes groups that share a store; `address` is one of this machine's
// addresses. Takes ownership of `store`. With `make_nccl`, tensors on the GPU `device` use NCCL. CPU tensors use Gloo in both cases.
char* glm_ext_group_new(
    ext_rust_store* store,
    const ext_store_calls* calls,
    ext_bytes name,
    int rank,
    int size,
    uint64_t timeout,
    ext_bytes address,
    ext_make_nccl* make_nccl,
    int device,
    ext_group** out) {
  return ext_guarded([&] {
    using Type = c10d::ProcessGroup::BackendType;
    auto own = c10::make_intrusive<c10d::PrefixStore>("group/" + name.text(), ext_make_store(store, calls, timeout));
    auto group = std::make_unique<ext_group>();
    c10::intrusive_ptr<c10d::Backend> nccl;
    if (make_nccl != nullptr) {
      // Comes first because it does not wait for other ranks: a missing GPU is reported immediately.
      auto place = c10::make_intrusive<c10d::PrefixStore>("nccl", own);
      ext_throw(make_nccl(place, rank, size, ext_milliseconds(timeout), name.text(), device, &nccl));
      group->gpu = c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
    }
    auto gloo = ext_make_gloo(own, rank, size, ext_milliseconds(timeout), address.text());
    group->group = c10::make_intrusive<c10d::ProcessGroup>(own, rank, size);
    group->group->setBoundDeviceId(group->gpu);
    group->group->setBackend(c10::DeviceType::CPU, Type::GLOO, gloo);
    group->group->setDefaultBackend(Type::GLOO);
    if (nccl) {
      group->group->setBackend(c10::DeviceType::CUDA, Type::NCCL, nccl);
      group->group->setDefaultBackend(Type::NCCL);
      // Gloo has connected to all ranks, so they arrive here at about the same time.
      nccl->eagerConnectSingleDevice(*group->gpu);
    }
    *out = group.release();
  });
}

// Waits for running work, at most for the group's timeout.
void glm_ext_group_free(ext_group* group) {
  if (group->gpu) {
    // ProcessGroupNCCL expects shutdown() before its destructor. An error cannot be handled here.
    std::free(ext_guarded([&] { group->group->getBackend(c10::DeviceType::CUDA)->shutdown(); }));
  }
  delete group;
}

char* glm_ext_group_all_reduce_sum(const ext_group* group, ext_tensor tensor, uint64_t timeout) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    ext_check_tensor(*group, *tensor);
    wait_for(ext_start_sum(*group->group, *tensor), tensor->is_cuda(), timeout);
  });
}

// As above, but for a tensor on a GPU only the current stream waits.
char* glm_ext_group_queue_sum(const ext_group* group, ext_tensor tensor, uint64_t timeout) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    ext_check_tensor(*group, *tensor);
    ext_wait_on_stream(ext_start_sum(*group->group, *tensor), tensor->is_cuda(), timeout);
  });
}

// Fails if the watchdog of the NCCL backend has found an error of a collective. Does not wait.
char* glm_ext_group_check(const ext_group* group) {
  return ext_guarded([&] {
    if (!group->gpu) {
      return;
    }
    switch (group->group->getBackend(c10::DeviceType::CUDA)->getError()) {
      case c10d::ErrorType::SUCCESS:
        return;
      case c10d::ErrorType::TIMEOUT:
        TORCH_CHECK(false, "a collective has timed out on the GPU");
      default:
        TORCH_CHECK(false, "a collective has failed on the GPU: NCCL has lost a rank");
    }
  });
}

char* glm_ext_group_broadcast(const ext_group* group, ext_tensor tensor, int root, uint64_t timeout) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    ext_check_tensor(*group, *tensor);
    c10d::BroadcastOptions options;
    options.rootRank = root;
    std::vector<at::Tensor> tensors = {*tensor};
    wait_for(group->group->broadcast(tensors, options), tensor->is_cuda(), timeout);
  });
}

char* glm_ext_group_all_gather(
    const ext_group* group,
    ext_tensor tensor,
    const ext_tensor* outputs,
    size_t n,
    uint64_t timeout) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    ext_check_tensor(*group, *tensor);
    std::vector<std::vector<at::Tensor>> lists(1);
    for (size_t i = 0; i < n; ++i) {
      ext_check_tensor(*group, *outputs[i]);
      lists[0].push_back(*outputs[i]);
    }
    std::vector<at::Tensor> inputs = {*tensor};
    wait_for(group->group->allgather(lists, inputs), tensor->is_cuda(), timeout);
  });
}

// Fills `whole` with the parts of all ranks. For tensors on a GPU only the current stream waits.
char* glm_ext_group_queue_gather(const ext_group* group, ext_tensor whole, ext_tensor part, uint64_t timeout) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    ext_check_tensor(*group, *whole);
    ext_check_tensor(*group, *part);
    ext_wait_on_stream(ext_start_gather(*group->group, *whole, *part), whole->is_cuda(), timeout);
  });
}

char* glm_ext_group_barrier(const ext_group* group, uint64_t timeout) {
  // Calls the backend directly, because ProcessGroup::barrier uses a static tensor, which threads would share.
  return ext_guarded([&] { wait_for(group->group->getDefaultBackend()->barrier(), group->gpu.has_value(), timeout); });
}

}  // extern "C"
