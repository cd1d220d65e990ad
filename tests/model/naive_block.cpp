#include "model/naive_block.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "calque/core/dtype.h"

namespace calque::model {
namespace {

using Row = NaiveBlock::Row;
using Rows = NaiveBlock::Rows;

Row rms_norm(const Row& x, MatrixView<const float> weight_1N, double epsilon, bool plus_one) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double root = std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  Row result;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double weight = weight_1N(0, static_cast<Index>(i));
    result.push_back(x[i] / root * (plus_one ? 1 + weight : weight));
  }
  return result;
}

double capped(double value, double cap) { return cap > 0 ? cap * std::tanh(value / cap) : value; }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double activated(const std::string& act, double x) {
  if (act == "silu") return x * sigmoid(x);
  const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
}

double joined(const ModelConfig& config, double gate, double up) {
  const auto& [limit, slope] = config.clamped_gate;
  if (limit == 0) return activated(config.hidden_act, gate) * up;
  const double g = std::min(gate, limit);
  return (std::clamp(up, -limit, limit) + 1) * g * sigmoid(slope * g);
}

Rows columns(const Rows& rows, Index first, Index count) {
  Rows result;
  for (const Row& row : rows) result.emplace_back(row.begin() + first, row.begin() + first + count);
  return result;
}

const Attention& attention_of(const BlockSpec& block) {
  return static_cast<const Attention&>(*block.halves[0].mixer);
}

double to_bf16(double value) { return rounded_to_bfloat16(static_cast<float>(value)); }

}  // namespace

std::vector<std::pair<Index, double>> naive_routing(const Routing& routing, const Row& scores,
                                                    const Row& bias) {
  Row p;
  double all = 0;
  for (const double score : scores) all += std::exp(score);
  for (const double score : scores)
    p.push_back(routing.scores == Routing::Scores::kSigmoid ? sigmoid(score)
                                                            : std::exp(score) / all);
  Row worth = p;
  for (std::size_t e = 0; e < bias.size(); ++e) worth[e] += bias[e];
  // An expert's group counts by its two best.
  const std::size_t size = p.size() / static_cast<std::size_t>(routing.groups);
  std::vector<std::pair<double, std::size_t>> groups;
  for (std::size_t first = 0; first < p.size(); first += size) {
    Row members(worth.begin() + static_cast<Index>(first),
                worth.begin() + static_cast<Index>(first + size));
    std::sort(members.rbegin(), members.rend());
    groups.emplace_back(-(members[0] + (size > 1 ? members[1] : 0)), first);
  }
  std::sort(groups.begin(), groups.end());
  groups.resize(static_cast<std::size_t>(routing.groups_used));
  std::vector<std::pair<double, Index>> order;
  for (const auto& [negative_worth, first] : groups)
    for (std::size_t e = first; e < first + size; ++e)
      order.emplace_back(-worth[e], static_cast<Index>(e));
  std::sort(order.begin(), order.end());
  order.resize(static_cast<std::size_t>(routing.used));
  std::vector<std::pair<Index, double>> chosen;
  double sum = 0;
  for (const auto& [negative_worth, e] : order) {
    chosen.emplace_back(e, p[static_cast<std::size_t>(e)]);
    sum += chosen.back().second;
  }
  sum = std::max(sum, routing.sum_floor) + routing.sum_extra;
  for (auto& [e, weight] : chosen)
    weight *= routing.normalize ? routing.scale / sum : routing.scale;
  return chosen;
}

Buffers exact_buffers(const ModelConfig& config) {
  const Index full = config.full_head_dim > 0 ? config.full_head_dim : config.head_dim;
  return {config.rope.inverse_frequencies(full),
          config.local_rope.inverse_frequencies(config.head_dim), config.embedding_scale};
}

Buffers rounded_buffers(const ModelConfig& config) {
  Buffers buffers = exact_buffers(config);
  for (double& value : buffers.inverse_frequencies) value = to_bf16(value);
  for (double& value : buffers.local_frequencies) value = to_bf16(value);
  buffers.embedding_scale = to_bf16(buffers.embedding_scale);
  return buffers;
}

