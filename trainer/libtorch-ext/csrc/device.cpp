// Streams, events and memory statistics of a GPU, and page-locked memory, through libtorch's device-independent interface.
// Building this file needs neither headers nor libraries of CUDA.

#include "ext.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

c10::Device cuda(int index) {
  return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
}

c10::impl::VirtualGuardImpl guard() {
  return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA);
}

}  // namespace

extern "C" {

char* glm_ext_stream_from_pool(int device, c10::Stream** out) {
  return ext_guarded([&] { *out = new c10::Stream(guard().getStreamFromGlobalPool(cuda(device), false)); });
}

char* glm_ext_stream_current(int device, c10::Stream** out) {
  return ext_guarded([&] { *out = new c10::Stream(guard().getStream(cuda(device))); });
}

void glm_ext_stream_free(c10::Stream* stream) {
  delete stream;
}

// Sets this thread's current stream and returns the previous one.
char* glm_ext_stream_exchange(const c10::Stream* stream, c10::Stream** before) {
  return ext_guarded([&] { *before = new c10::Stream(guard().exchangeStream(*stream)); });
}

char* glm_ext_event_record(const c10::Stream* stream, c10::Event** out) {
  return ext_guarded([&] {
    auto event = std::make_unique<c10::Event>(c10::DeviceType::CUDA);
    event->record(*stream);
    *out = event.release();
  });
}

char* glm_ext_event_block(const c10::Event* event, const c10::Stream* stream) {
  return ext_guarded([&] { event->block(*stream); });
}

char* glm_ext_event_synchronize(const c10::Event* event) {
  return ext_guarded([&] { event->synchronize(); });
}

void glm_ext_event_free(c10::Event* event) {
  delete event;
}

// Prevents the tensor's memory from being reused, once it is freed, before the work queued on `stream` is done.
char* glm_ext_record_stream(ext_tensor tensor, const c10::Stream* stream) {
  return ext_guarded([&] { tensor->record_stream(*stream); });
}

// Peak number of bytes allocated by tensors of this process on a device.
char* glm_ext_peak_bytes(int device, uint64_t* bytes) {
  return ext_guarded([&] {
    const auto stats = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    *bytes = static_cast<uint64_t>(stats.allocated_bytes[0].peak);
  });
}

// Number of bytes that tensors of this process can still allocate on a device: free memory, and what the allocator keeps unused.
char* glm_ext_available_bytes(int device, uint64_t* bytes) {
  return ext_guarded([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    const auto stats = allocator->getDeviceStats(index);
    const auto unused = stats.reserved_bytes[0].current - stats.allocated_bytes[0].current;
    *bytes = allocator->getMemoryInfo(index).first + static_cast<uint64_t>(unused);
  });
}

// Starts a copy on the current stream of the GPU that holds `from`. `to` must be page-locked memory or on a GPU.
char* glm_ext_copy_async(ext_tensor to, ext_tensor from) {
  return ext_guarded([&] { to->copy_(*from, /*non_blocking=*/true); });
}

// Uninitialized page-locked memory, as a tensor of bytes.
char* glm_ext_empty_pinned(size_t bytes, ext_tensor* out) {
  return ext_guarded([&] {
    // libtorch looks for CUDA once: a request before libtorch_cuda is loaded would hide it for the rest of the process.
    TORCH_CHECK(c10::impl::hasDeviceGuardImpl(c10::DeviceType::CUDA), "page-locked memory needs a GPU");
    const auto options = at::TensorOptions(at::kByte).pinned_memory(true);
    *out = new at::Tensor(at::empty({static_cast<int64_t>(bytes)}, options));
  });
}

// Keeps scaled_dot_product_attention from using cuDNN, which libtorch otherwise prefers on some GPUs.
void glm_ext_disable_cudnn_attention() {
  at::globalContext().setSDPUseCuDNN(false);
}

}  // extern "C"
