#include "forward/torch/tensor_states.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <tuple>

#include "forward/torch/tensors.h"

namespace calque::forward {
namespace {

// Rows that make a GPU's matrix product efficient, and whose activations are small beside the rest.
constexpr Index kBatchRows = 4096;

std::vector<Index> starts_of(std::span<const Index> lengths) {
  std::vector<Index> starts;
  Index next = 0;
  for (const Index length : lengths) {
    starts.push_back(next);
    next += length;
  }
  return starts;
}

Index sum_of(std::span<const Index> lengths) {
  Index sum = 0;
  for (const Index length : lengths) sum += length;
  return sum;
}

Index longest(std::span<const Index> lengths) {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

std::vector<TensorBatch> batches_of(std::span<const Index> lengths) {
  std::vector<TensorBatch> batches;
  Index row = 0;
  for (const Index length : lengths) {
    if (length == 0) continue;
    if (batches.empty() || batches.back().rows >= kBatchRows) batches.push_back({row, 0, {}});
    batches.back().lengths.push_back(length);
    batches.back().rows += length;
    row += length;
  }
  return batches;
}

}  // namespace

// Turning the pair (1, 0) gives its cosine and sine.
TensorRotary::TensorRotary(const model::RopeSpec& rope, Index head_dim, Index positions,
                           const at::Device& device)
    : adjacent_(rope.adjacent), turned_(rope.turned(head_dim)) {
  const Rotary rotary(rope, head_dim, positions);
  std::vector<float> ones(static_cast<std::size_t>(head_dim), 0.0f);
  for (Index i = 0; i < turned_ / 2; ++i)
    ones[static_cast<std::size_t>(adjacent_ ? 2 * i : i)] = 1.0f;
  Matrix<float> turned = Matrix<float>::uninitialized(positions, head_dim);
  for (Index p = 0; p < positions; ++p) rotary.turn(ones.data(), p, turned.row(p));
  const auto to_device = [&](MatrixView<float> values) {
    return borrow(values).to(device, at::kFloat, false, /*copy=*/true).unsqueeze(1);
  };
  std::tie(cosines_, sines_) = pairs_of(to_device(turned.view()));
  if (rope.query_growth == 0) return;
  Matrix<float> factors_P1 = Matrix<float>::uninitialized(positions, 1);
  for (Index p = 0; p < positions; ++p) factors_P1(p, 0) = static_cast<float>(rope.query_factor(p));
  query_factors_ = to_device(factors_P1.view());
}

std::pair<at::Tensor, at::Tensor> TensorRotary::pairs_of(const at::Tensor& heads_THD) const {
  if (adjacent_) return {heads_THD.slice(2, 0, turned_, 2), heads_THD.slice(2, 1, turned_, 2)};
  return {heads_THD.narrow(2, 0, turned_ / 2), heads_THD.narrow(2, turned_ / 2, turned_ / 2)};
}

at::Tensor TensorRotary::turn(const at::Tensor& heads_THD) const {
  const Index tokens = heads_THD.size(0);
  const auto [left, right] = pairs_of(heads_THD);
  const at::Tensor rest = heads_THD.narrow(2, turned_, heads_THD.size(2) - turned_);
  const at::Tensor cosine = cosines_.narrow(0, 0, tokens);
  const at::Tensor sine = sines_.narrow(0, 0, tokens);
  const at::Tensor first = left * cosine - right * sine, second = right * cosine + left * sine;
  if (!adjacent_) return at::cat({first, second, rest}, 2);
  return at::cat({at::stack({first, second}, 3).flatten(2), rest}, 2);
}

at::Tensor TensorRotary::turn_queries(const at::Tensor& heads_THD) const {
  const at::Tensor turned_THD = turn(heads_THD);
  if (!query_factors_.defined()) return turned_THD;
  return turned_THD * query_factors_.narrow(0, 0, heads_THD.size(0));
}

TensorStates::TensorStates(Index hidden_size, std::span<const Index> lengths,
                           const at::Device& device)
    : lengths_(lengths.begin(), lengths.end()),
      firsts_(starts_of(lengths)),
      batches_(batches_of(lengths)),
      rows_TH_(at::empty({sum_of(lengths), hidden_size}, at::device(device).dtype(at::kFloat))) {}

const at::Tensor& TensorStates::kept(const model::KeptRows& rows) {
  at::Tensor& kept = kept_[rows.name];
  if (!kept.defined()) kept = at::empty({this->rows(), rows.width}, rows_TH_.options());
  return kept;
}

const TensorRotary& TensorStates::rotary(const model::RopeSpec& rope, Index head_dim) const {
  const std::lock_guard lock(mutex_);
  for (const Angles& angles : angles_)
    if (angles.head_dim == head_dim && angles.rope == rope) return angles.rotary;
  return angles_
      .emplace_back(Angles{rope, head_dim,
                           TensorRotary(rope, head_dim, longest(lengths_), rows_TH_.device())})
      .rotary;
}

}  // namespace calque::forward