Rows NaiveBlock::linear(const TensorSpec& weight, const std::vector<TensorSpec>& bias,
                        const Rows& inputs_TK) const {
  const MatrixView<const float> weight_NK = weights.at(weight.name);
  Rows outputs;
  for (const Row& x : inputs_TK) {
    Row& y = outputs.emplace_back();
    for (Index n = 0; n < weight_NK.rows(); ++n) {
      double sum = bias.empty() ? 0 : weights.at(bias.front().name)(0, n);
      for (Index k = 0; k < weight_NK.cols(); ++k)
        sum += x[static_cast<std::size_t>(k)] * weight_NK(n, k);
      y.push_back(sum);
    }
  }
  return outputs;
}

Row NaiveBlock::norm(const Row& x, const NormSpec& spec) const {
  if (!spec.has_weight()) {
    const Matrix<float> ones_1N = [&] {
      Matrix<float> ones(1, static_cast<Index>(x.size()));
      std::fill_n(ones.data(), ones.size(), 1.0f);
      return ones;
    }();
    return rms_norm(x, ones_1N, spec.epsilon, false);
  }
  return rms_norm(x, weights.at(spec.weight.name), spec.epsilon,
                  spec.kind == NormSpec::Kind::kOnePlusWeight);
}

Rows NaiveBlock::normed(const Rows& rows, const NormSpec& spec) const {
  Rows result;
  for (const Row& row : rows) result.push_back(norm(row, spec));
  return result;
}

// Head `index` of a row, normed where the family norms heads, and turned to its position.
Row NaiveBlock::head(const Row& row, Index index, const std::optional<NormSpec>& norm_spec,
                     std::size_t position) const {
  const Index dim = attention_of(block).head_dim;
  const auto begin = row.begin() + index * dim;
  Row x(begin, begin + dim);
  if (norm_spec && attention_of(block).whole_norms) {
    const Row whole = norm(row, *norm_spec);
    std::copy_n(whole.begin() + index * dim, dim, x.begin());
  } else if (norm_spec) {
    x = norm(x, *norm_spec);
  }
  const std::optional<RopeSpec>& rope = attention_of(block).rope;
  if (!rope) return x;
  const Row& inverse =
      *rope == config.rope ? buffers.inverse_frequencies : buffers.local_frequencies;
  Row turned = x;
  const std::size_t half = inverse.size();
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * inverse[i];
    const double cosine = std::cos(angle) * rope->attention_factor;
    const double sine = std::sin(angle) * rope->attention_factor;
    const std::size_t left = rope->adjacent ? 2 * i : i;
    const std::size_t right = rope->adjacent ? 2 * i + 1 : half + i;
    turned[left] = x[left] * cosine - x[right] * sine;
    turned[right] = x[right] * cosine + x[left] * sine;
  }
  return turned;
}

// Queries and keys are normed and turned heads.
Rows NaiveBlock::attention(const Rows& q_TN, const Rows& k_TN, const Rows& v_TN) const {
  const Attention& spec = attention_of(block);
  const Index dim = spec.head_dim;
  const double scale =
      config.query_scale > 0 ? config.query_scale : 1 / std::sqrt(static_cast<double>(dim));
  Rows result(q_TN.size(), Row(q_TN.front().size(), 0.0));
  for (Index h = 0; h < spec.heads; ++h) {
    const Index kv = h / (spec.heads / spec.kv_heads);
    for (std::size_t t = 0; t < q_TN.size(); ++t) {
      const auto q = q_TN[t].begin() + h * dim;
      Row probabilities(t + 1, 0.0);
      double total = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        if (spec.window > 0 && static_cast<Index>(t - s) >= spec.window) continue;
        const double score = std::inner_product(q, q + dim, k_TN[s].begin() + kv * dim, 0.0);
        probabilities[s] = std::exp(capped(score * scale, config.attention_softcap));
        total += probabilities[s];
      }
      if (const auto& sinks = attention_of(block).sinks)
        total += std::exp(static_cast<double>(weights.at(sinks->name)(0, h)));
      for (std::size_t s = 0; s <= t; ++s)
        for (Index i = 0; i < dim; ++i)
          result[t][static_cast<std::size_t>(h * dim + i)] +=
              probabilities[s] / total * v_TN[s][static_cast<std::size_t>(kv * dim + i)];
    }
  }
  return result;
}

