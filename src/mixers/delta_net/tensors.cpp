#include "mixers/delta_net/tensors.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace calque::forward {
namespace {

using model::DeltaNet;

constexpr double kSmallestSquare = 1e-6;

at::Tensor unit(const at::Tensor& x) {
  return x * at::rsqrt(x.square().sum(-1, /*keepdim=*/true) + kSmallestSquare);
}

// Heads of some sequences, H in all, cut into chunks of C tokens. Tokens after a sequence's end are
// zeros, which leave the state as it is.
struct Chunks {
  at::Tensor q_HNCD;
  at::Tensor k_HNCD;
  at::Tensor v_HNCE;
  at::Tensor decay_HNC;  // log
  at::Tensor rate_HNC;
};

// The outputs y [H, N, C, E] of the delta rule (spec.h), fp32. The changes that a chunk makes if
// the state before it is empty, and how they depend on that state, are found for all chunks at
// once; then the states follow one another.
at::Tensor delta_rule(const Chunks& in) {
  const at::Tensor total_HNC = in.decay_HNC.to(at::kDouble).cumsum(2);
  const Index heads = in.q_HNCD.size(0), count = in.q_HNCD.size(1), size = in.q_HNCD.size(2);
  const at::Tensor after = at::ones({size, size}, total_HNC.options().dtype(at::kBool)).triu(1);
  const at::Tensor decays = (total_HNC.unsqueeze(3) - total_HNC.unsqueeze(2))
                                .masked_fill(after, -std::numeric_limits<double>::infinity())
                                .to(at::kFloat)
                                .exp();
  const at::Tensor so_far = total_HNC.to(at::kFloat).exp().unsqueeze(3);
  const at::Tensor keys_CD = in.k_HNCD.transpose(2, 3);
  const at::Tensor rate = in.rate_HNC.unsqueeze(3);
  const at::Tensor system = at::matmul(in.k_HNCD * rate, keys_CD) * decays;
  const at::Tensor own = at::matmul(in.q_HNCD, keys_CD) * decays;
  const auto solve = [&](const at::Tensor& right) {
    return at::linalg_solve_triangular(system, right, /*upper=*/false, /*left=*/true,
                                       /*unitriangular=*/true);
  };
  const at::Tensor changes = solve(in.v_HNCE * rate);
  const at::Tensor reads = solve(in.k_HNCD * rate * so_far);
  const at::Tensor queries = in.q_HNCD * so_far;
  const at::Tensor whole = total_HNC.select(2, size - 1);  // [H, N]
  const at::Tensor writes =
      (in.k_HNCD * (whole.unsqueeze(2) - total_HNC).to(at::kFloat).exp().unsqueeze(3))
          .transpose(2, 3);
  const at::Tensor kept = whole.to(at::kFloat).exp();
  at::Tensor state = at::zeros({heads, in.q_HNCD.size(3), in.v_HNCE.size(3)}, in.v_HNCE.options());
  const at::Tensor out = at::empty_like(changes);
  for (Index n = 0; n < count; ++n) {
    const at::Tensor change = at::baddbmm(changes.select(1, n), reads.select(1, n), state, 1, -1);
    out.select(1, n).copy_(
        at::baddbmm(at::bmm(queries.select(1, n), state), own.select(1, n), change));
    if (n + 1 < count)
      state =
          at::baddbmm(state * kept.select(1, n).view({heads, 1, 1}), writes.select(1, n), change);
  }
  return out;
}

class TensorDeltaNet : public TwoSiteTensorMixer {
 public:
  explicit TensorDeltaNet(const TensorHalf& half)
      : TwoSiteTensorMixer(half), spec_(half.mixer<DeltaNet>()), sizes_(spec_.sizes) {}

 private:
  // All rows as the linears leave them.
  struct Projections {
    at::Tensor mixed_TN;  // q, k, v
    at::Tensor gate_TN;   // z
    at::Tensor rate_TV;   // b
    at::Tensor decay_TV;  // a
  };

  at::Tensor inner(const at::Tensor& normed_TH, const TensorBatch& batch) const override {
    const Projections made = project(normed_TH);
    const at::Tensor rate_TV = at::sigmoid(made.rate_TV.to(at::kFloat));
    const at::Tensor decay_TV = -upload(spec_.decay).exp() *
                                at::softplus(made.decay_TV.to(at::kFloat) + upload(spec_.dt_bias));
    const at::Tensor y_BSVE = delta_rule_of(batch, made.mixed_TN.to(at::kFloat), rate_TV, decay_TV);
    std::vector<at::Tensor> rows;
    for (std::size_t s = 0; s < batch.lengths.size(); ++s)
      rows.push_back(y_BSVE[static_cast<Index>(s)].narrow(0, 0, batch.lengths[s]));
    const at::Tensor normed_TVE = apply_norm(spec_.norm, at::cat(rows, 0));
    const at::Tensor gate_TN = at::silu(made.gate_TN.to(at::kFloat));
    return (normed_TVE.reshape(gate_TN.sizes()) * gate_TN).to(half_.compute);
  }

