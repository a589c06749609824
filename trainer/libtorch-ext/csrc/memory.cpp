// Memory of tensors that exists only while it is needed.

#include "memory.h"

#include "ext.h"

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/core/GradMode.h>

bool ext_allocate(const at::Tensor& tensor) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  const auto bytes = static_cast<size_t>(tensor.storage_offset() + tensor.numel()) * tensor.element_size();
  if (storage->nbytes() >= bytes) {
    return false;
  }
  TORCH_CHECK(storage->nbytes() == 0, "the memory of the tensor is part of a larger one");
  storage->set_data_ptr_noswap(c10::GetAllocator(tensor.device().type())->allocate(bytes));
  storage->set_nbytes(bytes);
  return true;
}

void ext_allocate_zeros(const at::Tensor& tensor) {
  if (ext_allocate(tensor)) {
    c10::NoGradGuard no_grad;
    tensor.detach().zero_();
  }
}

void ext_release(const at::Tensor& tensor) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(c10::DataPtr(nullptr, tensor.device()));
  storage->set_nbytes(0);
}

extern "C" {

char* glm_ext_allocate_zeros(ext_tensor tensor) {
  return ext_guarded([&] { ext_allocate_zeros(*tensor); });
}

// Address of what all handles to a variable share.
const void* glm_ext_identity(ext_tensor tensor) {
  return tensor->unsafeGetTensorImpl();
}

char* glm_ext_release(ext_tensor tensor) {
  return ext_guarded([&] { ext_release(*tensor); });
}

}  // extern "C"
