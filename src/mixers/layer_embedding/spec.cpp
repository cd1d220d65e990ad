#include "mixers/layer_embedding/spec.h"

#include <utility>

namespace calque::model {

Cost LayerEmbedding::cost(double sequences, double length) const {
  return {.elements = sequences * length * 3 * static_cast<double>(width)};
}

std::uint64_t LayerEmbedding::sequence_bytes(Index length, Index compute_bytes, bool staged) const {
  return staged ? 0 : static_cast<std::uint64_t>(length * width * compute_bytes);
}

DetachedHalf layer_embedding_half(const LayerTensors& tensors, LayerEmbedding mixer, Index hidden,
                                  const NormSpec& norm) {
  DetachedHalf result;
  SiteSpec in{.name = "layer_in", .channels = hidden, .from_norm = true};
  in.readers = {tensors.linear("per_layer_input_gate", "inp_gate", {mixer.width, hidden})};
  SiteSpec out{.name = "layer_out", .channels = mixer.width, .split_channels = true};
  out.readers = {tensors.linear("per_layer_projection", "proj", {hidden, mixer.width})};
  result.sites = {std::move(in), std::move(out)};
  result.half.mixer = std::make_shared<LayerEmbedding>(std::move(mixer));
  result.half.post_norm = norm;
  return result;
}

}  // namespace calque::model
