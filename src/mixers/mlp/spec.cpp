#include "mixers/mlp/spec.h"

#include <utility>

namespace calque::model {

Cost Mlp::cost(double sequences, double length) const {
  return {.elements = sequences * length * 3 * static_cast<double>(width)};
}

DetachedHalf mlp_half(const LayerTensors& tensors, const MlpLayout& layout, Mlp mlp, Index hidden,
                      const std::optional<NormSpec>& norm) {
  const Index width = mlp.width;
  SiteSpec in{.name = "mlp_in", .channels = hidden, .from_norm = true};
  if (layout.fused)
    in.readers = {tensors.linear("mlp.gate_up_proj", "ffn_up", {2 * width, hidden, layout.bias})};
  else
    in.readers = {tensors.linear("mlp.gate_proj", "ffn_gate", {width, hidden, layout.bias}),
                  tensors.linear("mlp.up_proj", "ffn_up", {width, hidden, layout.bias})};
  SiteSpec out{.name = "mlp_out", .channels = width, .split_channels = true};
  out.readers = {tensors.linear("mlp.down_proj", "ffn_down", {hidden, width, layout.bias})};

  DetachedHalf result;
  result.folds = norm_fold(in, norm);
  in.fold = result.folds.empty() ? -1 : 0;
  if (!mlp.activation.clamped) {  // (up + 1) and a cut take no scale from up to down
    out.fold = static_cast<Index>(result.folds.size());
    // Fused, up's rows are last.
    result.folds.push_back(rows_fold(out, in.readers.back(), layout.fused ? width : 0));
  }
  result.sites = {std::move(in), std::move(out)};
  result.half.norm = norm;
  result.half.mixer = std::make_shared<Mlp>(std::move(mlp));
  return result;
}

}  // namespace calque::model
