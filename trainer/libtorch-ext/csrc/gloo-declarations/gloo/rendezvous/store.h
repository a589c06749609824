// Stands in for gloo's header of this name, see ../context.h.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo::rendezvous {

// What c10d's GlooStore overrides. Without GLOO_STORE_HAS_STORE_V2 it does so with fewer functions than in libtorch: one made
// on this side would have the wrong table of functions, and libtorch makes its own.
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string& key, const std::vector<char>& value) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) = 0;
};

}  // namespace gloo::rendezvous
