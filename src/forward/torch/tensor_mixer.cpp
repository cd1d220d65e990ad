#include "forward/torch/tensor_mixer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/frexp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ldexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/round.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "calque/forward/cost.h"
#include "forward/torch/tensor_stream.h"
#include "forward/torch/tensors.h"
#include "mixers/attention/tensors.h"
#include "mixers/delta_net/tensors.h"
#include "mixers/experts/tensors.h"
#include "mixers/layer_embedding/tensors.h"
#include "mixers/mlp/tensors.h"

namespace calque::forward {
namespace {

ActivationView host_view(const at::Tensor& rows_TK) {
  if (rows_TK.scalar_type() == at::kBFloat16) return {{}, view_of<const BFloat16>(rows_TK), {}};
  return {view_of<const float>(rows_TK), {}, {}};
}

ActivationView device_view(const at::Tensor& rows_TK) {
  ActivationView view;
  view.device_TK = {.data = rows_TK.data_ptr(),
                    .dtype = rows_TK.scalar_type() == at::kBFloat16 ? DType::kBF16 : DType::kF32,
                    .rows = rows_TK.size(0),
                    .cols = rows_TK.size(1),
                    .stride = rows_TK.stride(0),
                    .device = rows_TK.device().index(),
                    .stream = current_stream(rows_TK.device())};
  return view;
}

at::Tensor plain_norm(const at::Tensor& x, double eps) {
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps);
}

}  // namespace

std::unique_ptr<TensorMixer> make_tensor_mixer(const TensorHalf& half) {
  struct Row {
    std::string_view kind;
    std::unique_ptr<TensorMixer> (*make)(const TensorHalf&);
  };
  static constexpr Row kRows[] = {
      {model::Attention::kKind, make_tensor_attention},
      {model::DeltaNet::kKind, make_tensor_delta_net},
      {model::Experts::kKind, make_tensor_experts},
      {model::LayerEmbedding::kKind, make_tensor_layer_embedding},
      {model::Mlp::kKind, make_tensor_mlp},
  };
  const std::string_view kind = half.half.mixer->kind();
  const auto* const row = std::find_if(std::begin(kRows), std::end(kRows),
                                       [&](const Row& r) { return r.kind == kind; });
  assert(row != std::end(kRows));
  return row->make(half);
}

// In two steps: ATen would convert before it copies, on the host.
at::Tensor on_device(MatrixView<const float> matrix, const at::Device& device,
                     at::ScalarType dtype) {
  return borrow(matrix).to(device, at::kFloat, false, /*copy=*/dtype == at::kFloat).to(dtype);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double offset, double eps) {
  return plain_norm(x, eps) * (weight + offset);
}

namespace {

// The nearest numbers of the type, ties to even, to values within its reach. Division by a power of
// two is exact.
at::Tensor rounded_to(SmallFloat type, const at::Tensor& values) {
  const SmallFloatInfo& info = info_of(type);
  const at::Tensor exponents =
      std::get<1>(at::frexp(values)).sub(1).clamp_min(info.lowest_exponent);
  const at::Tensor steps =
      at::ldexp(at::ones_like(values), exponents.sub(info.mantissa_bits).to(at::kFloat));
  return at::round(values / steps) * steps;
}

// The scales of rows whose largest magnitudes are `peaks`, as power_of_two_scale and fp8_scale of
// calque/core/small_float.h find one.
at::Tensor scales_for(const InputGrid& grid, const at::Tensor& peaks) {
  if (grid.scale_of == InputGrid::Scale::kPower) {
    const auto [mantissas, exponents] = at::frexp(peaks);
    const at::Tensor powers = exponents - 1 - std::ilogb(grid.largest()) + mantissas.ge(0.875);
    return at::where(peaks == 0, at::full_like(peaks, 0.0),
                     at::ldexp(at::ones_like(peaks), powers.to(at::kFloat)));
  }
  const at::Tensor scales = peaks / static_cast<double>(grid.largest());
  if (grid.scale_of != InputGrid::Scale::kCoded) return scales;
  const double largest = info_of(SmallFloat::kE4M3).largest;
  const at::Tensor numbers =
      rounded_to(SmallFloat::kE4M3, (scales * static_cast<double>(grid.scale)).clamp(0, largest));
  return at::where(numbers == 0, at::full_like(numbers, 0.125), numbers) /
         static_cast<double>(grid.scale);
}

}  // namespace

at::Tensor rounded_inputs(const InputGrid& grid, const at::Tensor& inputs_TK) {
  using Scale = InputGrid::Scale;
  const at::Tensor wide_TK = inputs_TK.to(at::kFloat);
  const std::int64_t columns = wide_TK.size(-1);
  const bool groups = grid.has_groups() && grid.group < columns;
  const std::int64_t width = groups ? grid.group : columns;
  const std::int64_t padding = (width - columns % width) % width;
  const at::Tensor rows = at::constant_pad_nd(wide_TK, {0, padding}).reshape({-1, width});
  const double largest = grid.largest();
  at::Tensor scales = grid.scale_of == Scale::kTensor
                          ? at::full({1, 1}, grid.scale, rows.options())
                          : scales_for(grid, at::amax(rows.abs(), -1, true));
  const at::Tensor zero = scales == 0;
  scales = at::where(zero, at::ones_like(scales), scales);
  const at::Tensor values = (rows / scales).clamp(-largest, largest);
  const at::Tensor rounded =
      (grid.number ? rounded_to(*grid.number, values) : at::round(values)) * scales;
  return rounded.reshape({wide_TK.size(0), columns + padding})
      .narrow(1, 0, columns)
      .to(inputs_TK.scalar_type());
}

