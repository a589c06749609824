// Reduction of gradients during the backward pass, in slices of the one buffer that holds them.

#include "group.h"
#include "memory.h"

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

// A run of parameters whose gradients are views of one tensor.
struct Unit {
  at::Tensor gradients;
  // Place of its first element among the gradients of all units.
  int64_t begin;
  // The memory exists only while gradients are in it: from the backward pass of its parameters until they are reduced.
  bool temporary;
};

// A parameter, and the place of its gradient among all gradients, in elements.
struct Parameter {
  at::Tensor tensor;
  // Unit of the gradient.
  size_t unit = 0;
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

// A part of the gradients of a unit that is reduced at once.
struct Slice {
  size_t unit = 0;
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
  // This rank's part of a vector to which the sums are added.
  at::Tensor total;
  // Sums on their way to `total`.
  at::Tensor received;
  // Number of parameters whose gradients the current pass has not completed.
  size_t pending = 0;
  c10::intrusive_ptr<c10d::Work> work;
};

// Finds the places of the gradients, which must fill the units, each up to a multiple of `multiple`. Returns the parameters in the
// order of their places.
std::vector<size_t> locate(std::vector<Parameter>& parameters, const std::vector<Unit>& units, int64_t multiple) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto& parameter = parameters[i];
    const auto& gradient = parameter.tensor.grad();
    const auto unit = std::find_if(units.begin(), units.end(), [&](const Unit& unit) {
      return gradient.defined() && gradient.is_alias_of(unit.gradients) && gradient.is_contiguous() &&
          gradient.scalar_type() == unit.gradients.scalar_type();
    });
    TORCH_CHECK(unit != units.end(), "the gradient of parameter ", i, " is not a view of the buffer");
    parameter.unit = static_cast<size_t>(unit - units.begin());
    parameter.begin = unit->begin + gradient.storage_offset() - unit->gradients.storage_offset();
    parameter.end = parameter.begin + (gradient.numel() + multiple - 1) / multiple * multiple;
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
  int64_t all = 0;
  for (const auto& unit : units) {
    TORCH_CHECK(unit.begin == all, "the units overlap or have gaps");
    all += unit.gradients.numel();
  }
  TORCH_CHECK(next == all, "the gradients do not fill the buffer");
  return order;
}

// Cuts the units into slices, and returns them in the order in which they are reduced.
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
    if (slices.empty() || (held > 0 && is_full) || *place > slices.back().parameters.back() ||
        parameter.unit != slices.back().unit) {
      slices.push_back(Slice());
      slices.back().unit = parameter.unit;
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
  // Waits for all ranks, and fails if their parameters differ. If `totals` is defined, the sums of this rank's parts are added to it.
  Reducer(
      const ext_group& group,
      const std::vector<at::Tensor>& parameters,
      const std::vector<Unit>& units,
      const at::Tensor& totals,
      const Options& options)
      : group_(group.group), on_gpu_(units[0].gradients.is_cuda()), scatter_(options.scatter), units_(units) {
    for (const auto& tensor : parameters) {
      parameters_.emplace_back();
      parameters_.back().tensor = tensor;
    }
    // Every rank has an equal part of a slice.
    const int64_t ranks = options.scatter ? group_->getSize() : 1;
    const auto places = locate(parameters_, units_, ranks);
    check_same_parameters(*group_, parameters_, options);
    const auto element = static_cast<int64_t>(units[0].gradients.element_size());
    slices_ = cut(parameters_, places, std::max<int64_t>(options.bucket / element, 1));
    half_ = options.bf16 && units[0].gradients.scalar_type() != at::kBFloat16;
    for (auto& slice : slices_) {
      const auto& unit = units_[slice.unit];
      slice.gradients = unit.gradients.slice(0, slice.begin - unit.begin, slice.end - unit.begin);
      if (half_ && !totals.defined()) {
        slice.copy = at::empty_like(slice.gradients, slice.gradients.options().dtype(at::kBFloat16));
      }
      slice.sums = own(slice.gradients);
      slice.sums_of_copy = own(slice.copy);
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

  // All ranks start their slices in the same order, because NCCL does not tell collectives apart otherwise.
  void start_next() {
    c10::NoGradGuard no_grad;
    auto& slice = slices_[next_];
    if (slice.total.defined()) {
      // One slice is sent while the next one is computed.
      settle(next_ == 0 ? 0 : next_ - 1);
      if (units_[slice.unit].temporary) {
        // Of a rank that has nothing to add.
        ext_allocate_zeros(slice.gradients);
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
        if (units_[slice.unit].temporary) {
          ext_release(slice.gradients);
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
  const std::vector<Unit> units_;
  // Modified by hooks, with the mutex held: `is_complete`, and of slices `pending` and `work`.
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

// The gradients of the parameters are views of the `units`, vectors that they fill in this order; with `scatter`, each up to a
// multiple of the number of ranks. The parameters are in the order in which a forward pass uses them first. If `totals` is not null,
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
    std::vector<Unit> parts;
    int64_t begin = 0;
    for (size_t i = 0; i < n_units; ++i) {
      ext_check_tensor(*group, *units[i]);
      TORCH_CHECK(units[i]->dim() == 1 && units[i]->numel() > 0, "the buffer of gradients is not a vector, or is empty");
      parts.push_back({*units[i], begin, temporary[i] != 0});
      begin += units[i]->numel();
    }
    TORCH_CHECK(!parts.empty(), "there are no gradients");
    auto reducer = std::make_unique<ext_reducer>();
    const Options options{static_cast<int64_t>(bucket), bf16 != 0, scatter != 0};
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
