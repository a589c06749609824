// Declarations shared by the C++ files of the module `distributed`. Each handle type has functions that create and free it.
#pragma once

#include "ext.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <string>
#include <vector>

// Borrowed text or bytes, not NUL-terminated.
struct ext_bytes {
  const uint8_t* data;
  size_t size;

  std::string text() const {
    return std::string(reinterpret_cast<const char*>(data), size);
  }
};

// A connection to the store. In the process that serves the store it also owns the server.
struct ext_store {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

// Never 0, which c10d takes to mean no timeout.
inline std::chrono::milliseconds ext_milliseconds(uint64_t milliseconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(milliseconds));
}

// Creates a backend for CPU tensors, to which other ranks connect at `address`. Waits until all ranks have called it.
c10::intrusive_ptr<c10d::Backend> ext_make_gloo(
    const c10::intrusive_ptr<c10d::Store>& store,
    int rank,
    int size,
    std::chrono::milliseconds timeout,
    const std::string& address);

// Type of the function in nccl.cpp that creates a backend for tensors on one GPU. It does not wait for other ranks.
using ext_make_nccl = char*(
    const c10::intrusive_ptr<c10d::Store>& store,
    int rank,
    int size,
    std::chrono::milliseconds timeout,
    const std::string& name,
    int device,
    c10::intrusive_ptr<c10d::Backend>* out);
