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
  return {config.rope.inverse_frequencies(config.head_dim),
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
  return rms_norm(x, weights.at(spec.weight.name), spec.epsilon,
                  spec.kind == NormSpec::Kind::kOnePlusWeight);
}

Rows NaiveBlock::normed(const Rows& rows, const NormSpec& spec) const {
  Rows result;
  for (const Row& row : rows) result.push_back(norm(row, spec));
  return result;
}

void NaiveBlock::add(Rows outputs, const std::optional<NormSpec>& post_norm) {
  if (post_norm) outputs = normed(outputs, *post_norm);
  for (std::size_t t = 0; t < hidden.size(); ++t)
    for (std::size_t i = 0; i < hidden[t].size(); ++i) hidden[t][i] += outputs[t][i];
}

// Head `index` of a row, normed where the family norms heads, and turned to its position.
Row NaiveBlock::head(const Row& row, Index index, const std::optional<NormSpec>& norm_spec,
                     std::size_t position) const {
  const auto begin = row.begin() + index * config.head_dim;
  Row x(begin, begin + config.head_dim);
  if (norm_spec && attention_of(block).whole_norms) {
    const Row whole = norm(row, *norm_spec);
    std::copy_n(whole.begin() + index * config.head_dim, config.head_dim, x.begin());
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

Rows NaiveBlock::attention(const Rows& q_TN, const Rows& k_TN, const Rows& v_TN) const {
  const Index dim = config.head_dim, window = attention_of(block).window;
  const double scale =
      config.query_scale > 0 ? config.query_scale : 1 / std::sqrt(static_cast<double>(dim));
  Rows result(q_TN.size(), Row(q_TN.front().size(), 0.0));
  for (Index h = 0; h < config.num_heads; ++h) {
    const Index kv = h / (config.num_heads / config.num_kv_heads);
    Rows keys;
    for (std::size_t s = 0; s < k_TN.size(); ++s)
      keys.push_back(head(k_TN[s], kv, attention_of(block).k_norm, s));
    for (std::size_t t = 0; t < q_TN.size(); ++t) {
      Row q = head(q_TN[t], h, attention_of(block).q_norm, t);
      if (config.rope.query_growth > 0) {
        const std::size_t contexts =
            t / static_cast<std::size_t>(config.rope.original_max_positions);
        for (double& value : q)
          value *= 1 + config.rope.query_growth * std::log1p(static_cast<double>(contexts));
      }
      Row probabilities(t + 1, 0.0);
      double total = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        if (window > 0 && static_cast<Index>(t - s) >= window) continue;
        const double score = std::inner_product(q.begin(), q.end(), keys[s].begin(), 0.0);
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

// The input of attention's o_proj.
Rows NaiveBlock::projected_attention(const Rows& normed_TH) const {
  Rows qkv[3];
  const std::vector<LinearSpec>& readers = block.site("attn_in").readers;
  const Index dim = config.head_dim, q = config.num_heads * dim, k = config.num_kv_heads * dim;
  if (readers.size() == 1) {
    const Rows fused = linear(readers[0], normed_TH);
    qkv[0] = columns(fused, 0, q);
    qkv[1] = columns(fused, q, k);
    qkv[2] = columns(fused, q + k, k);
  } else {
    for (std::size_t i = 0; i < 3; ++i) qkv[i] = linear(readers[i], normed_TH);
  }
  if (!attention_of(block).gated) return attention(qkv[0], qkv[1], qkv[2]);
  // A head's query, then its gate.
  Rows queries(qkv[0].size()), gates(qkv[0].size());
  for (Index h = 0; h < config.num_heads; ++h)
    for (std::size_t t = 0; t < queries.size(); ++t) {
      const auto head = qkv[0][t].begin() + 2 * h * dim;
      queries[t].insert(queries[t].end(), head, head + dim);
      gates[t].insert(gates[t].end(), head + dim, head + 2 * dim);
    }
  Rows result = attention(queries, qkv[1], qkv[2]);
  for (std::size_t t = 0; t < result.size(); ++t)
    for (std::size_t i = 0; i < result[t].size(); ++i) result[t][i] *= sigmoid(gates[t][i]);
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
      const double kept = std::exp(-speed * std::log1p(std::exp(decay[t][at] + bias)));
      Row y;
      for (Index e = 0; e < value; ++e) {
        const auto i = static_cast<std::size_t>(e);
        double held = 0, read = 0;
        for (std::size_t d = 0; d < state.size(); ++d) held += k[d] * (state[d][i] *= kept);
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
Rows NaiveBlock::experts(const Experts& spec, const Rows& normed_TH) {
  const auto values = [&](const std::optional<TensorSpec>& tensor) {
    if (!tensor) return Row();
    const MatrixView<const float> row = weights.at(tensor->name);
    return Row(row.data(), row.data() + row.size());
  };
  std::vector<TensorSpec> router_bias;
  if (spec.router_bias) router_bias.push_back(*spec.router_bias);
  const Rows scores = linear(spec.router, router_bias, normed_TH);
  Rows sum(normed_TH.size(), Row(normed_TH.front().size(), 0.0));
  for (std::size_t t = 0; t < normed_TH.size(); ++t) {
    for (const auto& [e, weight] :
         naive_routing(spec.routing, scores[t], values(spec.choice_bias))) {
      const Rows inner = gated(block.site("expert_in", e), {normed_TH[t]});
      inputs[{"expert_in", e}].push_back(normed_TH[t]);
      inputs[{"expert_out", e}].push_back(inner.front());
      const Rows out = linear(block.site("expert_out", e).readers[0], inner);
      for (std::size_t i = 0; i < sum[t].size(); ++i) sum[t][i] += weight * out[0][i];
    }
  }
  if (!block.has_site("mlp_out")) return sum;
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

void NaiveBlock::run(const Rows& before) {
  hidden = before;
  const auto at = [&](const std::string& kind) -> Rows& { return inputs[{kind, -1}]; };
  at("attn_in") = block.halves[0].norm ? normed(hidden, *block.halves[0].norm) : hidden;
  const Mixer& first = *block.halves[0].mixer;
  at("attn_out") = first.kind() == DeltaNet::kKind
                       ? delta_net(static_cast<const DeltaNet&>(first), at("attn_in"))
                       : projected_attention(at("attn_in"));
  add(linear(block.site("attn_out").readers[0], at("attn_out")), block.halves[0].post_norm);

  attended = hidden;
  const HalfSpec& half = block.halves[1];
  at("mlp_in") = half.norm ? normed(hidden, *half.norm) : hidden;
  if (half.mixer->kind() == Experts::kKind)
    return add(experts(static_cast<const Experts&>(*half.mixer), at("mlp_in")), half.post_norm);
  at("mlp_out") = gated(block.site("mlp_in"), at("mlp_in"));
  add(linear(block.site("mlp_out").readers[0], at("mlp_out")), half.post_norm);
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
  for (const BlockSpec& block : model.family.blocks) {
    const BlockWeights weights = load_block(model.source, block);
    NaiveBlock naive{model.config, block, weights, buffers, {}, {}};
    naive.run(hidden);
    hidden = naive.hidden;
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
