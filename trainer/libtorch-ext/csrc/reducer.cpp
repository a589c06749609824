// Reduction of gradients during the backward pass, in slices of the one buffer that holds them.

#include "group.h"
#include "memory.h"
#include "slices.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

namespace {

using ext_slices::Options;
using ext_slices::Parameter;
using ext_slices::Slice;
using ext_slices::Unit;
using torch::autograd::variable_list;

class Reducer final : public std::enable_shared_from_this<Reducer> {
 public:
  // Waits for all ranks, and fails if their parameters differ. If `totals` is defined, the sums of this rank's parts are added to it.
  Reducer(
      const ext_group& group,
      const std::vector<at::Tensor>& parameters,
      const std::vector<Unit>& units,
      const at::Tensor& totals,
      const Options& options)
      : group_(group.group), on_gpu_(units[0].gradients.is_cuda()), scatter_(options.multiple != 0), units_(units) {
    for (const auto& tensor : parameters) {
      parameters_.emplace_back();
      parameters_.back().tensor = tensor;
    }
    // Every rank has an equal part of a slice.
    const int64_t ranks = scatter_ ? group_->getSize() : 1;
    TORCH_CHECK(options.multiple % ranks == 0, "a gradient must take a multiple of the number of ranks");
    const auto places = ext_slices::locate(parameters_, units_, std::max<int64_t>(options.multiple, 1));
    ext_slices::check_same_parameters(*group_, parameters_, options);
    const auto element = static_cast<int64_t>(units[0].gradients.element_size());
    slices_ = ext_slices::cut(parameters_, places, std::max<int64_t>(options.bucket / element, 1));
    half_ = options.bf16 && units[0].gradients.scalar_type() != at::kBFloat16;
    for (size_t i = 0; i < units_.size(); ++i) {
      const auto& unit = units_[i];
      if (unit.temporary) {
        // Views can be made of memory only.
        ext_allocate(unit.gradients);
      }
      for (auto& slice : slices_) {
        if (slice.unit != i) {
          continue;
        }
        slice.gradients = unit.gradients.slice(0, slice.begin - unit.begin, slice.end - unit.begin);
        if (half_ && !totals.defined()) {
          slice.copy = at::empty_like(slice.gradients, slice.gradients.options().dtype(at::kBFloat16));
        }
        slice.sums = own(slice.gradients);
        slice.sums_of_copy = own(slice.copy);
      }
      if (unit.temporary) {
        ext_release(unit.gradients);
      }
    }
    if (totals.defined()) {
      std::vector<Slice*> ascending;
      for (auto& slice : slices_) {
        ascending.push_back(&slice);
      }
      std::sort(ascending.begin(), ascending.end(), [](const Slice* a, const Slice* b) { return a->begin < b->begin; });
      int64_t next = 0;
      for (auto* slice : ascending) {
        const auto count = (slice->end - slice->begin) / ranks;
        slice->total = totals.narrow(0, next, count);
        next += count;
      }
      TORCH_CHECK(next == totals.numel(), "the vector of sums does not have the size of this rank's parts");
    }
    overlapped_ = next_ = slices_.size();
  }

  // Registers the hooks. They do not keep the reducer alive.
  void add_hooks();

