// Slices of gradients: see slices.h.

#include "slices.h"

#include "group.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace ext_slices {

std::vector<size_t> locate(std::vector<Parameter>& parameters, const std::vector<Unit>& units, int64_t multiple) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto& parameter = parameters[i];
    const auto& gradient = parameter.tensor.grad();
    const auto unit = std::find_if(units.begin(), units.end(), [&](const Unit& unit) {
      if (!gradient.defined() || !gradient.is_alias_of(unit.gradients) || !gradient.is_contiguous() ||
          gradient.scalar_type() != unit.gradients.scalar_type()) {
        return false;
      }
      // Units may be parts of one vector.
      const auto place = gradient.storage_offset() - unit.gradients.storage_offset();
      return place >= 0 && place < unit.gradients.numel();
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

void check_same_parameters(c10d::ProcessGroup& group, const std::vector<Parameter>& parameters, const Options& options) {
  const int64_t flags = (options.bf16 ? 1 : 0) + 2 * options.multiple;
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

}  // namespace ext_slices
