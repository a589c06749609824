// What the C++ files of the module `distributed` share. Handles are made by a function of theirs and freed by another.
#pragma once

#include "ext.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <string>
#include <vector>

// Text or bytes that are lent, not ended by a zero.
struct ext_bytes {
  const uint8_t* data;
  size_t size;

  std::string text() const {
    return std::string(reinterpret_cast<const char*>(data), size);
  }
};

// A connection to the store, with the server behind it where this process has it.
struct ext_store {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

// Milliseconds; c10d reads 0 as "without end", which Rust never asks for.
inline std::chrono::milliseconds ext_milliseconds(uint64_t milliseconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(milliseconds));
}

// A backend for tensors of CPUs, which other ranks reach at `address`; waits until all ranks have called it.
c10::intrusive_ptr<c10d::Backend> ext_make_gloo(
    const c10::intrusive_ptr<c10d::Store>& store,
    int rank,
    int size,
    std::chrono::milliseconds timeout,
    const std::string& address);

// A backend for tensors of one GPU, which waits for nobody yet; nccl.cpp has the only one.
using ext_make_nccl = char*(
    const c10::intrusive_ptr<c10d::Store>& store,
    int rank,
    int size,
    std::chrono::milliseconds timeout,
    const std::string& name,
    int device,
    c10::intrusive_ptr<c10d::Backend>* out);
