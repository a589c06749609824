// The C interface between libtorch and this crate's Rust side.
//
// Tensors cross it as pointers to at::Tensor, as tch has them: what comes in is borrowed, what goes out is owned by the
// receiver. A function returns nullptr, or a message in memory of malloc that the receiver frees; no exception crosses it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>

using ext_tensor = at::Tensor*;

// Runs `body` and turns whatever it throws into a message.
template <class Body>
char* ext_guarded(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception that is no std::exception");
  }
}
