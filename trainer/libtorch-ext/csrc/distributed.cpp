// Process groups, collectives and the reduction of gradients: c10d's ProcessGroup and Reducer.

#include "distributed.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>

struct ext_group {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  // GPU of the NCCL backend, if the group has one.
  std::optional<c10::Device> gpu;
};

namespace {

// A tensor on another GPU would make NCCL create another communicator and wait for the other ranks to do the same.
void check_device(const ext_group* group, const at::Tensor& tensor) {
  if (tensor.is_cuda()) {
    TORCH_CHECK(group->gpu, "the tensor is on ", tensor.device(), ", but the group is for CPU tensors only");
    TORCH_CHECK(tensor.device() == *group->gpu, "the tensor is on ", tensor.device(), ", but the group is on ", *group->gpu);
  }
}

// Backends ignore strides.
void check_tensor(const ext_group* group, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined(), "the tensor is undefined");
  TORCH_CHECK(tensor.layout() == at::kStrided && tensor.is_contiguous(), "the tensor is not contiguous");
  check_device(group, tensor);
}

// Throws the error that one of the functions of this interface returned.
void throw_message(char* message) {
  if (message != nullptr) {
    const std::string text = message;
    std::free(message);
    TORCH_CHECK(false, text);
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
  try {
    return work.wait(timeout);
  } catch (...) {
    if (work.isCompleted()) {
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

// Returns the numbers of all ranks, in the order of ranks. Every rank passes the same count.
std::vector<at::Tensor> gather(c10d::ProcessGroup& group, const std::vector<int64_t>& numbers) {
  std::vector<at::Tensor> inputs = {at::tensor(numbers, at::kLong)};
  std::vector<std::vector<at::Tensor>> outputs(1);
  for (int rank = 0; rank < group.getSize(); ++rank) {
    outputs[0].push_back(at::empty_like(inputs[0]));
  }
  group.allgather(outputs, inputs)->wait();
  return outputs[0];
}

// Fails on every rank if the parameters of any rank differ. c10d's own check fails only on the ranks that differ from rank 0,
// and does not compare kinds.
void check_same_parameters(c10d::ProcessGroup& group, const std::vector<at::Tensor>& parameters) {
  const auto counts = gather(group, {static_cast<int64_t>(parameters.size())});
  for (size_t rank = 1; rank < counts.size(); ++rank) {
    const auto count = counts[rank].item<int64_t>(), first = counts[0].item<int64_t>();
    TORCH_CHECK(count == first, "rank ", rank, " has ", count, " parameters, rank 0 has ", first);
  }
  std::vector<int64_t> shapes;
  for (const auto& parameter : parameters) {
    uint64_t shape = static_cast<uint64_t>(parameter.scalar_type());
    for (const auto size : parameter.sizes()) {
      shape = shape * 1000003 + static_cast<uint64_t>(size) + 1;
    }
    shapes.push_back(static_cast<int64_t>(shape));
  }
  const auto all = gather(group, shapes);
  for (size_t rank = 1; rank < all.size(); ++rank) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      TORCH_CHECK(
          all[rank].const_data_ptr<int64_t>()[i] == all[0].const_data_ptr<int64_t>()[i],
          "parameter ", i, " of rank ", rank, " differs in shape or kind from that of rank 0");
    }
  }
}

// Sums the gradients of all ranks, one bucket at a time. The Reducer does not divide by the world size if it has a hook.
class SumHook final : public c10d::CommHookInterface {
 public:
  SumHook(c10::intrusive_ptr<c10d::ProcessGroup> group, std::shared_ptr<std::atomic<uint64_t>> started)
      : group_(std::move(group)), started_(std::move(started)) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    std::vector<at::Tensor> tensors = {bucket.getBufferRef()};
    auto future = group_->allreduce(tensors)->getFuture();
    started_->fetch_add(1);
    return future;
  }

  at::Tensor parseHookResult(const c10::IValue& result) override {
    return c10d::detail::parseCppCommHookResult(result);
  }

 private:
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  std::shared_ptr<std::atomic<uint64_t>> started_;
};

}  // namespace

struct ext_reducer {
  std::shared_ptr<c10d::Reducer> reducer;
  // Number of buckets whose reduction was started since the last glm_ext_reducer_prepare.
  std::shared_ptr<std::atomic<uint64_t>> started;
};

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
// addresses. With `make_nccl`, tensors on the GPU `device` use NCCL. CPU tensors use Gloo in both cases.
char* glm_ext_group_new(
    const ext_store* store,
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
    auto own = c10::make_intrusive<c10d::PrefixStore>("group/" + name.text(), store->store);
    auto group = std::make_unique<ext_group>();
    c10::intrusive_ptr<c10d::Backend> nccl;
    if (make_nccl != nullptr) {
      // Comes first because it does not wait for other ranks: a missing GPU is reported immediately.
      auto place = c10::make_intrusive<c10d::PrefixStore>("nccl", own);
      throw_message(make_nccl(place, rank, size, ext_milliseconds(timeout), name.text(), device, &nccl));
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
    check_tensor(group, *tensor);
    std::vector<at::Tensor> tensors = {*tensor};
    wait_for(group->group->allreduce(tensors), tensor->is_cuda(), timeout);
  });
}

