// Current device, streams, events and memory statistics of a GPU, and page-locked memory, through libtorch's device-independent
// interface. Building this file needs neither headers nor libraries of CUDA.

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

// Sets the GPU that this thread uses where no other is given.
char* glm_ext_set_current_device(int device) {
  return ext_guarded([&] { guard().setDevice(cuda(device)); });
}

// Returns the GPU that this thread uses where no other is given, or -1 if there is none. Does not initialize CUDA.
int glm_ext_current_device() {
  int device = -1;
  if (c10::impl::hasDeviceGuardImpl(c10::DeviceType::CUDA)) {
    // Without a GPU there is an error.
    std::free(ext_guarded([&] { device = guard().getDevice().index(); }));
  }
  return device;
}

char* glm_ext_stream_from_pool(int device, c10::Stream** out) {
  return ext_guarded([&] { *out = new c10::Stream(guard().getStreamFromGlobalPool(cuda(device), false)); });
}

char* glm_ext_stream_current(int device, c10::Stream** out) {
  return ext_guarded([&] { *out = new c10::Stream(guard().getStream(cuda(device))); });
}

// Handle of this thread's current stream: a CUstream.
char* glm_ext_stream_handle(int device, void** out) {
  return ext_guarded([&] { *out = guard().getStream(cuda(device)).native_handle(); });
}

void glm_ext_stream_free(c10::Stream* stream) {
  delete stream;
}

// Sets this thread's current stream and returns the previous one.
char* glm_ext_stream_exchange(const c10::Stream* stream, c10::Stream** before) {
  return ext_guarded([&] { *before = new c10::Stream(guard().exchangeStream(*stream)); });
}

// With `timing`, the event has a time stamp, see glm_ext_event_elapsed.
char* glm_ext_event_record(const c10::Stream* stream, int timing, c10::Event** out) {
  return ext_guarded([&] {
    const auto flag = timing ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT;
    auto event = std::make_unique<c10::Event>(c10::DeviceType::CUDA, flag);
    event->record(*stream);
    *out = event.release();
  });
}

char* glm_ext_event_block(const c10::Event* event, const c10::Stream* stream) {
  return ext_guarded([&] { event->block(*stream); });
}

// Sets `reached` to 1 if the work before the event is done, else to 0.
char* glm_ext_event_query(const c10::Event* event, int* reached) {
  return ext_guarded([&] { *reached = event->query() ? 1 : 0; });
}

char* glm_ext_event_synchronize(const c10::Event* event) {
  return ext_guarded([&] { event->synchronize(); });
}

// Milliseconds between two events with time stamps, after waiting for both.
char* glm_ext_event_elapsed(const c10::Event* begin, const c10::Event* end, double* milliseconds) {
  return ext_guarded([&] {
    begin->synchronize();
    end->synchronize();
    *milliseconds = begin->elapsedTime(*end);
  });
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

// Returns cached memory that no tensor uses to the device, and starts counting the peak anew.
char* glm_ext_release_memory(int device) {
  return ext_guarded([&] {
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    allocator->emptyCache();
    allocator->resetPeakStats(static_cast<c10::DeviceIndex>(device));
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
