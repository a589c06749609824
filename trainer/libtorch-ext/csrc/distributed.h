// Declarations shared by the C++ files of the module `distributed`. Each handle type has functions that create and free it.
#pragma once

#include "ext.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

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

// Store of the Rust code.
struct ext_rust_store;

// Copies bytes to where `target` points.
using ext_sink = void(void* target, const uint8_t* bytes, size_t size);

// Functions of a store of the Rust code; src/distributed/store/c10d.rs describes them. Timeouts are in milliseconds.
struct ext_store_calls {
  char* (*clone)(const ext_rust_store* store, ext_rust_store** out);
  void (*free)(ext_rust_store* store);
  char* (*set)(const ext_rust_store* store, ext_bytes key, ext_bytes value);
  char* (*compare_set)(
      const ext_rust_store* store,
      ext_bytes key,
      ext_bytes expected,
      ext_bytes desired,
      ext_sink* sink,
      void* target);
  char* (*get)(const ext_rust_store* store, ext_bytes key, uint64_t timeout, ext_sink* sink, void* target);
  char* (*add)(const ext_rust_store* store, ext_bytes key, int64_t amount, int64_t* sum);
  char* (*check)(const ext_rust_store* store, const ext_bytes* keys, size_t n, int* all);
  char* (*wait)(const ext_rust_store* store, const ext_bytes* keys, size_t n, uint64_t timeout);
  char* (*del)(const ext_rust_store* store, ext_bytes key, int* deleted);
  char* (*count)(const ext_rust_store* store, int64_t* keys);
};

// Makes a store of the Rust code a store of c10d, which owns it.
c10::intrusive_ptr<c10d::Store> ext_make_store(ext_rust_store* store, const ext_store_calls* calls, uint64_t timeout);

// Throws the error that a function of this interface returned.
inline void ext_throw(char* message) {
  if (message != nullptr) {
    const std::string text = message;
    std::free(message);
    TORCH_CHECK_WITH(DistStoreError, false, text);
  }
}

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
