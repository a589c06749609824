// Vectors of which each rank holds a part, and that are whole only while they are needed; see src/distributed/gather.rs.

#include "group.h"
#include "memory.h"

#include <c10/core/GradMode.h>

#include <memory>

struct ext_divided {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  at::Tensor whole;
  at::Tensor part;
};

extern "C" {

// `whole` is a vector with memory of its own, or without memory; `part` is this rank's part of it, maybe in another kind.
char* glm_ext_gather_new(const ext_group* group, ext_tensor whole, ext_tensor part, ext_divided** out) {
  return ext_guarded([&] {
    ext_check_tensor(*group, *part);
    TORCH_CHECK(whole->dim() == 1 && whole->device() == part->device(), "the whole is not a vector on the device of the part");
    TORCH_CHECK(whole->numel() == part->numel() * group->group->getSize(), "the parts of all ranks are not the whole");
    *out = new ext_divided{group->group, *whole, *part};
  });
}

void glm_ext_gather_free(ext_divided* divided) {
  delete divided;
}

// Allocates the whole and fills it with the parts of all ranks. For tensors on a GPU only the current stream waits.
char* glm_ext_gather_run(ext_divided* divided, uint64_t timeout) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    ext_allocate(divided->whole);
    const auto sent = divided->part.to(divided->whole.scalar_type());
    ext_wait_on_stream(ext_start_gather(*divided->group, divided->whole, sent), sent.is_cuda(), timeout);
  });
}

}  // extern "C"