  Projections project(const at::Tensor& normed_TH) const {
    const std::vector<Linear>& linears = this->linears(DeltaNet::kIn);
    if (!spec_.by_key_head)
      return {linears[0](normed_TH), linears[1](normed_TH), linears[2](normed_TH),
              linears[3](normed_TH)};
    const Index rows = normed_TH.size(0), key = sizes_.key_dim, group = sizes_.values_per_key();
    const Index value = group * sizes_.value_dim;
    const std::vector<at::Tensor> large = linears[0](normed_TH)
                                              .reshape({rows, sizes_.key_heads, 2 * (key + value)})
                                              .split_with_sizes({key, key, value, value}, 2);
    const std::vector<at::Tensor> small =
        linears[1](normed_TH).reshape({rows, sizes_.key_heads, 2, group}).unbind(2);
    const auto flat = [rows](const at::Tensor& part) { return part.reshape({rows, -1}); };
    return {at::cat({flat(large[0]), flat(large[1]), flat(large[2])}, 1), flat(large[3]),
            flat(small[0]), flat(small[1])};
  }

  // [sequences, longest, value heads, value_dim]; `mixed_TN` not yet convolved.
  at::Tensor delta_rule_of(const TensorBatch& batch, const at::Tensor& mixed_TN,
                           const at::Tensor& rate_TV, const at::Tensor& decay_TV) const {
    const Index longest = *std::max_element(batch.lengths.begin(), batch.lengths.end());
    const Index chunk = std::min(longest, DeltaNet::kChunk);
    const Index padded = (longest + chunk - 1) / chunk * chunk;
    const at::Tensor mixed_BSN = convolved(padded_rows(batch, mixed_TN, padded));
    const Index key = sizes_.key_channels();
    const std::vector<at::Tensor> qkv =
        mixed_BSN.split_with_sizes({key, key, sizes_.value_channels()}, 2);
    const auto cut = [&](const at::Tensor& x_BSN, Index heads) {
      const Index sequences = x_BSN.size(0), width = x_BSN.size(2) / heads;
      return x_BSN.reshape({sequences, padded / chunk, chunk, heads, width})
          .permute({0, 3, 1, 2, 4})
          .repeat_interleave(sizes_.value_heads / heads, 1)
          .reshape({sequences * sizes_.value_heads, padded / chunk, chunk, width});
    };
    const auto steps = [&](const at::Tensor& x_TV) {
      return cut(padded_rows(batch, x_TV, padded), sizes_.value_heads).squeeze(3);
    };
    const double scale = 1 / std::sqrt(static_cast<double>(sizes_.key_dim));
    const at::Tensor y_HNCE = delta_rule(
        {unit(cut(qkv[0], sizes_.key_heads)) * scale, unit(cut(qkv[1], sizes_.key_heads)),
         cut(qkv[2], sizes_.value_heads), steps(decay_TV), steps(rate_TV)});
    const auto sequences = static_cast<Index>(batch.lengths.size());
    return y_HNCE.reshape({sequences, sizes_.value_heads, padded, sizes_.value_dim})
        .permute({0, 2, 1, 3});
  }

  // The rows of each sequence, and zeros after them: [sequences, padded, N].
  static at::Tensor padded_rows(const TensorBatch& batch, const at::Tensor& rows_TN, Index padded) {
    const at::Tensor result = at::zeros(
        {static_cast<Index>(batch.lengths.size()), padded, rows_TN.size(1)}, rows_TN.options());
    Index first = 0;
    for (std::size_t s = 0; s < batch.lengths.size(); ++s) {
      const Index length = batch.lengths[s];
      result[static_cast<Index>(s)].narrow(0, 0, length).copy_(rows_TN.narrow(0, first, length));
      first += length;
    }
    return result;
  }

  // Causal, and silu. What filters leave after a sequence's end is not read: its rates are 0.
  at::Tensor convolved(const at::Tensor& x_BSN) const {
    const at::Tensor taps_NJ = upload(spec_.convolution);
    const Index taps = taps_NJ.size(1), length = x_BSN.size(1);
    at::Tensor sum = x_BSN * taps_NJ.select(1, taps - 1);
    for (Index back = 1; back < std::min(taps, length); ++back)
      sum.narrow(1, back, length - back)
          .add_(x_BSN.narrow(1, 0, length - back) * taps_NJ.select(1, taps - 1 - back));
    return at::silu(sum);
  }

  const DeltaNet& spec_;
  const model::DeltaNetSizes& sizes_;
};

}  // namespace

std::unique_ptr<TensorMixer> make_tensor_delta_net(const TensorHalf& half) {
  return std::make_unique<TensorDeltaNet>(half);
}

}  // namespace calque::forward
