#include "forward/runner_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "calque/forward/token_rows.h"

namespace calque::forward {

Reference::Reference(const std::filesystem::path& folder) {
  const io::SafetensorsFile file(folder / "reference.safetensors");
  const io::TensorRef& ids = *file.find("input_ids");
  tokens.ids_BS = Matrix<std::int32_t>(ids.shape.at(0), ids.shape.at(1));
  std::memcpy(tokens.ids_BS.data(), ids.bytes.data(), ids.bytes.size());
  tokens.lengths_B.assign(static_cast<std::size_t>(ids.shape[0]), ids.shape[1]);
  const io::TensorRef& logits = *file.find("logits");
  logits_RV = Matrix<float>(logits.shape.at(0) * logits.shape.at(1), logits.shape.at(2));
  std::memcpy(logits_RV.data(), logits.bytes.data(), logits.bytes.size());
}

void RecordingObserver::site_input(const model::SiteSpec& site, const ActivationView& inputs_TK) {
  events_.push_back(site.name + " " + std::to_string(inputs_TK.rows()));
  std::vector<Index>& tokens = tokens_[{site.name, site.expert}];
  tokens.insert(tokens.end(), inputs_TK.tokens.begin(), inputs_TK.tokens.end());
  for (Index t = 0; t < inputs_TK.rows(); ++t) {
    std::vector<float>& row = rows_[{site.name, site.expert}].emplace_back();
    for (Index k = 0; k < inputs_TK.cols(); ++k)
      row.push_back(inputs_TK.is_bf16() ? to_float(inputs_TK.bf16_TK(t, k))
                                        : inputs_TK.f32_TK(t, k));
  }
}

void RecordingObserver::site_ready(const model::SiteSpec& site, model::BlockWeights& weights) {
  events_.push_back(site.name + " ready");
  if (change_) change_(site, weights);
}

std::unique_ptr<HiddenStates> embedded(BlockRunner& runner, const model::ModelFolder& model,
                                       const Tokens& tokens) {
  return embed_tokens(runner, model.source, model.family, tokens.ids_BS, tokens.lengths_B);
}

Matrix<float> logits_of(const model::ModelFolder& model, const Tokens& tokens,
                        const RunnerOptions& options, BlockObserver* observer,
                        const WeightChange& change) {
  const auto runner = make_block_runner(model.config, options);
  const auto hidden = embedded(*runner, model, tokens);
  for (const model::BlockSpec& block : model.family.blocks) {
    model::BlockWeights weights = load_block(model.source, block);
    if (change) change(block.layer, weights);
    runner->run_block(block, weights, *hidden, observer);
  }
  const auto head = runner->make_head(model.source.load(model.family.final_norm.name),
                                      model.source.load(model.family.head().name));
  Index rows = 0;
  for (const Index length : tokens.lengths_B) rows += length;
  Matrix<float> logits_RV(rows, model.config.vocab_size);
  Index first = 0;
  for (Index b = 0; b < hidden->sequences(); ++b) {
    const Index length = hidden->length(b);
    head->logits(*hidden, b, 0, logits_RV.view().rows(first, length));
    first += length;
  }
  return logits_RV;
}

void expect_final_norm(const std::string& device) {
  const model::ModelFolder model(model::family_folder("gemma3"));
  const Reference reference(model::family_folder("gemma3"));
  const auto runner = make_block_runner(model.config, {.device = device});
  const auto hidden = runner->embed(reference.tokens.ids_BS, reference.tokens.lengths_B,
                                    model.source.load(model.family.embedding.name));
  const Matrix<float> norm_1H = model.source.load(model.family.final_norm.name);
  const Matrix<float> input_TH = runner->head_input(norm_1H, *hidden, 1);
  std::vector<float> states;
  runner->save_states(*hidden, [&](std::span<const std::byte> bytes) {
    const auto* values = reinterpret_cast<const float*>(bytes.data());
    states.insert(states.end(), values, values + bytes.size() / sizeof(float));
  });
  ASSERT_EQ(input_TH.rows(), hidden->length(1));
  const float* row = states.data() + hidden->length(0) * input_TH.cols();
  for (Index t = 0; t < input_TH.rows(); ++t, row += input_TH.cols()) {
    double squares = 0;
    for (Index k = 0; k < input_TH.cols(); ++k) squares += static_cast<double>(row[k]) * row[k];
    const double size =
        std::sqrt(squares / static_cast<double>(input_TH.cols()) + model.config.rms_norm_eps);
    for (Index k = 0; k < input_TH.cols(); ++k) {
      const double expected = row[k] / size * (1.0 + norm_1H(0, k));  // Gemma's norms store w - 1
      ASSERT_NEAR(input_TH(t, k), expected, 1e-5 * (1 + std::abs(expected))) << t << " " << k;
    }
  }
}

// Rounding to bf16 errs by at most 2^-9 of a value, 2^-9 / sqrt(3) in the root mean square. An
// output of a linear carries three such roundings (weight, input, itself), so 2^-9 of its size. A
// residual half has up to three such steps in a row (q/k/v, o; gate and up, their product, down);
// two layers have four halves, and the head is one step more: sqrt(4 * 3 + 1) 2^-9 = 3.6 * 2^-9 of
// the logits' size. Twice that allows for softmax and silu making errors larger.
//
// The state of a delta net carries an error of one token to all later ones, so that these models
// are compared with what transformers 5.24 itself makes of them in bf16: 0.0269 and 0.0287 away
// from its fp32.
double bf16_tolerance(const std::string& folder) {
  if (folder == "qwen3_next") return 0.0269;
  if (folder == "qwen3_5_vl") return 0.0287;
  return 7.2 * std::ldexp(1.0, -9);
}

float largest_difference(MatrixView<const float> a, MatrixView<const float> b) {
  EXPECT_EQ(a.rows(), b.rows());
  EXPECT_EQ(a.cols(), b.cols());
  float largest = 0;
  for (Index r = 0; r < a.rows(); ++r)
    for (Index c = 0; c < a.cols(); ++c) {
      const float difference = std::abs(a(r, c) - b(r, c));
      if (!(difference <= largest)) largest = difference;  // a NaN stays
    }
  return largest;
}

double relative_difference(const model::FamilySpec& family, MatrixView<const float> a,
                           MatrixView<const float> b) {
  const bool experts = family.config.num_experts > 0;
  std::vector<double> errors;
  double error = 0, size = 0;
  for (Index r = 0; r < a.rows(); ++r) {
    if (experts) error = size = 0;
    for (Index c = 0; c < a.cols(); ++c) {
      error += std::pow(static_cast<double>(a(r, c)) - b(r, c), 2);
      size += std::pow(static_cast<double>(b(r, c)), 2);
    }
    errors.push_back(std::sqrt(error / size));
  }
  if (!experts) return errors.back();
  const auto middle = errors.begin() + static_cast<std::ptrdiff_t>(errors.size() / 2);
  std::nth_element(errors.begin(), middle, errors.end());
  return *middle;
}

bool same_bits(MatrixView<const float> a, MatrixView<const float> b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index r = 0; r < a.rows(); ++r)
    if (std::memcmp(a.row(r), b.row(r), sizeof(float) * static_cast<std::size_t>(a.cols())) != 0)
      return false;
  return true;
}

}  // namespace calque::forward
