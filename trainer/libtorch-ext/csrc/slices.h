// Slices of gradients, in which reducer.cpp adds them up.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <memory>
#include <vector>

namespace ext_slices {

struct Options {
  // Approximate size of a slice in bytes.
  int64_t bucket;
  // Gradients are sent as bf16.
  bool bf16;
  // If not 0, each rank receives the sums of its part of every slice only, and a gradient takes a multiple of this number of elements.
  int64_t multiple;
};

// A run of parameters whose gradients are views of one tensor.
struct Unit {
  at::Tensor gradients;
  // Place of its first element among the gradients of all units.
  int64_t begin;
  // The memory exists only while gradients are in it: from the backward pass of its parameters until they are reduced.
  bool temporary;
  // Number of slices whose sums have not arrived in the current pass.
  size_t unsettled;
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
  std::shared_ptr<torch::autograd::Node> accumulator;
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
std::vector<size_t> locate(std::vector<Parameter>& parameters, const std::vector<Unit>& units, int64_t multiple);

// Cuts the units into slices, and returns them in the order in which they are reduced.
//
// A backward pass completes gradients in roughly the reverse order of the parameters, so a slice is complete when its first
// parameter is. Slices are cut from the end of the buffer. Wherever the order of the buffer is not that of the parameters, a new
// slice begins, because one gradient would keep the other waiting for most of the pass.
std::vector<Slice> cut(std::vector<Parameter>& parameters, const std::vector<size_t>& places, int64_t bucket);

// Fails on every rank if the parameters of any rank differ.
void check_same_parameters(c10d::ProcessGroup& group, const std::vector<Parameter>& parameters, const Options& options);

}  // namespace ext_slices
