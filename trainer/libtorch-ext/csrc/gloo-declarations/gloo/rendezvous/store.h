// Replacement for gloo's header of the same name, see ../context.h.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo::rendezvous {

// Base class of c10d's GlooStore. GLOO_STORE_HAS_STORE_V2 is not defined here, so GlooStore has fewer virtual functions than in
// libtorch. This is safe because only libtorch creates objects of it.
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string& key, const std::vector<char>& value) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) = 0;
};

}  // namespace gloo::rendezvous
