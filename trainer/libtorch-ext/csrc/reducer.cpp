// Reduction of gradients during the backward pass, in slices of the one buffer that holds them.

#include "group.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <utility>

namespace {

using torch::autograd::Node;
using torch::autograd::variable_list;

struct Options {
  // Approximate size of a slice in bytes.
  int64_t bucket;
  // Gradients are sent as bf16.
  bool bf16;
  // Each rank receives the sums of its part of every slice only.
  bool scatter;
};

// A parameter, and the place of its gradient in the buffer, in elements.
struct Parameter {
  at::Tensor tensor;
  int64_t begin = 0;
  int64_t end = 0;
  // Slice that contains the gradient.
  size_t slice = 0;
  // Calls the reducer after each backward pass that uses the parameter. The parameter has only a weak reference to it.
  std::shared_ptr<Node> accumulator;
  // Key of the hook on `accumulator`.
  uintptr_t hook = 0;
  // The current pass has completed the gradient.
  bool is_complete = false;
};

// A part of the buffer that is reduced at once.
struct Slice {
  int64_t begin = 0;
  int64_t end = 0;
  // Its parameters, in descending order.
  std::vector<size_t> parameters;
  at::Tensor gradients;
  // Copy that is sent instead of `gradients`, if the kinds differ.
  at::Tensor copy;
  // Where this rank receives sums: all of `gradients` or its part, and the same of `copy`.
  at::Tensor sums;
  at::Tensor sums_of_copy;
  // Number of parameters whose gradients the current pass has not completed.
  size_t pending = 0;
  c10::intrusive_ptr<c10d::Work> work;
};

// Finds the places of the gradients, which must fill the buffer, each up to a multiple of `multiple`. Returns the parameters in the
// order of their places.
std::vector<size_t> locate(std::vector<Parameter>& parameters, const at::Tensor& buffer, int64_t multiple) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& gradient = parameters[i].tensor.grad();
    TORCH_CHECK(
        gradient.defined() && gradient.is_contiguous() && gradient.is_alias_of(buffer) &&
            gradient.scalar_type() == buffer.scalar_type(),
        "the gradient of parameter ", i, " is not a view of the buffer");
    parameters[i].begin = gradient.storage_offset() - buffer.storage_offset();
    parameters[i].end = parameters[i].begin + (gradient.numel() + multiple - 1) / multiple * multiple;
  }
  std::vector<size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::make_pair(parameters[a].begin, parameters[a].end) < std::make_pair(parameters[b].begin, parameters[b].end);
  });
  int64_t next = 0;
  for (const auto i : order) {
    TORCH_CHECK(parameters[i].begin == next, "the gradients overlap or have gaps before that of parameter ", i);
    next = parameters[i].end;
  }
  TORCH_CHECK(next == buffer.numel(), "the gradients do not fill the buffer");
  return order;
}

// Cuts the buffer into slices, and returns them in the order in which they are reduced.
//
// A backward pass completes gradients in roughly the reverse order of the parameters, so a slice is complete when its first
// parameter is. Slices are cut from the end of the buffer. Wherever the order of the buffer is not that of the parameters, a new
// slice begins, because one gradient would keep the other waiting for most of the pass.
std::vector<Slice> cut(std::vector<Parameter>& parameters, const std::vector<size_t>& places, int64_t bucket) {
  std::vector<Slice> slices;
  for (auto place = places.rbegin(); place != places.rend(); ++place) {
    const auto& parameter = parameters[*place];
    const auto size = parameter.end - parameter.begin;
    const auto held = slices.empty() ? 0 : slices.back().end - slices.back().begin;
    // Adding the parameter would be further from the size of a bucket.
    const bool is_full = std::abs(held - bucket) < std::abs(held + size - bucket);
    if (slices.empty() || (held > 0 && is_full) || *place > slices.back().parameters.back()) {
      slices.push_back(Slice());
      slices.back().end = parameter.end;
    }
    slices.back().begin = parameter.begin;
    slices.back().parameters.push_back(*place);
  }
  std::sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) {
    return a.parameters.back() > b.parameters.back();
  });
  for (size_t i = 0; i < slices.size(); ++i) {
    for (const auto parameter : slices[i].parameters) {
      parameters[parameter].slice = i;
    }
  }
  return slices;
}

