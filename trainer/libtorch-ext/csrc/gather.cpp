// Vectors of which each rank holds a part, and that are whole only while they are needed; see src/distributed/gather.rs.

#include "group.h"
#include "memory.h"

#include <c10/core/GradMode.h>

#include <memory>
#include <utility>

struct ext_divided {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  at::Tensor whole;
  at::Tensor part;
  // True from the start of gathering until the memory is released.
  bool exists = false;
  // Gathering that nobody has waited for, with what it sends.
  c10::intrusive_ptr<c10d::Work> work;
  at::Tensor sent;
};

namespace {

void wait(ext_divided& divided, uint64_t timeout) {
  if (divided.work) {
    ext_wait_on_stream(divided.work, divided.whole.is_cuda(), timeout);
    divided.work.reset();
    divided.sent.reset();
  }
}

void release(ext_divided& divided) {
  divided.work.reset();
  divided.sent.reset();
  ext_release(divided.whole);
  divided.exists = false;
}

}  // namespace

extern "C" {

// `whole` is a vector with memory of its own, or without memory; `part` is this rank's part of it, maybe in another kind.
char* glm_ext_gather_new(const ext_group* group, ext_tensor whole, ext_tensor part, ext_divided** out) {
  return ext_guarded([&] {
    ext_check_tensor(*group, *part);
    TORCH_CHECK(whole->dim() == 1 && whole->device() == part->device(), "the whole is not a vector on the device of the part");
    TORCH_CHECK(whole->numel() == part->numel() * group->group->getSize(), "the parts of all ranks are not the whole");
    auto divided = std::make_unique<ext_divided>();
    divided->group = group->group;
    divided->whole = *whole;
    divided->part = *part;
    *out = divided.release();
  });
}

// Does not wait: gathering that has been started goes on, and its work holds the tensors and their memory.
void glm_ext_gather_free(ext_divided* divided) {
  delete divided;
}

// Allocates the whole, and starts to fill it with the parts of all ranks, unless that has been done.
char* glm_ext_gather_start(ext_divided* divided) {
  return ext_guarded([&] {
    if (divided->exists) {
      return;
    }
    c10::NoGradGuard no_grad;
    ext_allocate(divided->whole);
    divided->sent = divided->part.to(divided->whole.scalar_type());
    divided->work = ext_start_gather(*divided->group, divided->whole, divided->sent);
    divided->exists = true;
  });
}

// Waits until the whole is there. For tensors on a GPU only the current stream waits.
char* glm_ext_gather_wait(ext_divided* divided, uint64_t timeout) {
  return ext_guarded([&] {
    TORCH_CHECK(divided->exists, "nothing has been gathered");
    wait(*divided, timeout);
  });
}

// Releases the memory of the whole. If it is still being gathered, waits for that first, because the backend writes to the memory; if
// that takes too long, the memory stays.
char* glm_ext_gather_release(ext_divided* divided, uint64_t timeout) {
  return ext_guarded([&] {
    try {
      wait(*divided, timeout);
    } catch (...) {
      if (divided->work->isCompleted()) {
        release(*divided);
      }
      throw;
    }
    release(*divided);
  });
}

}  // extern "C"
