// Memory of tensors that exists only while it is needed; see src/memory.rs.
#pragma once

#include <ATen/core/Tensor.h>

// Gives a tensor memory unless it exists, and returns true if it did not. Tensors that share the memory see it too.
bool ext_allocate(const at::Tensor& tensor);

// Gives a tensor zeros, unless its memory exists.
void ext_allocate_zeros(const at::Tensor& tensor);

// Frees the memory of a tensor and of all that share it. They keep their shapes, and must not be read or written until it is allocated
// again.
void ext_release(const at::Tensor& tensor);