// Normed, turned and grown.
Rows NaiveBlock::queries(const Rows& q_TN) const {
  const Attention& spec = attention_of(block);
  Rows result;
  for (std::size_t t = 0; t < q_TN.size(); ++t) {
    Row& row = result.emplace_back();
    for (Index h = 0; h < spec.heads; ++h) {
      Row q = head(q_TN[t], h, spec.q_norm, t);
      if (config.rope.query_growth > 0) {
        const std::size_t contexts =
            t / static_cast<std::size_t>(config.rope.original_max_positions);
        for (double& value : q)
          value *= 1 + config.rope.query_growth * std::log1p(static_cast<double>(contexts));
      }
      row.insert(row.end(), q.begin(), q.end());
    }
  }
  return result;
}

// The input of attention's o_proj.
Rows NaiveBlock::projected_attention(const Rows& normed_TH) {
  const Attention& spec = attention_of(block);
  const std::vector<LinearSpec>& readers = block.site("attn_in").readers;
  const Index dim = spec.head_dim, q = spec.heads * dim, k = spec.kv_heads * dim;
  Rows made = linear(readers[0], normed_TH), keys, values, gates;
  if (spec.takes.empty() && readers.size() == 1) {
    keys = columns(made, q, k);
    values = columns(made, q + k, k);
    made = columns(made, 0, q);
  } else if (spec.takes.empty()) {
    keys = linear(readers[1], normed_TH);
    values = spec.values_are_keys ? keys : linear(readers[2], normed_TH);
  }
  if (spec.gated) {  // a head's query, then its gate
    Rows own(made.size());
    gates.resize(made.size());
    for (Index h = 0; h < spec.heads; ++h)
      for (std::size_t t = 0; t < own.size(); ++t) {
        const auto at = made[t].begin() + 2 * h * dim;
        own[t].insert(own[t].end(), at, at + dim);
        gates[t].insert(gates[t].end(), at + dim, at + 2 * dim);
      }
    made = own;
  }
  for (std::size_t t = 0; t < keys.size(); ++t) {
    Row turned, plain;
    for (Index h = 0; h < spec.kv_heads; ++h) {
      const Row key = head(keys[t], h, spec.k_norm, t);
      Row value(values[t].begin() + h * dim, values[t].begin() + (h + 1) * dim);
      if (spec.v_norm) value = norm(value, *spec.v_norm);
      turned.insert(turned.end(), key.begin(), key.end());
      plain.insert(plain.end(), value.begin(), value.end());
    }
    keys[t] = turned;
    values[t] = plain;
  }
  if (!spec.takes.empty()) {
    keys = kept.at(spec.takes + ".keys");
    values = kept.at(spec.takes + ".values");
  }
  if (!spec.leaves.empty()) {
    kept[spec.leaves + ".keys"] = keys;
    kept[spec.leaves + ".values"] = values;
  }
  Rows result = attention(queries(made), keys, values);
  for (std::size_t t = 0; t < gates.size(); ++t)
    for (std::size_t i = 0; i < gates[t].size(); ++i) result[t][i] *= sigmoid(gates[t][i]);
  return result;
}

// Filters that see a channel's last tokens, and silu.
Rows NaiveBlock::convolved(const DeltaNet& spec, const Rows& mixed_TN) const {
  const MatrixView<const float> filters_NJ = weights.at(spec.convolution.name);
  Rows result = mixed_TN;
  for (std::size_t t = 0; t < result.size(); ++t)
    for (std::size_t n = 0; n < result[t].size(); ++n) {
      double sum = 0;
      for (Index back = 0; back < filters_NJ.cols() && back <= static_cast<Index>(t); ++back)
        sum += filters_NJ(static_cast<Index>(n), filters_NJ.cols() - 1 - back) *
               mixed_TN[t - static_cast<std::size_t>(back)][n];
      result[t][n] = sum * sigmoid(sum);
    }
  return result;
}

