// Autograd functions whose backward pass is a Rust closure.

#include "ext.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <mutex>
#include <string>

namespace {

using torch::autograd::Node;
using torch::autograd::variable_list;

// Computes the gradients of the inputs, `out`, from those of the outputs, `grads`. nullptr is an undefined gradient.
using backward_fn = char* (*)(void* closure, const ext_tensor* grads, size_t n_grads, ext_tensor* out, size_t n_out);
using drop_fn = void (*)(void* closure);

class ClosureNode final : public Node {
 public:
  ClosureNode(void* closure, backward_fn backward, drop_fn drop, size_t inputs, const char* name)
      : closure_(closure), backward_(backward), drop_(drop), inputs_(inputs), name_(name) {}

  ~ClosureNode() override {
    drop_closure();
  }

  // Displayed by libtorch's profiler.
  std::string name() const override {
    return name_;
  }

  variable_list apply(variable_list&& grads) override {
    // Required by Node if apply is not thread-safe: a call consumes the closure.
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(closure_ != nullptr, name_, ": backward has already been run through this graph, and its saved values are freed");
    std::vector<ext_tensor> in;
    in.reserve(grads.size());
    for (auto& grad : grads) {
      in.push_back(grad.defined() ? &grad : nullptr);
    }
    std::vector<ext_tensor> out(inputs_, nullptr);
    char* error = backward_(closure_, in.data(), in.size(), out.data(), out.size());
    variable_list result(inputs_);
    for (size_t i = 0; i < inputs_; ++i) {
      std::unique_ptr<at::Tensor> owned(out[i]);
      if (owned) {
        result[i] = std::move(*owned);
      }
    }
    if (error != nullptr) {
      std::string message(error);
      std::free(error);
      TORCH_CHECK(false, name_, ": ", message);
    }
    return result;
  }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    drop_closure();
  }

 private:
  void drop_closure() {
    if (closure_ != nullptr) {
      drop_(closure_);
      closure_ = nullptr;
    }
  }

  void* closure_;
  backward_fn backward_;
  drop_fn drop_;
  size_t inputs_;
  std::string name_;
};

}  // namespace

extern "C" {

void glm_ext_free(char* message) {
  std::free(message);
}

// Records a function with the given inputs and outputs whose backward pass is `closure`. Takes ownership of the closure, also
// if it returns an error.
char* glm_ext_record(
    const ext_tensor* inputs,
    size_t n_inputs,
    const ext_tensor* outputs,
    size_t n_outputs,
    void* closure,
    backward_fn backward,
    drop_fn drop,
    const char* name) {
  return ext_guarded([&] {
    std::shared_ptr<ClosureNode> node(
        new ClosureNode(closure, backward, drop, n_inputs, name), torch::autograd::deleteNode);
    variable_list list;
    list.reserve(n_inputs);
    for (size_t i = 0; i < n_inputs; ++i) {
      list.push_back(*inputs[i]);
    }
    node->set_next_edges(torch::autograd::collect_next_edges(list));
    for (size_t i = 0; i < n_outputs; ++i) {
      TORCH_CHECK(!outputs[i]->requires_grad(), name, ": output ", i, " already belongs to a graph");
    }
    for (size_t i = 0; i < n_outputs; ++i) {
      torch::autograd::set_history(*outputs[i], node);
    }
  });
}

// Sets `parameter.grad`; backward passes accumulate into `gradient`.
char* glm_ext_set_gradient(ext_tensor parameter, ext_tensor gradient) {
  return ext_guarded([&] {
    TORCH_CHECK(parameter->is_leaf() && parameter->requires_grad(), "the parameter is not a leaf that requires a gradient");
    TORCH_CHECK(
        gradient->sizes() == parameter->sizes() && gradient->scalar_type() == parameter->scalar_type() &&
            gradient->device() == parameter->device(),
        "the gradient differs from its parameter in shape, kind or device");
    parameter->mutable_grad() = *gradient;
  });
}

// Runs the backward pass from `n` outputs with these gradients.
char* glm_ext_backward(const ext_tensor* outputs, const ext_tensor* gradients, size_t n) {
  return ext_guarded([&] {
    variable_list from, with;
    for (size_t i = 0; i < n; ++i) {
      from.push_back(*outputs[i]);
      with.push_back(*gradients[i]);
    }
    torch::autograd::backward(from, with);
  });
}

// Returns 1 if operations of this thread are recorded for a backward pass.
int glm_ext_grad_enabled() {
  return c10::GradMode::is_enabled() ? 1 : 0;
}

}  // extern "C"
