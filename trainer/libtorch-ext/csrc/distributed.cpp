// Process groups, what they do together, and the reduction of gradients: c10d's ProcessGroup, Work and Reducer.

#include "distributed.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>

struct ext_group {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  // The one whose tensors NCCL carries, where it does.
  std::optional<c10::Device> gpu;
};

struct ext_work {
  c10::intrusive_ptr<c10d::Work> work;
  // Done by a GPU, in the order of its stream.
  bool on_gpu;
};

namespace {

using c10d::ReduceOp;

// With another GPU, NCCL would wait for the other ranks to come with one too.
void check_device(const ext_group* group, const at::Tensor& tensor) {
  if (tensor.is_cuda()) {
    TORCH_CHECK(group->gpu, "the tensor is on ", tensor.device(), ", and the group is of CPUs");
    TORCH_CHECK(tensor.device() == *group->gpu, "the tensor is on ", tensor.device(), ", and the group on ", *group->gpu);
  }
}

// Backends read memory from the start of a tensor on.
void check_tensor(const ext_group* group, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined(), "the tensor has no value");
  TORCH_CHECK(tensor.layout() == at::kStrided && tensor.is_contiguous(), "the tensor is not contiguous");
  check_device(group, tensor);
}

// Throws what a function of ours returned as a message.
void throw_message(char* message) {
  if (message != nullptr) {
    const std::string text = message;
    std::free(message);
    TORCH_CHECK(false, text);
  }
}

void give(c10::intrusive_ptr<c10d::Work> work, bool on_gpu, ext_work** out) {
  TORCH_CHECK(work, "the backend started nothing");
  *out = new ext_work{std::move(work), on_gpu};
}

// Waits for work of a GPU. NCCL's own wait does so without a timeout only: it takes one for a failure, of the whole group.
bool wait_for_gpu(c10d::Work& work, std::chrono::milliseconds timeout) {
  constexpr std::chrono::microseconds longest(1000);
  const auto end = std::chrono::steady_clock::now() + timeout;
  for (std::chrono::microseconds pause(20); !work.isCompleted(); pause = std::min(2 * pause, longest)) {
    if (std::chrono::steady_clock::now() >= end) {
      return false;
    }
    std::this_thread::sleep_for(pause);
  }
  // Throws what it failed of, and puts what follows on this thread's stream behind it.
  work.wait();
  return true;
}

// The numbers of all ranks, in order; all have as many.
std::vector<at::Tensor> gather(c10d::ProcessGroup& group, const std::vector<int64_t>& numbers) {
  std::vector<at::Tensor> inputs = {at::tensor(numbers, at::kLong)};
  std::vector<std::vector<at::Tensor>> outputs(1);
  for (int rank = 0; rank < group.getSize(); ++rank) {
    outputs[0].push_back(at::empty_like(inputs[0]));
  }
  group.allgather(outputs, inputs)->wait();
  return outputs[0];
}

// Fails on every rank where parameters differ on one. c10d's own check fails on the ranks that differ from rank 0 only, and
// overlooks kinds.
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
          "parameter ", i, " of rank ", rank, " has another shape or kind than that of rank 0");
    }
  }
}

// Adds the gradients of all ranks up, bucket by bucket. With a hook the Reducer itself divides nothing.
class SumHook final : public c10d::CommHookInterface {
 public:
  SumHook(c10::intrusive_ptr<c10d::ProcessGroup> group, bool average, std::shared_ptr<std::atomic<uint64_t>> started)
      : group_(std::move(group)), average_(average), started_(std::move(started)) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    std::vector<at::Tensor> tensors = {bucket.getBufferRef()};
    if (average_) {
      // Before the sum, which so cannot overflow where no gradient does.
      tensors[0].div_(group_->getSize());
    }
    auto future = group_->allreduce(tensors)->getFuture();
    started_->fetch_add(1);
    return future;
  }

  at::Tensor parseHookResult(const c10::IValue& result) override {
    return c10d::detail::parseCppCommHookResult(result);
  }

 private:
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  bool average_;
  std::shared_ptr<std::atomic<uint64_t>> started_;
};

}  // namespace

struct ext_reducer {
  std::shared_ptr<c10d::Reducer> reducer;
  // The Reducer calls it, whether it has one or not, when a pass leaves out other parameters than the one before.
  std::shared_ptr<c10d::Logger> logger;
  // Buckets whose reduction was started since the last glm_ext_reducer_prepare.
  std::shared_ptr<std::atomic<uint64_t>> started;
};

#ifndef EXT_WITH_GLOO
// Rust does not come this far.
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

// Waits until all ranks have called it. `name` keeps apart groups that share a store; `address` is one of this machine's.
// With `make_nccl`, tensors of the GPU `device` go through NCCL, and those of CPUs through Gloo as ever.
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
      // First, because it waits for nobody: without a GPU there is an error at once.
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
      // Gloo has seen all ranks, so that they come here together.
      nccl->eagerConnectSingleDevice(*group->gpu);
    }
    *out = group.release();
  });
}

// Waits for what the group is doing, at most until its timeout.
void glm_ext_group_free(ext_group* group) {
  if (group->gpu) {
    // What its destructor wants to have been called. It has no more use for an error than we do.
    std::free(ext_guarded([&] { group->group->getBackend(c10::DeviceType::CUDA)->shutdown(); }));
  }
  delete group;
}