// The input of a delta net's out_proj: token by token, head by head.
Rows NaiveBlock::delta_net(const DeltaNet& spec, const Rows& normed_TH) const {
  const DeltaNetSizes& sizes = spec.sizes;
  const Index key = sizes.key_dim, value = sizes.value_dim, group = sizes.values_per_key();
  const std::vector<LinearSpec>& readers = block.site("attn_in").readers;
  Rows mixed, gate, rate, decay;
  if (spec.by_key_head) {
    const Rows large = linear(readers[0], normed_TH), small = linear(readers[1], normed_TH);
    mixed.assign(large.size(), {});
    gate = rate = decay = mixed;
    for (std::size_t t = 0; t < large.size(); ++t) {
      const auto take = [t](const Rows& from, Index first, Index count, Rows& to) {
        const auto begin = from[t].begin() + first;
        to[t].insert(to[t].end(), begin, begin + count);
      };
      const Index step = 2 * (key + group * value);
      const std::pair<Index, Index> parts[] = {{0, key}, {key, key}, {2 * key, group * value}};
      for (const auto& [first, count] : parts)
        for (Index h = 0; h < sizes.key_heads; ++h) take(large, h * step + first, count, mixed);
      for (Index h = 0; h < sizes.key_heads; ++h) {
        take(large, h * step + 2 * key + group * value, group * value, gate);
        take(small, 2 * h * group, group, rate);
        take(small, (2 * h + 1) * group, group, decay);
      }
    }
  } else {
    mixed = linear(readers[0], normed_TH);
    gate = linear(readers[1], normed_TH);
    rate = linear(readers[2], normed_TH);
    decay = linear(readers[3], normed_TH);
  }
  const Rows qkv = convolved(spec, mixed);
  const auto unit = [&](const Row& row, Index first) {
    Row x(row.begin() + first, row.begin() + first + key);
    const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
    for (double& element : x) element /= std::sqrt(squares + 1e-6);
    return x;
  };
  Rows result(qkv.size());
  for (Index h = 0; h < sizes.value_heads; ++h) {
    const double speed = std::exp(static_cast<double>(weights.at(spec.decay.name)(0, h)));
    const double bias = weights.at(spec.dt_bias.name)(0, h);
    Rows state(static_cast<std::size_t>(key), Row(static_cast<std::size_t>(value), 0.0));
    for (std::size_t t = 0; t < qkv.size(); ++t) {
      const auto at = static_cast<std::size_t>(h);
      const Row q = unit(qkv[t], h / group * key);
      const Row k = unit(qkv[t], sizes.key_channels() + h / group * key);
      const double left = std::exp(-speed * std::log1p(std::exp(decay[t][at] + bias)));
      Row y;
      for (Index e = 0; e < value; ++e) {
        const auto i = static_cast<std::size_t>(e);
        double held = 0, read = 0;
        for (std::size_t d = 0; d < state.size(); ++d) held += k[d] * (state[d][i] *= left);
        const double v = qkv[t][static_cast<std::size_t>(2 * sizes.key_channels() + h * value + e)];
        for (std::size_t d = 0; d < state.size(); ++d) {
          state[d][i] += k[d] * sigmoid(rate[t][at]) * (v - held);
          read += q[d] * state[d][i];
        }
        y.push_back(read / std::sqrt(static_cast<double>(key)));
      }
      y = norm(y, spec.norm);
      for (Index e = 0; e < value; ++e) {
        const double z = gate[t][static_cast<std::size_t>(h * value + e)];
        result[t].push_back(y[static_cast<std::size_t>(e)] * z * sigmoid(z));
      }
    }
  }
  return result;
}

// act(gate) * up of a site's readers, which may be one linear with gate above up.
Rows NaiveBlock::gated(const SiteSpec& site, const Rows& inputs_TK) const {
  Rows gate = linear(site.readers.front(), inputs_TK);
  Rows up = linear(site.readers.back(), inputs_TK);
  if (site.readers.size() == 1) {
    const Index width = site.readers.front().out_features() / 2;
    gate = columns(gate, 0, width);
    up = columns(up, width, width);
  }
  for (std::size_t t = 0; t < gate.size(); ++t)
    for (std::size_t i = 0; i < gate[t].size(); ++i)
      gate[t][i] = joined(config, gate[t][i], up[t][i]);
  return gate;
}

