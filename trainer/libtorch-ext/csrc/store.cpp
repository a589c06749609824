// Key-value store for rendezvous: c10d's TCPStore.

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

// `listener` is a socket that listens on `port`, or -1 for a client without a server. Takes ownership of the socket, also if it
// returns an error.
char* glm_ext_store_new(ext_bytes host, uint16_t port, int listener, uint64_t timeout, ext_store** out) {
  return ext_guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.waitWorkers = false;
    options.timeout = ext_milliseconds(timeout);
    // The libuv server does not accept a socket: it listens on all addresses of the machine.
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

// Opens another connection to the same server. Calls on one connection block each other.
char* glm_ext_store_clone(const ext_store* store, ext_store** out) {
  return ext_guarded([&] {
    auto other = std::make_unique<ext_store>();
    other->store = c10::dynamic_intrusive_pointer_cast<c10d::TCPStore>(store->store->clone());
    TORCH_CHECK(other->store, "TCPStore::clone did not return a TCPStore");
    *out = other.release();
  });
}

void glm_ext_store_free(ext_store* store) {
  delete store;
}


char* glm_ext_store_set(ext_store* store, ext_bytes key, ext_bytes value) {
  return ext_guarded(
      [&] { store->store->set(key.text(), std::vector<uint8_t>(value.data, value.data + value.size)); });
}

// The value is allocated with malloc; the caller frees it.
char* glm_ext_store_get(ext_store* store, ext_bytes key, uint8_t** value, size_t* size) {
  return ext_guarded([&] {
    const auto bytes = store->store->get(key.text());
    auto* copy = static_cast<uint8_t*>(std::malloc(bytes.size() + 1));
    TORCH_CHECK(copy != nullptr, "cannot allocate ", bytes.size(), " bytes for a value");
    std::memcpy(copy, bytes.data(), bytes.size());
    *value = copy;
    *size = bytes.size();
  });
}

char* glm_ext_store_add(ext_store* store, ext_bytes key, int64_t amount, int64_t* sum) {
  return ext_guarded([&] { *sum = store->store->add(key.text(), amount); });
}


char* glm_ext_store_check(ext_store* store, const ext_bytes* keys, size_t n, int* all) {
  return ext_guarded([&] { *all = store->store->check(copy_keys(keys, n)) ? 1 : 0; });
}

char* glm_ext_store_wait(ext_store* store, const ext_bytes* keys, size_t n, uint64_t timeout) {
  return ext_guarded([&] { store->store->wait(copy_keys(keys, n), ext_milliseconds(timeout)); });
}

}  // extern "C"