// Fails on every rank if the parameters of any rank differ.
void check_same_parameters(c10d::ProcessGroup& group, const std::vector<Parameter>& parameters, const Options& options) {
  const int64_t flags = (options.bf16 ? 1 : 0) + (options.scatter ? 2 : 0);
  const auto counts = ext_gather(group, {static_cast<int64_t>(parameters.size()), options.bucket, flags});
  for (size_t rank = 1; rank < counts.size(); ++rank) {
    const auto *found = counts[rank].const_data_ptr<int64_t>(), *first = counts[0].const_data_ptr<int64_t>();
    TORCH_CHECK(found[0] == first[0], "rank ", rank, " has ", found[0], " parameters, rank 0 has ", first[0]);
    TORCH_CHECK(found[1] == first[1] && found[2] == first[2], "the options of rank ", rank, " differ from those of rank 0");
  }
  std::vector<int64_t> shapes;
  for (const auto& parameter : parameters) {
    auto shape = static_cast<uint64_t>(parameter.tensor.scalar_type());
    for (const auto size : parameter.tensor.sizes()) {
      shape = shape * 1000003 + static_cast<uint64_t>(size) + 1;
    }
    shapes.push_back(static_cast<int64_t>(shape * 1000003 + static_cast<uint64_t>(parameter.begin)));
  }
  const auto all = ext_gather(group, shapes);
  for (size_t rank = 1; rank < all.size(); ++rank) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      TORCH_CHECK(
          all[rank].const_data_ptr<int64_t>()[i] == all[0].const_data_ptr<int64_t>()[i],
          "parameter ", i, " of rank ", rank, " differs in shape, kind or place from that of rank 0");
    }
  }
}

class Reducer final : public std::enable_shared_from_this<Reducer> {
 public:
  // Waits for all ranks, and fails if their parameters differ.
  Reducer(const ext_group& group, const std::vector<at::Tensor>& parameters, const at::Tensor& buffer, const Options& options)
      : group_(group.group), on_gpu_(buffer.is_cuda()), scatter_(options.scatter), buffer_(buffer) {
    for (const auto& tensor : parameters) {
      parameters_.emplace_back();
      parameters_.back().tensor = tensor;
    }
    // Every rank has an equal part of a slice.
    const int64_t ranks = options.scatter ? group_->getSize() : 1;
    const auto places = locate(parameters_, buffer, ranks);
    check_same_parameters(*group_, parameters_, options);
    slices_ = cut(parameters_, places, std::max<int64_t>(options.bucket / static_cast<int64_t>(buffer.element_size()), 1));
    at::Tensor copy;
    if (options.bf16 && buffer.scalar_type() != at::kBFloat16) {
      copy = at::empty_like(buffer, buffer.options().dtype(at::kBFloat16));
    }
    for (auto& slice : slices_) {
      slice.gradients = buffer.slice(0, slice.begin, slice.end);
      if (copy.defined()) {
        slice.copy = copy.slice(0, slice.begin, slice.end);
      }
      const auto own = [&](const at::Tensor& whole) {
        const auto count = (slice.end - slice.begin) / ranks;
        return options.scatter && whole.defined() ? whole.narrow(0, group_->getRank() * count, count) : whole;
      };
      slice.sums = own(slice.gradients);
      slice.sums_of_copy = own(slice.copy);
    }
    overlapped_ = next_ = slices_.size();
  }

  // Registers the hooks. They do not keep the reducer alive.
  void add_hooks();

  // Fails if hooks are missing, which then stay behind without effect.
  void remove_hooks() {
    for (auto& parameter : parameters_) {
      TORCH_CHECK(parameter.accumulator->del_post_hook(parameter.hook), "the hook of a parameter is missing");
    }
  }

  // Makes the next backward pass reduce gradients.
  void prepare(uint64_t timeout) {
    // Of a pass that failed.
    for (auto& slice : slices_) {
      if (auto work = std::exchange(slice.work, nullptr)) {
        ext_wait_on_stream(work, on_gpu_, timeout);
      }
    }
    std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < parameters_.size(); ++i) {
      auto& parameter = parameters_[i];
      const auto& gradient = parameter.tensor.grad();
      TORCH_CHECK(
          gradient.defined() && gradient.is_alias_of(buffer_) &&
              gradient.storage_offset() == buffer_.storage_offset() + parameter.begin,
          "the gradient of parameter ", i, " is no longer a view of the buffer");
      parameter.is_complete = false;
    }
    for (auto& slice : slices_) {
      slice.pending = slice.parameters.size();
    }
    next_ = 0;
    is_active_ = true;
  }

  // Called on a thread of autograd when a pass has completed the gradient of a parameter: after all functions that use it.
  void complete(size_t index) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!is_active_) {
      return;
    }
    auto& parameter = parameters_[index];
    TORCH_CHECK(!parameter.is_complete, "the backward pass has completed the gradient of parameter ", index, " twice");
    parameter.is_complete = true;
    slices_[parameter.slice].pending -= 1;
    while (next_ < slices_.size() && slices_[next_].pending == 0) {
      start_next();
    }
  }

  // Starts the slices that the backward pass did not complete, and waits for all of them; see ext_wait_on_stream.
  void finish(uint64_t timeout) {
    c10::NoGradGuard no_grad;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      is_active_ = false;
      overlapped_ = next_;
      while (next_ < slices_.size()) {
        start_next();
      }
    }
    for (auto& slice : slices_) {
      ext_wait_on_stream(std::exchange(slice.work, nullptr), on_gpu_, timeout);
      if (slice.copy.defined()) {
        slice.sums.copy_(slice.sums_of_copy);
      }
    }
  }

  // After a failed pass. Does not wait for the slices that it has started, because other ranks may be gone.
  void reset() {
    std::lock_guard<std::mutex> lock(mutex_);
    is_active_ = false;
  }

  // In the order in which they are reduced.
  const std::vector<Slice>& slices() const {
    return slices_;
  }

  // Number of slices that the last backward pass started; the others started after it.
  size_t overlapped() const {
    return overlapped_;
  }

 private:
  // All ranks start their slices in the same order, because NCCL does not tell collectives apart otherwise.
  void start_next() {
    c10::NoGradGuard no_grad;
    auto& slice = slices_[next_];
    if (slice.copy.defined()) {
      slice.copy.copy_(slice.gradients);
    }
    const auto& sent = slice.copy.defined() ? slice.copy : slice.gradients;
    slice.work = scatter_ ? ext_start_scatter(*group_, slice.copy.defined() ? slice.sums_of_copy : slice.sums, sent)
                          : ext_start_sum(*group_, sent);
    next_ += 1;
  }

  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
  const bool on_gpu_;
  const bool scatter_;
  const at::Tensor buffer_;
  // Modified by hooks, with the mutex held: `is_complete`, and of slices `pending` and `work`.
  std::vector<Parameter> parameters_;
  std::vector<Slice> slices_;
  std::mutex mutex_;
  // Guarded by the mutex. Backward passes reduce only if this is true.
  bool is_active_ = false;
  // Guarded by the mutex. The next slice to be started.
  size_t next_ = 0;
  size_t overlapped_ = 0;
};