// Each token goes to the experts that the router chooses.
Rows NaiveBlock::experts(const Experts& spec, const Rows& hidden_TH, const Rows& normed_TH) {
  const auto values = [&](const std::optional<TensorSpec>& tensor) {
    if (!tensor) return Row();
    const MatrixView<const float> row = weights.at(tensor->name);
    return Row(row.data(), row.data() + row.size());
  };
  std::vector<TensorSpec> router_bias;
  if (spec.router_bias) router_bias.push_back(*spec.router_bias);
  Rows read = normed_TH;
  if (spec.router_norm) {
    read = normed(hidden_TH, *spec.router_norm);
    for (Row& row : read)
      for (double& value : row) value *= spec.router_scale;
  }
  const Rows scores = linear(spec.router, router_bias, read);
  const Row answer_scale = values(spec.answer_scale);
  Rows sum(normed_TH.size(), Row(normed_TH.front().size(), 0.0));
  for (std::size_t t = 0; t < normed_TH.size(); ++t) {
    for (const auto& [e, routed] :
         naive_routing(spec.routing, scores[t], values(spec.choice_bias))) {
      const double weight =
          answer_scale.empty() ? routed : routed * answer_scale[static_cast<std::size_t>(e)];
      const Rows inner = gated(block.site("expert_in", e), {normed_TH[t]});
      inputs[{"expert_in", e}].push_back(normed_TH[t]);
      inputs[{"expert_out", e}].push_back(inner.front());
      const Rows out = linear(block.site("expert_out", e).readers[0], inner);
      for (std::size_t i = 0; i < sum[t].size(); ++i) sum[t][i] += weight * out[0][i];
    }
  }
  if (spec.shared_width == 0) return sum;
  Rows& inner = inputs[{"mlp_out", -1}];
  inner = gated(block.site("mlp_in"), normed_TH);
  const Rows out = linear(block.site("mlp_out").readers[0], inner);
  Rows gate;
  if (spec.shared_gate) gate = linear(*spec.shared_gate, {}, normed_TH);
  for (std::size_t t = 0; t < sum.size(); ++t)
    for (std::size_t i = 0; i < sum[t].size(); ++i)
      sum[t][i] += (spec.shared_gate ? sigmoid(gate[t][0]) : 1.0) * out[t][i];
  return sum;
}

// Output of a half for `before`, normed where the half norms it.
Rows NaiveBlock::output(const HalfSpec& half, const Rows& before) {
  const auto sites = block.sites_of(half);
  const auto at = [&](const SiteSpec& site) -> Rows& { return inputs[{site.name, -1}]; };
  const Rows first = half.norm ? normed(before, *half.norm) : before;
  at(sites[0]) = first;
  Rows outputs;
  const Mixer& mixer = *half.mixer;
  if (mixer.kind() == Experts::kKind) {
    outputs = experts(static_cast<const Experts&>(mixer), before, first);
  } else {
    Rows inner;
    if (mixer.kind() == DeltaNet::kKind) {
      inner = delta_net(static_cast<const DeltaNet&>(mixer), first);
    } else if (mixer.kind() == Attention::kKind) {
      inner = projected_attention(first);
    } else if (mixer.kind() == LayerEmbedding::kKind) {
      const auto& spec = static_cast<const LayerEmbedding&>(mixer);
      const Rows own = columns(kept.at("layer_embeddings"), spec.first, spec.width);
      inner = linear(sites[0].readers[0], first);
      for (std::size_t t = 0; t < inner.size(); ++t)
        for (std::size_t i = 0; i < inner[t].size(); ++i)
          inner[t][i] = activated(config.hidden_act, inner[t][i]) * own[t][i];
    } else {
      inner = gated(sites[0], first);
    }
    at(sites[1]) = inner;
    outputs = linear(sites[1].readers[0], inner);
  }
  return half.post_norm ? normed(outputs, *half.post_norm) : outputs;
}

