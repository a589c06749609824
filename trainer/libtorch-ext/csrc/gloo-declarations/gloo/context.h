// Stands in for gloo's header of this name.
//
// libtorch contains gloo, and its header ProcessGroupGloo.hpp includes five of gloo's, which the wheel lacks. This folder
// declares what that header names, so that it compiles: types behind pointers, a function that it calls, an interface that
// it implements. All of it is defined in libtorch. Objects of these types are made there too, and csrc/gloo.cpp only hands
// them on, so that nothing here has to have the size or the virtual functions of the real thing.
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
