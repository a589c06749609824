// Replacement for gloo's header of the same name.
//
// libtorch contains gloo. Its header ProcessGroupGloo.hpp includes five headers of gloo, which are not part of the wheel. This
// folder declares only the names that ProcessGroupGloo.hpp uses: types used through pointers, a function that it calls and an
// interface that it implements. All of them are defined in libtorch, which also creates the objects; csrc/gloo.cpp only passes
// pointers to them. The declarations therefore need not match gloo's types in size or virtual functions.
#pragma once

#include <chrono>
#include <memory>

namespace gloo {

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

class Context {
 public:
  Context() = delete;
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