void NaiveBlock::run(const Rows& before) {
  hidden = before;
  Rows sum;
  for (std::size_t h = 0; h < block.halves.size(); ++h) {
    const HalfSpec& half = block.halves[h];
    added.push_back(output(half, hidden));
    if (!half.beside) sum.assign(hidden.size(), Row(hidden.front().size(), 0.0));
    for (std::size_t t = 0; t < sum.size(); ++t)
      for (std::size_t i = 0; i < sum[t].size(); ++i) sum[t][i] += added.back()[t][i];
    if (h + 1 < block.halves.size() && block.halves[h + 1].beside) continue;
    if (half.sum_norm) sum = normed(sum, *half.sum_norm);
    for (std::size_t t = 0; t < sum.size(); ++t)
      for (std::size_t i = 0; i < sum[t].size(); ++i) hidden[t][i] += sum[t][i];
    if (h == 0) attended = hidden;
  }
  if (!block.scalar) return;
  for (Row& row : hidden)
    for (double& value : row) value *= weights.at(block.scalar->name)(0, 0);
}

std::map<std::string, Rows> naive_kept(const ModelFolder& model,
                                       const std::vector<std::int32_t>& ids) {
  if (!model.family.layer_embeddings) return {};
  const LayerEmbeddings& spec = *model.family.layer_embeddings;
  const Matrix<float> table_VW = model.source.load(spec.table.name);
  const Matrix<float> projection_WH = model.source.load(spec.projection.name);
  const Matrix<float> norm_1D = model.source.load(spec.norm.weight.name);
  Buffers unscaled;
  const Rows x_TH = naive_embedding(model, ids, unscaled);
  Rows rows;
  for (std::size_t t = 0; t < ids.size(); ++t) {
    Row& row = rows.emplace_back();
    for (Index layer = 0; layer < projection_WH.rows() / spec.width; ++layer) {
      Row made;
      for (Index n = layer * spec.width; n < (layer + 1) * spec.width; ++n) {
        double sum = 0;
        for (Index k = 0; k < projection_WH.cols(); ++k)
          sum += x_TH[t][static_cast<std::size_t>(k)] * projection_WH(n, k);
        made.push_back(sum);
      }
      made = rms_norm(made, norm_1D, spec.norm.epsilon, false);
      for (Index i = 0; i < spec.width; ++i)
        row.push_back(
            (made[static_cast<std::size_t>(i)] + std::sqrt(static_cast<double>(spec.width)) *
                                                     table_VW(ids[t], layer * spec.width + i)) /
            std::numbers::sqrt2);
    }
  }
  return {{"layer_embeddings", rows}};
}

Rows naive_embedding(const ModelFolder& model, const std::vector<std::int32_t>& ids,
                     const Buffers& buffers) {
  const Matrix<float> embedding_VH = model.source.load(model.family.embedding.name);
  Rows rows;
  for (const std::int32_t id : ids) {
    Row& row = rows.emplace_back(embedding_VH.row(id), embedding_VH.row(id) + embedding_VH.cols());
    for (double& value : row) value *= buffers.embedding_scale;
  }
  return rows;
}

Rows naive_logits(const ModelFolder& model, const std::vector<std::int32_t>& ids,
                  const Buffers& buffers) {
  const Matrix<float> head_VH = model.source.load(model.family.head().name);
  const Matrix<float> norm_1H = model.source.load(model.family.final_norm.name);
  Rows hidden = naive_embedding(model, ids, buffers);
  std::map<std::string, Rows> kept = naive_kept(model, ids);
  for (const BlockSpec& block : model.family.blocks) {
    const BlockWeights weights = load_block(model.source, block);
    NaiveBlock naive{model.config, block, weights, buffers, {}, {}};
    naive.kept = std::move(kept);
    naive.run(hidden);
    hidden = naive.hidden;
    kept = std::move(naive.kept);
  }
  Rows logits;
  for (const Row& row : hidden) {
    const Row x = rms_norm(row, norm_1H, model.config.rms_norm_eps, model.config.norm_plus_one);
    Row& y = logits.emplace_back();
    for (Index v = 0; v < head_VH.rows(); ++v) {
      double sum = 0;
      for (Index k = 0; k < head_VH.cols(); ++k)
        sum += x[static_cast<std::size_t>(k)] * head_VH(v, k);
      y.push_back(capped(sum, model.config.logit_softcap));
    }
  }
  return logits;
}

}  // namespace calque::model