// Calls a reducer after a pass has completed the gradient of a parameter.
class CompletionHook final : public torch::autograd::FunctionPostHook {
 public:
  CompletionHook(std::weak_ptr<Reducer> reducer, size_t index) : reducer_(std::move(reducer)), index_(index) {}

  variable_list operator()(const variable_list& outputs, const variable_list&) override {
    if (const auto reducer = reducer_.lock()) {
      reducer->complete(index_);
    }
    return outputs;
  }

 private:
  std::weak_ptr<Reducer> reducer_;
  size_t index_;
};

void Reducer::add_hooks() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    auto& parameter = parameters_[i];
    parameter.accumulator = torch::autograd::impl::grad_accumulator(parameter.tensor);
    parameter.hook = parameter.accumulator->add_post_hook(std::make_unique<CompletionHook>(weak_from_this(), i));
  }
}

}  // namespace

struct ext_reducer {
  std::shared_ptr<Reducer> reducer;
};

extern "C" {

// `gradients` is one-dimensional. The gradients of the parameters are views of it that fill it; with `scatter`, each up to a multiple
// of the number of ranks. The parameters are in the order in which a forward pass uses them first.
char* glm_ext_reducer_new(
    const ext_group* group,
    const ext_tensor* parameters,
    size_t n,
    ext_tensor gradients,
    uint64_t bucket,
    int bf16,
    int scatter,
    ext_reducer** out) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    std::vector<at::Tensor> list;
    for (size_t i = 0; i < n; ++i) {
      TORCH_CHECK(
          parameters[i]->is_leaf() && parameters[i]->requires_grad(), "parameter ", i, " is not a leaf that requires a gradient");
      list.push_back(*parameters[i]);
    }
    ext_check_tensor(*group, *gradients);
    TORCH_CHECK(gradients->dim() == 1 && gradients->numel() > 0, "the buffer of gradients is not a vector, or is empty");
    auto reducer = std::make_unique<ext_reducer>();
    const Options options{static_cast<int64_t>(bucket), bf16 != 0, scatter != 0};
    reducer->reducer = std::make_shared<Reducer>(*group, list, *gradients, options);
    reducer->reducer->add_hooks();
    *out = reducer.release();
  });
}

char* glm_ext_reducer_free(ext_reducer* reducer) {
  return ext_guarded([&] {
    const std::unique_ptr<ext_reducer> owned(reducer);
    owned->reducer->remove_hooks();
  });
}

char* glm_ext_reducer_prepare(ext_reducer* reducer, uint64_t timeout) {
  return ext_guarded([&] { reducer->reducer->prepare(timeout); });
}

char* glm_ext_reducer_finish(ext_reducer* reducer, uint64_t timeout) {
  return ext_guarded([&] { reducer->reducer->finish(timeout); });
}

char* glm_ext_reducer_reset(ext_reducer* reducer) {
  return ext_guarded([&] { reducer->reducer->reset(); });
}

size_t glm_ext_reducer_slices(const ext_reducer* reducer) {
  return reducer->reducer->slices().size();
}

// `index` must be less than the number of slices.
void glm_ext_reducer_slice(const ext_reducer* reducer, size_t index, uint64_t* begin, uint64_t* end) {
  const auto& slice = reducer->reducer->slices()[index];
  *begin = static_cast<uint64_t>(slice.begin);
  *end = static_cast<uint64_t>(slice.end);
}

size_t glm_ext_reducer_overlapped(const ext_reducer* reducer) {
  return reducer->reducer->overlapped();
}

}  // extern "C"
