#include "forward/torch/tensor_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>

namespace calque::forward {
namespace {

// Scores at a time, over all heads: 128 MiB of fp32, and as much again for the probabilities.
constexpr Index kScoreElements = Index{1} << 25;

struct Span {
  Index first = 0;
  Index count = 0;
  Index end() const { return first + count; }
};

// Where a key is not seen: after the position, or gone from its window. [positions, keys]
at::Tensor hidden_keys(Span rows, Span keys, Index window, const at::Device& device) {
  const auto options = at::device(device).dtype(at::kLong);
  const at::Tensor position = at::arange(rows.first, rows.end(), options).unsqueeze(1);
  const at::Tensor key = at::arange(keys.first, keys.end(), options).unsqueeze(0);
  const at::Tensor after = key > position;
  return window == 0 ? after : after.logical_or(key <= position - window);
}

}  // namespace

at::Tensor TensorAttention::operator()(const at::Tensor& q_THD, const at::Tensor& k_THD,
                                       const at::Tensor& v_THD) const {
  const Index length = q_THD.size(0), heads = q_THD.size(1), dim = q_THD.size(2);
  const Index kv_heads = k_THD.size(1);
  const Index group = heads / kv_heads;
  // Queries of the heads that share keys are rows of one matrix, position-major.
  const at::Tensor queries =
      q_THD.reshape({length, kv_heads, group, dim}).permute({1, 0, 2, 3}).contiguous();
  const at::Tensor keys_HSD = k_THD.permute({1, 0, 2}).contiguous();
  const at::Tensor values_HSD = v_THD.permute({1, 0, 2}).contiguous();
  const at::Tensor out_TN = at::empty({length, heads * dim}, q_THD.options());
  const Index positions = std::clamp<Index>(kScoreElements / (heads * length), 1, length);
  for (Index first = 0; first < length; first += positions) {
    const Span rows{first, std::min(positions, length - first)};
    const Index first_key = window == 0 ? 0 : std::max<Index>(0, first - window + 1);
    const Span keys{first_key, rows.end() - first_key};
    const at::Tensor chunk =
        queries.narrow(1, rows.first, rows.count).reshape({kv_heads, rows.count * group, dim});
    at::Tensor scores = at::bmm(chunk, keys_HSD.narrow(1, keys.first, keys.count).transpose(1, 2));
    if (softcap > 0) scores.div_(softcap).tanh_().mul_(softcap);
    scores.view({kv_heads, rows.count, group, keys.count})
        .masked_fill_(hidden_keys(rows, keys, window, q_THD.device()).unsqueeze(1).unsqueeze(0),
                      -std::numeric_limits<double>::infinity());
    const at::Tensor sums = at::bmm(at::_softmax(scores, 2, /*half_to_float=*/false),
                                    values_HSD.narrow(1, keys.first, keys.count));
    out_TN.narrow(0, rows.first, rows.count)
        .copy_(sums.view({kv_heads, rows.count, group, dim})
                   .permute({1, 0, 2, 3})
                   .reshape({rows.count, heads * dim}));
  }
  return out_TN;
}

}  // namespace calque::forward
