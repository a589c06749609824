// The store through which processes find each other: c10d's TCPStore.

#include "distributed.h"

namespace {

std::vector<std::string> copy_keys(const ext_bytes* keys, size_t n) {
  std::vector<std::string> list;
  list.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    list.push_back(keys[i].text());
  }
  return list;
}

}  // namespace

extern "C" {

// `listener` is a socket that listens on `port`, which the store owns from here on whatever this returns, or -1 to be a
// client only.
char* glm_ext_store_new(
    ext_bytes host,
    uint16_t port,
    int listener,
    uint64_t world_size,
    uint64_t timeout,
    ext_store** out) {
  return ext_guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.numWorkers = world_size;
    // Whoever makes the server has to tell the others its port first; see glm_ext_store_join.
    options.waitWorkers = false;
    options.timeout = ext_milliseconds(timeout);
    // The other server, of libuv, takes no socket: it listens on every address of the machine.
    options.useLibUV = false;
    if (listener >= 0) {
      options.isServer = true;
      options.masterListenFd = listener;
    }
    auto store = std::make_unique<ext_store>();
    store->store = c10::make_intrusive<c10d::TCPStore>(host.text(), options);
    *out = store.release();
  });
}

// A second connection to the same server: calls on one wait for each other.
char* glm_ext_store_clone(const ext_store* store, ext_store** out) {
  return ext_guarded([&] {
    auto other = std::make_unique<ext_store>();
    other->store = c10::dynamic_intrusive_pointer_cast<c10d::TCPStore>(store->store->clone());
    TORCH_CHECK(other->store, "the copy of a TCPStore is no TCPStore");
    *out = other.release();
  });
}

void glm_ext_store_free(ext_store* store) {
  delete store;
}

// Counts this process; where the server is, waits until all are counted.
char* glm_ext_store_join(ext_store* store) {
  return ext_guarded([&] { store->store->waitForWorkers(); });
}

char* glm_ext_store_set(ext_store* store, ext_bytes key, ext_bytes value) {
  return ext_guarded(
      [&] { store->store->set(key.text(), std::vector<uint8_t>(value.data, value.data + value.size)); });
}

// The value is in memory of malloc that the receiver frees with glm_ext_free.
char* glm_ext_store_get(ext_store* store, ext_bytes key, uint8_t** value, size_t* size) {
  return ext_guarded([&] {
    const auto bytes = store->store->get(key.text());
    auto* copy = static_cast<uint8_t*>(std::malloc(bytes.size() + 1));
    TORCH_CHECK(copy != nullptr, "no memory for a value of ", bytes.size(), " bytes");
    std::memcpy(copy, bytes.data(), bytes.size());
    *value = copy;
    *size = bytes.size();
  });
}

char* glm_ext_store_add(ext_store* store, ext_bytes key, int64_t amount, int64_t* sum) {
  return ext_guarded([&] { *sum = store->store->add(key.text(), amount); });
}

char* glm_ext_store_delete(ext_store* store, ext_bytes key, int* existed) {
  return ext_guarded([&] { *existed = store->store->deleteKey(key.text()) ? 1 : 0; });
}

char* glm_ext_store_check(ext_store* store, const ext_bytes* keys, size_t n, int* all) {
  return ext_guarded([&] { *all = store->store->check(copy_keys(keys, n)) ? 1 : 0; });
}

char* glm_ext_store_wait(ext_store* store, const ext_bytes* keys, size_t n, uint64_t timeout) {
  return ext_guarded([&] { store->store->wait(copy_keys(keys, n), ext_milliseconds(timeout)); });
}

}  // extern "C"
