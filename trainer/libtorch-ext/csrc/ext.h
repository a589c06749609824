// C interface between libtorch and the Rust code of this crate.
//
// Tensors are passed as pointers to at::Tensor, as in tch: arguments are borrowed, results are owned by the caller. A function
// returns nullptr on success, or an error message allocated with malloc, which the caller frees. Exceptions do not cross this
// interface.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>

using ext_tensor = at::Tensor*;

// Runs `body` and converts an exception to a message.
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
    return strdup("unknown exception");
  }
}