  // Fails if hooks are missing; those that exist stay, without effect.
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
    timeout_ = timeout;
    settled_ = 0;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      auto& parameter = parameters_[i];
      const auto& gradient = parameter.tensor.grad();
      TORCH_CHECK(
          gradient.defined() && gradient.is_alias_of(units_[parameter.unit].gradients) &&
              gradient.storage_offset() ==
                  units_[parameter.unit].gradients.storage_offset() + parameter.begin - units_[parameter.unit].begin,
          "the gradient of parameter ", i, " is no longer a view of the buffer");
      parameter.is_complete = false;
    }
    for (auto& unit : units_) {
      unit.unsettled = 0;
    }
    for (auto& slice : slices_) {
      slice.pending = slice.parameters.size();
      units_[slice.unit].unsettled += 1;
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

  // Starts the next slice, as a backward pass does that has completed it.
  void start() {
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(is_active_ && next_ < slices_.size(), "there is no slice to be reduced");
    start_next();
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
    settle(slices_.size());
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
  // This rank's part of a slice, or all of it if ranks have all of them.
  at::Tensor own(const at::Tensor& whole) const {
    if (!scatter_ || !whole.defined()) {
      return whole;
    }
    const auto count = whole.numel() / group_->getSize();
    return whole.narrow(0, group_->getRank() * count, count);
  }

  // All ranks start their slices in the same order, because NCCL matches collectives by their order alone.
  void start_next() {
    c10::NoGradGuard no_grad;
    auto& slice = slices_[next_];
    if (slice.total.defined() || (scatter_ && !on_gpu_)) {
      // One slice is sent while the next one is computed; gloo holds a copy of it meanwhile.
      settle(next_ == 0 ? 0 : next_ - 1);
    }
    if (slice.total.defined()) {
      if (units_[slice.unit].temporary) {
        // Of a rank that has nothing to add.
        ext_allocate_zeros(units_[slice.unit].gradients);
      }
      slice.copy = half_ ? slice.gradients.to(at::kBFloat16) : at::Tensor();
      const auto& sent = half_ ? slice.copy : slice.gradients;
      slice.received = at::empty_like(own(sent));
      slice.work = ext_start_scatter(*group_, slice.received, sent);
    } else {
      if (slice.copy.defined()) {
        slice.copy.copy_(slice.gradients);
      }
      const auto& sent = slice.copy.defined() ? slice.copy : slice.gradients;
      slice.work = scatter_ ? ext_start_scatter(*group_, slice.copy.defined() ? slice.sums_of_copy : slice.sums, sent)
                            : ext_start_sum(*group_, sent);
    }
    next_ += 1;
  }

  // Waits for the first `count` slices, and puts their sums where they belong; see ext_wait_on_stream.
  void settle(size_t count) {
    for (; settled_ < count; ++settled_) {
      auto& slice = slices_[settled_];
      ext_wait_on_stream(std::exchange(slice.work, nullptr), on_gpu_, timeout_);
      if (slice.total.defined()) {
        slice.total.add_(slice.received);
        slice.received = slice.copy = at::Tensor();
        auto& unit = units_[slice.unit];
        unit.unsettled -= 1;
        if (unit.temporary && unit.unsettled == 0) {
          ext_release(unit.gradients);
        }
      } else if (slice.copy.defined()) {
        slice.sums.copy_(slice.sums_of_copy);
      }
    }
  }

  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
  const bool on_gpu_;
  const bool scatter_;
  // Gradients are sent in half the bytes.
  bool half_ = false;
  // Modified by hooks, with the mutex held: of units `unsettled`, of parameters `is_complete`, and of slices `pending` and `work`.
  std::vector<Unit> units_;
  std::vector<Parameter> parameters_;
  std::vector<Slice> slices_;
  std::mutex mutex_;
  // Guarded by the mutex. Backward passes reduce only if this is true.
  bool is_active_ = false;
  // Guarded by the mutex. The next slice to be started.
  size_t next_ = 0;
  // Guarded by the mutex during a pass. The number of slices whose sums have arrived.
  size_t settled_ = 0;
  uint64_t timeout_ = 0;
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

// The gradients of the parameters are views of the `units`, vectors that they fill in this order; if `multiple` is not 0, each rank
// receives its part of the sums only, and each gradient takes a multiple of that number, which is one of the number of ranks. The parameters are in the order in which a forward pass uses them first. If `totals` is not null,
// the sums of this rank's parts are added to that vector, in ascending order of places, and the memory of `temporary` units is
// released afterwards.
char* glm_ext_reducer_new(
    const ext_group* group,
    const ext_tensor* parameters,
    size_t n,
    const ext_tensor* units,
    const uint8_t* temporary,
    size_t n_units,
    ext_tensor totals,
    uint64_t bucket,
    int bf16,
    uint64_t multiple,
    ext_reducer** out) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    std::vector<at::Tensor> list;
    for (size_t i = 0; i < n; ++i) {
      TORCH_CHECK(
          parameters[i]->is_leaf() && parameters[i]->requires_grad(), "parameter ", i, " is not a leaf that requires a gradient");
      list.push_back(*parameters[i]);
    }
    std::vector<Unit> parts;
    int64_t begin = 0;
    for (size_t i = 0; i < n_units; ++i) {
      ext_check_tensor(*group, *units[i]);
      TORCH_CHECK(units[i]->dim() == 1 && units[i]->numel() > 0, "the buffer of gradients is not a vector, or is empty");
      parts.push_back({*units[i], begin, temporary[i] != 0, 0});
      begin += units[i]->numel();
    }
    TORCH_CHECK(!parts.empty(), "there are no gradients");
    auto reducer = std::make_unique<ext_reducer>();
    const Options options{static_cast<int64_t>(bucket), bf16 != 0, static_cast<int64_t>(multiple)};
    const auto sums = totals == nullptr ? at::Tensor() : *totals;
    reducer->reducer = std::make_shared<Reducer>(*group, list, parts, sums, options);
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

char* glm_ext_reducer_start(ext_reducer* reducer) {
  return ext_guarded([&] { reducer->reducer->start(); });
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