char* glm_ext_group_broadcast(const ext_group* group, ext_tensor tensor, int root, uint64_t timeout) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    check_tensor(group, *tensor);
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
    check_tensor(group, *tensor);
    std::vector<std::vector<at::Tensor>> lists(1);
    for (size_t i = 0; i < n; ++i) {
      check_tensor(group, *outputs[i]);
      lists[0].push_back(*outputs[i]);
    }
    std::vector<at::Tensor> inputs = {*tensor};
    wait_for(group->group->allgather(lists, inputs), tensor->is_cuda(), timeout);
  });
}

char* glm_ext_group_barrier(const ext_group* group, uint64_t timeout) {
  // Calls the backend directly, because ProcessGroup::barrier uses a static tensor, which threads would share.
  return ext_guarded([&] { wait_for(group->group->getDefaultBackend()->barrier(), group->gpu.has_value(), timeout); });
}

// Waits for all ranks, and fails if their parameters differ in number, shape or kind.
char* glm_ext_reducer_new(
    const ext_group* group,
    const ext_tensor* parameters,
    size_t n,
    uint64_t first_bucket,
    uint64_t bucket,
    ext_reducer** out) {
  return ext_guarded([&] {
    std::vector<at::Tensor> list;
    for (size_t i = 0; i < n; ++i) {
      TORCH_CHECK(
          parameters[i]->is_leaf() && parameters[i]->requires_grad(), "parameter ", i, " is not a leaf that requires a gradient");
      check_device(group, *parameters[i]);
      list.push_back(*parameters[i]);
    }
    TORCH_CHECK(!list.empty(), "no parameters");
    c10::NoGradGuard no_grad;
    check_same_parameters(*group->group, list);
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(list, {first_bucket, bucket}));
    // Gradients become ready in roughly the reverse order of the parameters. After the first pass the Reducer rebuilds the
    // buckets in the observed order.
    std::reverse(buckets.begin(), buckets.end());
    auto reducer = std::make_unique<ext_reducer>();
    reducer->started = std::make_shared<std::atomic<uint64_t>>(0);
    reducer->reducer = std::make_shared<c10d::Reducer>(
        list,
        std::move(buckets),
        group->group,
        std::vector<bool>(n, false),
        static_cast<int64_t>(bucket),
        /*find_unused_parameters=*/false,
        /*gradient_as_bucket_view=*/false,
        std::unordered_map<size_t, std::string>(),
        static_cast<int64_t>(first_bucket),
        /*skip_all_reduce_unused_params=*/false,
        /*use_python_reducer=*/false,
        std::vector<int64_t>());
    reducer->reducer->register_comm_hook(std::make_unique<SumHook>(group->group, reducer->started));
    *out = reducer.release();
  });
}

// Removes the hooks from the parameters. If that fails, the reducer is leaked, because it must outlive its hooks.
char* glm_ext_reducer_free(ext_reducer* reducer) {
  return ext_guarded([&] {
    reducer->reducer->remove_autograd_hooks();
    delete reducer;
  });
}

// Makes the next backward pass reduce gradients.
char* glm_ext_reducer_prepare(ext_reducer* reducer, const ext_tensor* outputs, size_t n) {
  return ext_guarded([&] {
    std::vector<at::Tensor> list;
    for (size_t i = 0; i < n; ++i) {
      list.push_back(*outputs[i]);
    }
    reducer->reducer->prepare_for_forward();
    reducer->reducer->rebuild_buckets();
    reducer->started->store(0);
    reducer->reducer->prepare_for_backward(list);
  });
}

// Fails unless the backward pass since glm_ext_reducer_prepare has reduced every gradient.
char* glm_ext_reducer_finish(ext_reducer* reducer, uint64_t* buckets) {
  return ext_guarded([&] {
    reducer->reducer->check_finalized();
    *buckets = reducer->started->load();
    TORCH_CHECK(*buckets > 0, "the backward pass reached no parameter");
  });
}

// Resets the state after a failed pass.
char* glm_ext_reducer_reset(ext_reducer* reducer) {
  return ext_guarded([&] { reducer->reducer->reset_state(); });
}

}  // extern "C"
