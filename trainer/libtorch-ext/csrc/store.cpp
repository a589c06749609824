// Stores for rendezvous: the one of this crate, made a store of c10d, and the one of torchrun's agent.

#include "distributed.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {

// Store of this crate. Like any store of c10d, one object may be used by several threads.
class RustStore final : public c10d::Store {
 public:
  using c10d::Store::compareSet;
  using c10d::Store::set;

  // Takes ownership of `store`.
  RustStore(ext_rust_store* store, const ext_store_calls& calls, const std::chrono::milliseconds& timeout)
      : c10d::Store(timeout), store_(store), calls_(calls) {}

  RustStore(const RustStore&) = delete;
  RustStore& operator=(const RustStore&) = delete;

  ~RustStore() override {
    calls_.free(store_);
  }

  c10::intrusive_ptr<c10d::Store> clone() override {
    ext_rust_store* other = nullptr;
    ext_throw(calls_.clone(store_, &other));
    return c10::make_intrusive<RustStore>(other, calls_, timeout_);
  }

  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    ext_throw(calls_.set(store_, bytes(key), bytes(value)));
  }

  std::vector<uint8_t> compareSet(
      const std::string& key,
      const std::vector<uint8_t>& expected,
      const std::vector<uint8_t>& desired) override {
    std::vector<uint8_t> value;
    ext_throw(calls_.compare_set(store_, bytes(key), bytes(expected), bytes(desired), &copy, &value));
    return value;
  }

  std::vector<uint8_t> get(const std::string& key) override {
    std::vector<uint8_t> value;
    ext_throw(calls_.get(store_, bytes(key), milliseconds(timeout_), &copy, &value));
    return value;
  }

  int64_t add(const std::string& key, int64_t amount) override {
    int64_t sum = 0;
    ext_throw(calls_.add(store_, bytes(key), amount, &sum));
    return sum;
  }

  bool deleteKey(const std::string& key) override {
    int deleted = 0;
    ext_throw(calls_.del(store_, bytes(key), &deleted));
    return deleted != 0;
  }

  bool check(const std::vector<std::string>& keys) override {
    const auto list = all_bytes(keys);
    int all = 0;
    ext_throw(calls_.check(store_, list.data(), list.size(), &all));
    return all != 0;
  }

  int64_t getNumKeys() override {
    int64_t count = 0;
    ext_throw(calls_.count(store_, &count));
    return count;
  }

  void wait(const std::vector<std::string>& keys) override {
    wait(keys, timeout_);
  }

  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override {
    const auto list = all_bytes(keys);
    ext_throw(calls_.wait(store_, list.data(), list.size(), milliseconds(timeout)));
  }

 private:
  static ext_bytes bytes(const std::string& text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
  }

  static ext_bytes bytes(const std::vector<uint8_t>& value) {
    return {value.data(), value.size()};
  }

  static std::vector<ext_bytes> all_bytes(const std::vector<std::string>& keys) {
    std::vector<ext_bytes> list;
    list.reserve(keys.size());
    for (const auto& key : keys) {
      list.push_back(bytes(key));
    }
    return list;
  }

  static uint64_t milliseconds(const std::chrono::milliseconds& timeout) {
    return timeout.count() > 0 ? static_cast<uint64_t>(timeout.count()) : 0;
  }

  static void copy(void* target, const uint8_t* bytes, size_t size) noexcept {
    static_cast<std::vector<uint8_t>*>(target)->assign(bytes, bytes + size);
  }

  ext_rust_store* const store_;
  const ext_store_calls& calls_;
};

c10::intrusive_ptr<c10d::TCPStore> connect_to_agent(ext_bytes host, uint16_t port, uint64_t timeout) {
  c10d::TCPStoreOptions options;
  options.port = port;
  options.waitWorkers = false;
  options.timeout = ext_milliseconds(timeout);
  return c10::make_intrusive<c10d::TCPStore>(host.text(), options);
}

}  // namespace

c10::intrusive_ptr<c10d::Store> ext_make_store(ext_rust_store* store, const ext_store_calls* calls, uint64_t timeout) {
  return c10::make_intrusive<RustStore>(store, *calls, ext_milliseconds(timeout));
}

extern "C" {

char* glm_ext_agent_store_set(ext_bytes host, uint16_t port, uint64_t timeout, ext_bytes key, ext_bytes value) {
  return ext_guarded([&] {
    connect_to_agent(host, port, timeout)
        ->set(key.text(), std::vector<uint8_t>(value.data, value.data + value.size));
  });
}

// Waits until the key is set. The value is allocated with malloc; the caller frees it.
char* glm_ext_agent_store_get(
    ext_bytes host,
    uint16_t port,
    uint64_t timeout,
    ext_bytes key,
    uint8_t** value,
    size_t* size) {
  return ext_guarded([&] {
    const auto bytes = connect_to_agent(host, port, timeout)->get(key.text());
    auto* copy = static_cast<uint8_t*>(std::malloc(bytes.size() + 1));
    TORCH_CHECK(copy != nullptr, "cannot allocate ", bytes.size(), " bytes for a value");
    std::memcpy(copy, bytes.data(), bytes.size());
    *value = copy;
    *size = bytes.size();
  });
}

}  // extern "C"
