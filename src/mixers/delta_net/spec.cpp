#include "mixers/delta_net/spec.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace calque::model {
namespace {

// Rows of a sequence whose q, k and v are convolved at a time.
constexpr Index kConvolvedRows = 256;

// GGUF has the first value heads of all key heads, then the second ones: `size` rows (or columns)
// a value head, from `first` on. Where a key head's projections stand together, GGUF leaves value
// heads as they are.
PartsOrder value_heads_order(const DeltaNet& net, Index first, Index size) {
  const DeltaNetSizes& sizes = net.sizes;
  if (net.by_key_head || sizes.values_per_key() < 2 || sizes.key_heads < 2) return {};
  return {first, sizes.key_heads,
          std::vector<Index>(static_cast<std::size_t>(sizes.values_per_key()), size)};
}

// One linear for q, k, v and z of each key head: GGUF has all q, then k, then v, and z apart.
LinearSpec joined_linear(const LayerTensors& tensors, const DeltaNetSizes& sizes, Index hidden) {
  const Index values = sizes.value_channels();
  LinearSpec linear = tensors.linear("linear_attn.in_proj_qkvz", "attn_qkv",
                                     {sizes.mixed_channels() + values, hidden});
  const Index group = values / sizes.key_heads;
  linear.weight.gguf_rows = {0, sizes.key_heads, {sizes.key_dim, sizes.key_dim, group, group}};
  linear.weight.gguf_rest_rows = values;
  linear.weight.gguf_rest_name = tensors.gguf("attn_gate.weight");
  return linear;
}

std::vector<LinearSpec> readers_of(const LayerTensors& tensors, const DeltaNet& net, Index hidden) {
  const DeltaNetSizes& sizes = net.sizes;
  if (net.by_key_head)
    return {joined_linear(tensors, sizes, hidden),
            tensors.linear("linear_attn.in_proj_ba", "ssm_ba", {2 * sizes.value_heads, hidden})};
  std::vector<LinearSpec> readers{
      tensors.linear("linear_attn.in_proj_qkv", "attn_qkv", {sizes.mixed_channels(), hidden}),
      tensors.linear("linear_attn.in_proj_z", "attn_gate", {sizes.value_channels(), hidden}),
      tensors.linear("linear_attn.in_proj_b", "ssm_beta", {sizes.value_heads, hidden}),
      tensors.linear("linear_attn.in_proj_a", "ssm_alpha", {sizes.value_heads, hidden})};
  const Index before[] = {2 * sizes.key_channels(), 0, 0, 0};
  for (std::size_t i = 0; i < readers.size(); ++i)
    readers[i].weight.gguf_rows = value_heads_order(net, before[i], i < 2 ? sizes.value_dim : 1);
  return readers;
}

SiteSpec site_in(const LayerTensors& tensors, const DeltaNet& net, Index hidden) {
  SiteSpec site{.name = "attn_in", .channels = hidden, .from_norm = true};
  site.readers = readers_of(tensors, net, hidden);
  // Decays and rates are few and sensitive: no tool rounds them.
  for (std::size_t i = net.by_key_head ? 1 : 2; i < site.readers.size(); ++i)
    site.readers[i].rounded = false;
  return site;
}

}  // namespace

// Products of queries, keys and states; the rows below the diagonal of a chunk, which also make the
// exponentials. Elements: filters, gates, norms, and numbers on their way between the products.
Cost DeltaNet::cost(double sequences, double length) const {
  const double tokens = sequences * length;
  const auto chunk = static_cast<double>(std::min<Index>(kChunk, static_cast<Index>(length)));
  const auto heads = static_cast<double>(sizes.value_heads);
  const auto key = static_cast<double>(sizes.key_dim), value = static_cast<double>(sizes.value_dim);
  const double scores = 2 * static_cast<double>(sizes.key_heads) * chunk * key;
  const double of_head = 3 * key * value + 1.5 * chunk * value;
  const auto mixed = static_cast<double>(sizes.mixed_channels());
  return {.flops = 2 * tokens * (scores + heads * of_head),
          .exponentials = tokens * (mixed + heads * (value + chunk / 2)),
          .elements = tokens * (mixed * static_cast<double>(sizes.kernel + 3) +
                                heads * (4 * value + key + 2 * chunk))};
}

// The states, the convolved rows of a chunk of linears, and what a chunk of a head takes; in one
// piece the inputs of out_proj, too.
std::uint64_t DeltaNet::sequence_bytes(Index length, Index compute_bytes, bool staged) const {
  const Index states = sizes.value_heads * sizes.key_dim * sizes.value_dim;
  const Index convolved = std::min(kConvolvedRows, length) * sizes.mixed_channels();
  const Index of_chunk = kChunk * (4 * kChunk + 3 * sizes.key_dim + 4 * sizes.value_dim);
  const Index inner = staged ? 0 : length * sizes.value_channels();
  return static_cast<std::uint64_t>(4 * (states + convolved + of_chunk) + compute_bytes * inner);
}

// q, k, v, z, a and b; side by side in one linear they are also taken apart.
Index DeltaNet::chunk_channels(bool) const {
  const Index made = sizes.mixed_channels() + sizes.value_channels() + 2 * sizes.value_heads;
  return by_key_head ? 2 * made : made;
}

DetachedHalf delta_net_half(const LayerTensors& tensors, DeltaNet net, Index hidden,
                            const NormSpec& norm) {
  const DeltaNetSizes& sizes = net.sizes;
  net.convolution = tensors.tensor("linear_attn.conv1d.weight", "ssm_conv1d.weight",
                                   {sizes.mixed_channels(), 1, sizes.kernel});
  net.decay = tensors.tensor("linear_attn.A_log", "ssm_a", {sizes.value_heads});
  net.dt_bias = tensors.tensor("linear_attn.dt_bias", "ssm_dt.bias", {sizes.value_heads});
  net.convolution.gguf_rows = value_heads_order(net, 2 * sizes.key_channels(), sizes.value_dim);
  net.decay.gguf_rows = net.dt_bias.gguf_rows = value_heads_order(net, 0, 1);
  net.decay.gguf_minus_exp = true;
  net.norm = tensors.norm("linear_attn.norm", "ssm_norm", sizes.value_dim,
                          {.kind = NormSpec::Kind::kWeight, .epsilon = norm.epsilon});
  SiteSpec in = site_in(tensors, net, hidden);
  const Index width = sizes.value_channels();
  SiteSpec out{.name = "attn_out", .channels = width, .split_channels = true};
  out.readers = {tensors.linear("linear_attn.out_proj", "ssm_out", {hidden, width})};
  out.readers[0].weight.gguf_columns = value_heads_order(net, 0, sizes.value_dim);

  DetachedHalf result;
  result.folds = norm_fold(in, norm);
  in.fold = result.folds.empty() ? -1 : 0;
  // Channel i of every head is made by element i of the norm.
  std::vector<FoldSpec> heads = norm_fold(out, net.norm);
  heads.front().head_dim = sizes.value_dim;
  heads.front().shared_by = sizes.value_heads;
  out.fold = static_cast<Index>(result.folds.size());
  result.folds.push_back(std::move(heads.front()));
  result.sites = {std::move(in), std::move(out)};
  result.half.norm = norm;
  result.half.mixer = std::make_shared<DeltaNet>(std::move(net));
  return result;
}

}  // namespace calque::model
