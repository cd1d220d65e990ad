#include "model/naive_block.h"

#include <cmath>

namespace calque::model {
namespace {

std::vector<double> norm(const std::vector<double>& x, MatrixView<const float> weight_1N,
                         double eps) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double root = std::sqrt(squares / static_cast<double>(x.size()) + eps);
  std::vector<double> result;
  for (std::size_t i = 0; i < x.size(); ++i)
    result.push_back(x[i] / root * weight_1N(0, static_cast<Index>(i)));
  return result;
}

}  // namespace

NaiveBlock::Rows NaiveBlock::linear(const LinearSpec& spec, const Rows& inputs_TK) const {
  const MatrixView<const float> weight_NK = weights.at(spec.weight.name);
  Rows outputs;
  for (const std::vector<double>& x : inputs_TK) {
    std::vector<double>& y = outputs.emplace_back();
    for (Index n = 0; n < weight_NK.rows(); ++n) {
      double sum = spec.bias.empty() ? 0 : weights.at(spec.bias.front().name)(0, n);
      for (Index k = 0; k < weight_NK.cols(); ++k)
        sum += x[static_cast<std::size_t>(k)] * weight_NK(n, k);
      y.push_back(sum);
    }
  }
  return outputs;
}

// Head `index` of a row, normed where the family norms heads, and turned to its position.
std::vector<double> NaiveBlock::head(const std::vector<double>& row, Index index,
                                     const std::vector<TensorSpec>& norm_spec,
                                     std::size_t position) const {
  const auto begin = row.begin() + index * config.head_dim;
  std::vector<double> x(begin, begin + config.head_dim);
  if (!norm_spec.empty()) x = norm(x, weights.at(norm_spec.front().name), config.rms_norm_eps);
  std::vector<double> turned(x.size());
  const std::size_t half = x.size() / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * inverse_frequencies[i];
    turned[i] = x[i] * std::cos(angle) - x[half + i] * std::sin(angle);
    turned[half + i] = x[half + i] * std::cos(angle) + x[i] * std::sin(angle);
  }
  return turned;
}

NaiveBlock::Rows NaiveBlock::attention(const Rows& q_TN, const Rows& k_TN, const Rows& v_TN) const {
  const Index dim = config.head_dim;
  Rows result(q_TN.size(), std::vector<double>(q_TN.front().size(), 0.0));
  for (std::size_t t = 0; t < q_TN.size(); ++t)
    for (Index h = 0; h < config.num_heads; ++h) {
      const Index kv = h / (config.num_heads / config.num_kv_heads);
      const std::vector<double> q = head(q_TN[t], h, block.q_norm, t);
      std::vector<double> probabilities(t + 1, 0.0);
      double total = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        if (block.window > 0 && static_cast<Index>(t - s) >= block.window) continue;
        const std::vector<double> k = head(k_TN[s], kv, block.k_norm, s);
        double score = 0;
        for (std::size_t i = 0; i < q.size(); ++i) score += q[i] * k[i];
        probabilities[s] = std::exp(score / std::sqrt(static_cast<double>(dim)));
        total += probabilities[s];
      }
      for (std::size_t s = 0; s <= t; ++s)
        for (Index i = 0; i < dim; ++i)
          result[t][static_cast<std::size_t>(h * dim + i)] +=
              probabilities[s] / total * v_TN[s][static_cast<std::size_t>(kv * dim + i)];
    }
  return result;
}

void NaiveBlock::run(const Rows& before) {
  hidden = before;
  const auto add = [&](const Rows& outputs) {
    for (std::size_t t = 0; t < hidden.size(); ++t)
      for (std::size_t i = 0; i < hidden[t].size(); ++i) hidden[t][i] += outputs[t][i];
  };
  const auto normed = [&](const TensorSpec& spec) {
    Rows rows;
    for (const std::vector<double>& row : hidden)
      rows.push_back(norm(row, weights.at(spec.name), config.rms_norm_eps));
    return rows;
  };
  inputs[0] = normed(block.attn_norm);
  const std::vector<LinearSpec>& qkv = block.site(SiteKind::kAttnIn).readers;
  inputs[1] =
      attention(linear(qkv[0], inputs[0]), linear(qkv[1], inputs[0]), linear(qkv[2], inputs[0]));
  add(linear(block.site(SiteKind::kAttnOut).readers[0], inputs[1]));

  inputs[2] = normed(block.mlp_norm);
  const std::vector<LinearSpec>& gate_up = block.site(SiteKind::kMlpIn).readers;
  inputs[3] = linear(gate_up[0], inputs[2]);
  const Rows up = linear(gate_up[1], inputs[2]);
  for (std::size_t t = 0; t < up.size(); ++t)
    for (std::size_t i = 0; i < up[t].size(); ++i)
      inputs[3][t][i] *= up[t][i] / (1 + std::exp(-inputs[3][t][i]));
  add(linear(block.site(SiteKind::kMlpOut).readers[0], inputs[3]));
}

NaiveBlock::Rows naive_logits(const ModelFolder& model, const std::vector<std::int32_t>& ids,
                              const std::vector<double>& inverse_frequencies) {
  const Matrix<float> embedding_VH = model.source.load(model.family.embedding.name);
  const Matrix<float> head_VH = model.source.load(model.family.head().name);
  const Matrix<float> norm_1H = model.source.load(model.family.final_norm.name);
  NaiveBlock::Rows hidden;
  for (const std::int32_t id : ids)
    hidden.emplace_back(embedding_VH.row(id), embedding_VH.row(id) + embedding_VH.cols());
  for (const BlockSpec& block : model.family.blocks) {
    const BlockWeights weights = load_block(model.source, block);
    NaiveBlock naive{model.config, block, weights, inverse_frequencies, {}, {}};
    naive.run(hidden);
    hidden = naive.hidden;
  }
  NaiveBlock::Rows logits;
  for (const std::vector<double>& row : hidden) {
    const std::vector<double> x = norm(row, norm_1H, model.config.rms_norm_eps);
    std::vector<double>& y = logits.emplace_back(static_cast<std::size_t>(head_VH.rows()), 0.0);
    for (Index v = 0; v < head_VH.rows(); ++v)
      for (Index k = 0; k < head_VH.cols(); ++k)
        y[static_cast<std::size_t>(v)] += x[static_cast<std::size_t>(k)] * head_VH(v, k);
  }
  return logits;
}

}  // namespace calque::model