at::Tensor TensorMixer::Linear::operator()(const at::Tensor& given_TK) const {
  const at::Tensor inputs_TK =
      inputs != nullptr && given_TK.size(0) > 0 ? rounded_inputs(*inputs, given_TK) : given_TK;
  return bias_N.defined() ? at::addmm(bias_N, inputs_TK, weight_NK.t())
                          : at::mm(inputs_TK, weight_NK.t());
}

void TensorMixer::prepare(std::size_t index) {
  std::vector<Linear> linears;
  for (const model::LinearSpec& spec : site(index).readers) {
    Linear& linear = linears.emplace_back();
    linear.inputs = find_inputs(half_.inputs, spec.weight.name);
    linear.weight_NK = on_device(half_.weights.at(spec.weight.name), half_.device, half_.compute);
    if (!spec.bias.empty())
      linear.bias_N =
          on_device(half_.weights.at(spec.bias.front().name), half_.device, half_.compute)
              .squeeze(0);
  }
  linears_[index] = std::move(linears);
}

void TensorMixer::prepare_all() {
  for (std::size_t i = 0; i < linears_.size(); ++i) prepare(i);
}

at::Tensor TensorMixer::upload(const model::TensorSpec& spec) const {
  at::Tensor& uploaded = uploaded_[spec.name];
  if (!uploaded.defined())
    uploaded = on_device(half_.weights.at(spec.name), half_.device, at::kFloat);
  return uploaded;
}

at::Tensor TensorMixer::apply_norm(const model::NormSpec& spec, const at::Tensor& x) const {
  if (!spec.has_weight()) return plain_norm(x, spec.epsilon);
  const bool plus_one = spec.kind == model::NormSpec::Kind::kOnePlusWeight;
  return rms_norm(x, upload(spec.weight).squeeze(0), plus_one ? 1.0 : 0.0, spec.epsilon);
}

at::Tensor TensorMixer::norm(const at::Tensor& hidden_TH) const {
  const at::Tensor normed_TH =
      half_.half.norm ? apply_norm(*half_.half.norm, hidden_TH) : hidden_TH;
  return normed_TH.to(half_.compute);
}

at::Tensor TensorMixer::normed_output(const at::Tensor& output_TH) const {
  const at::Tensor wide_TH = output_TH.to(at::kFloat);
  return half_.half.post_norm ? apply_norm(*half_.half.post_norm, wide_TH) : wide_TH;
}

void TwoSiteTensorMixer::run(TensorPass& pass) {
  pass.show_norm(*this, 0);
  std::vector<at::Tensor> inputs_TK;
  for (const TensorBatch& batch : pass.batches()) {
    inputs_TK.push_back(inner(norm(pass.hidden_TH(batch)), batch));
    pass.show(*this, 1, inputs_TK.back());
  }
  pass.finish(*this, 1);
  for (std::size_t b = 0; b < inputs_TK.size(); ++b)
    pass.sum_TH(pass.batches()[b]).add_(last(std::exchange(inputs_TK[b], {})));
}

void TensorPass::show(const TensorMixer& mixer, std::size_t site, const at::Tensor& inputs_TK,
                      const at::Tensor& tokens) {
  if (observer_ == nullptr) return;
  const Index rows = inputs_TK.size(0);
  const bool on_host = inputs_TK.is_cpu() || host_views_;
  const at::Tensor places = tokens.defined() && on_host ? tokens.cpu() : at::Tensor();
  for (Index first = 0; first < rows; first += kObservedRows) {
    const Index count = std::min(kObservedRows, rows - first);
    const at::Tensor chunk = inputs_TK.narrow(0, first, count);
    if (!on_host) {
      observer_->site_input(mixer.site(site), device_view(chunk));
      continue;
    }
    const at::Tensor copy = chunk.cpu();
    ActivationView view = host_view(copy);
    if (places.defined())
      view.tokens = {places.data_ptr<std::int64_t>() + first, static_cast<std::size_t>(count)};
    observer_->site_input(mixer.site(site), view);
  }
}

void TensorPass::finish(TensorMixer& mixer, std::size_t site) {
  if (observer_ == nullptr) return;
  observer_->site_ready(mixer.site(site), weights_);
  mixer.prepare(site);
}

void TensorPass::show_norm(TensorMixer& mixer, std::size_t site) {
  if (observer_ == nullptr) return;
  for (const TensorBatch& batch : batches_) show(mixer, site, mixer.norm(hidden_TH(batch)));
  finish(mixer, site);
}

}  // namespace calque::forward
