// Current device, streams, events and memory statistics of a GPU, through c10's device-independent interface. Building this file needs
// neither headers nor libraries of CUDA.

#include "ext.h"

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

// Sets `reached` to 1 if the work before the event is done, else to 0.
char* glm_ext_event_query(const c10::Event* event, int* reached) {
  return ext_guarded([&] { *reached = event->query() ? 1 : 0; });
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

}  // extern "C"
