// Process group, as group.cpp creates it and reducer.cpp uses it.
#pragma once

#include "distributed.h"

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <optional>

struct ext_group {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  // GPU of the NCCL backend, if the group has one.
  std::optional<c10::Device> gpu;
};

// Fails unless the group can use the tensor.
void ext_check_tensor(const ext_group& group, const at::Tensor& tensor);

// Starts to sum a tensor over all ranks, in place.
c10::intrusive_ptr<c10d::Work> ext_start_sum(c10d::ProcessGroup& group, const at::Tensor& tensor);

// Starts to sum the vector `whole` over all ranks and to store this rank's part of the sum in `part`, which may be that part of `whole`;
// the rest of `whole` is undefined afterwards.
c10::intrusive_ptr<c10d::Work> ext_start_scatter(c10d::ProcessGroup& group, const at::Tensor& part, const at::Tensor& whole);

// Starts to fill the vector `whole` with the parts of all ranks, in the order of ranks. `part` may be this rank's part of `whole`.
c10::intrusive_ptr<c10d::Work> ext_start_gather(c10d::ProcessGroup& group, const at::Tensor& whole, const at::Tensor& part);

// Throws the error of work, if it has one. Work on the CPU is waited for, at most for `timeout` milliseconds. For work on a GPU
// only the current stream waits, and this function returns at once.
void ext_wait_on_stream(const c10::intrusive_ptr<c10d::Work>& work, bool on_gpu, uint64_t timeout);

// Returns the numbers of all ranks, in the order of ranks. Every rank passes the same count.
std::vector<at::Tensor> ext_gather(c10d::ProcessGroup& group, const std::vector<int64_t>& numbers);