// `op` is a ReduceOp::RedOpType.
char* glm_ext_group_all_reduce(const ext_group* group, ext_tensor tensor, uint8_t op, ext_work** out) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    check_tensor(group, *tensor);
    c10d::AllreduceOptions options;
    options.reduceOp = ReduceOp(static_cast<ReduceOp::RedOpType>(op));
    if (options.reduceOp == ReduceOp::AVG) {
      // Gloo has no average.
      TORCH_CHECK(tensor->is_floating_point(), "an average is of floating point numbers");
      tensor->div_(group->group->getSize());
      options.reduceOp = ReduceOp(ReduceOp::SUM);
    }
    std::vector<at::Tensor> tensors = {*tensor};
    give(group->group->allreduce(tensors, options), tensor->is_cuda(), out);
  });
}

char* glm_ext_group_broadcast(const ext_group* group, ext_tensor tensor, int root, ext_work** out) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    check_tensor(group, *tensor);
    c10d::BroadcastOptions options;
    options.rootRank = root;
    std::vector<at::Tensor> tensors = {*tensor};
    give(group->group->broadcast(tensors, options), tensor->is_cuda(), out);
  });
}

char* glm_ext_group_all_gather(
    const ext_group* group,
    ext_tensor tensor,
    const ext_tensor* outputs,
    size_t n,
    ext_work** out) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    check_tensor(group, *tensor);
    std::vector<std::vector<at::Tensor>> lists(1);
    for (size_t i = 0; i < n; ++i) {
      check_tensor(group, *outputs[i]);
      lists[0].push_back(*outputs[i]);
    }
    std::vector<at::Tensor> inputs = {*tensor};
    give(group->group->allgather(lists, inputs), tensor->is_cuda(), out);
  });
}

char* glm_ext_group_barrier(const ext_group* group, ext_work** out) {
  // The backend's own: ProcessGroup::barrier keeps a tensor in a static variable, which threads would share.
  return ext_guarded([&] { give(group->group->getDefaultBackend()->barrier(), group->gpu.has_value(), out); });
}

char* glm_ext_group_monitored_barrier(const ext_group* group, uint64_t timeout) {
  return ext_guarded([&] {
    c10d::BarrierOptions options;
    options.timeout = ext_milliseconds(timeout);
    // NCCL has none.
    group->group->getBackend(c10::DeviceType::CPU)->monitoredBarrier(options, /*waitAllRanks=*/true);
  });
}

int glm_ext_work_is_done(ext_work* work) {
  return work->work->isCompleted() ? 1 : 0;
}

// `done` is 0 where the work goes on after the timeout; work that failed gives its error.
char* glm_ext_work_wait(ext_work* work, uint64_t timeout, int* done) {
  return ext_guarded([&] {
    if (work->on_gpu) {
      *done = wait_for_gpu(*work->work, ext_milliseconds(timeout)) ? 1 : 0;
      return;
    }
    try {
      *done = work->work->wait(ext_milliseconds(timeout)) ? 1 : 0;
    } catch (...) {
      if (work->work->isCompleted()) {
        throw;
      }
      *done = 0;
    }
  });
}

// What goes on goes on: the backend keeps the work and its tensors.
void glm_ext_work_free(ext_work* work) {
  delete work;
}

// Waits for all ranks, and fails where their parameters differ in number, shape or kind.
char* glm_ext_reducer_new(
    const ext_group* group,
    const ext_tensor* parameters,
    size_t n,
    uint64_t first_bucket,
    uint64_t bucket,
    int find_unused,
    int average,
    ext_reducer** out) {
  return ext_guarded([&] {
    std::vector<at::Tensor> list;
    for (size_t i = 0; i < n; ++i) {
      TORCH_CHECK(
          parameters[i]->is_leaf() && parameters[i]->requires_grad(), "parameter ", i, " is no leaf that needs a gradient");
      check_device(group, *parameters[i]);
      list.push_back(*parameters[i]);
    }
    TORCH_CHECK(!list.empty(), "no parameters");
    c10::NoGradGuard no_grad;
    check_same_parameters(*group->group, list);
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(list, {first_bucket, bucket}));
    // Gradients come roughly in the opposite order of the parameters; from the second pass on, in the order of the first.
    std::reverse(buckets.begin(), buckets.end());
    auto reducer = std::make_unique<ext_reducer>();
    reducer->started = std::make_shared<std::atomic<uint64_t>>(0);
    reducer->reducer = std::make_shared<c10d::Reducer>(
        list,
        std::move(buckets),
        group->group,
        std::vector<bool>(n, false),
        static_cast<int64_t>(bucket),
        find_unused != 0,
        /*gradient_as_bucket_view=*/false,
        std::unordered_map<size_t, std::string>(),
        static_cast<int64_t>(first_bucket),
        /*skip_all_reduce_unused_params=*/false,
        /*use_python_reducer=*/false,
        std::vector<int64_t>());
    reducer->reducer->register_comm_hook(std::make_unique<SumHook>(group->group, average != 0, reducer->started));
    reducer->logger = std::make_shared<c10d::Logger>(reducer->reducer);
    reducer->reducer->set_logger(reducer->logger);
    *out = reducer.release();
  });
}

// Takes its hooks off the parameters; where that fails, it must outlive them.
char* glm_ext_reducer_free(ext_reducer* reducer) {
  return ext_guarded([&] {
    reducer->reducer->remove_autograd_hooks();
    delete reducer;
  });
}

// The next backward pass reduces.
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

// Fails unless the pass behind glm_ext_reducer_prepare has reduced every gradient.
char* glm_ext_reducer_finish(ext_reducer* reducer, uint64_t* buckets) {
  return ext_guarded([&] {
    reducer->reducer->check_finalized();
    *buckets = reducer->started->load();
    TORCH_CHECK(*buckets > 0, "the backward pass reached no parameter");
  });
}

// Forgets a pass that failed.
char* glm_ext_reducer_reset(ext_reducer* reducer) {
  return ext_guarded([&] { reducer->reducer->reset_state(); });
}

}  // extern "C"
