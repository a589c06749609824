// Operators that tch does not bind, libtorch's thread pool and its version.

#include "ext.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

namespace {

using pointwise_linear = at::Tensor(
    const at::Tensor&,
    const at::Tensor&,
    const std::optional<at::Tensor>&,
    c10::string_view,
    c10::List<std::optional<at::Scalar>>,
    std::optional<c10::string_view>);

// oneDNN's linear layer, if this build of libtorch includes it.
const std::optional<c10::TypedOperatorHandle<pointwise_linear>>& onednn_linear() {
  static const auto found = []() -> std::optional<c10::TypedOperatorHandle<pointwise_linear>> {
    auto handle = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!handle.has_value()) {
      return std::nullopt;
    }
    return handle->typed<pointwise_linear>();
  }();
  return found;
}

std::vector<at::Tensor> copy_list(const ext_tensor* tensors, size_t n) {
  std::vector<at::Tensor> list;
  list.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    list.push_back(*tensors[i]);
  }
  return list;
}

}  // namespace

extern "C" {

// Version of the libtorch that is loaded, to be freed by glm_ext_free; null if libtorch does not say.
char* glm_ext_libtorch_version() {
  const std::string config = at::show_config();
  const char* const key = "TORCH_VERSION=";
  const auto at_key = config.find(key);
  if (at_key == std::string::npos) {
    return nullptr;
  }
  const auto begin = at_key + std::strlen(key);
  return strdup(config.substr(begin, config.find_first_of(", \n", begin) - begin).c_str());
}

// Product of a [m, k] and the transpose of b [n, k]. Uses oneDNN in cases in which it is faster than libtorch's mm.
char* glm_ext_matmul_nt(ext_tensor* out, ext_tensor a, ext_tensor b) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    const bool single = a->device().is_cpu() && a->scalar_type() == at::kFloat && b->scalar_type() == at::kFloat;
    if (single && onednn_linear().has_value() && a->numel() > 0 && b->numel() > 0) {
      *out = new at::Tensor(onednn_linear()->call(*a, *b, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt));
    } else {
      *out = new at::Tensor(at::mm(*a, b->t()));
    }
  });
}

// Product of x [n, k] and the transpose of weight [m, k], plus bias [m] if it is not null.
char* glm_ext_linear_nt(ext_tensor* out, ext_tensor x, ext_tensor weight, ext_tensor bias) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    *out = new at::Tensor(bias == nullptr ? at::mm(*x, weight->t()) : at::addmm(*bias, *x, weight->t()));
  });
}

// Adds the product of the transpose of a [n, m] and b [n, k] to total [m, k], which may be fp32 where a and b are half precision:
// on a GPU the sum is then computed in fp32 in the product.
char* glm_ext_add_product_tn(ext_tensor total, ext_tensor a, ext_tensor b) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    if (total->scalar_type() == a->scalar_type()) {
      total->addmm_(a->t(), *b);
    } else if (a->is_cuda()) {
      at::addmm_out(*total, *total, a->t(), *b, total->scalar_type());
    } else {
      total->addmm_(a->t().to(total->scalar_type()), b->to(total->scalar_type()));
    }
  });
}

// One AdamW step over lists of tensors. Gradients are divided by `scale`; if `found_inf` is not zero, nothing is updated. Both
// may be null.
char* glm_ext_fused_adamw(
    const ext_tensor* params,
    const ext_tensor* grads,
    const ext_tensor* exp_avgs,
    const ext_tensor* exp_avg_sqs,
    const ext_tensor* steps,
    size_t n,
    ext_tensor lr,
    double beta1,
    double beta2,
    double weight_decay,
    double eps,
    ext_tensor scale,
    ext_tensor found_inf) {
  return ext_guarded([&] {
    c10::NoGradGuard no_grad;
    const auto optional = [](ext_tensor tensor) {
      return tensor == nullptr ? std::optional<at::Tensor>() : std::optional<at::Tensor>(*tensor);
    };
    at::_fused_adamw_(
        copy_list(params, n),
        copy_list(grads, n),
        copy_list(exp_avgs, n),
        copy_list(exp_avg_sqs, n),
        {},
        copy_list(steps, n),
        *lr,
        beta1,
        beta2,
        weight_decay,
        eps,
        /*amsgrad=*/false,
        /*maximize=*/false,
        optional(scale),
        optional(found_inf));
  });
}

// Runs `body` on ranges that together cover 0..n, on libtorch's threads. Every range but the last has at least `grain` items.
char* glm_ext_parallel_for(size_t n, size_t grain, void (*body)(void*, size_t, size_t), void* context) {
  return ext_guarded([&] {
    at::parallel_for(0, static_cast<int64_t>(n), static_cast<int64_t>(grain), [&](int64_t begin, int64_t end) {
      body(context, static_cast<size_t>(begin), static_cast<size_t>(end));
    });
  });
}

}  // extern "C"
