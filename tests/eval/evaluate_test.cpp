#include "calque/eval/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/text/tokenizer.h"
#include "support/paths.h"

namespace calque::eval {
namespace {

namespace fs = std::filesystem;

std::vector<ModelMetrics> evaluate_alone(const formats::ArtifactReader& reader,
                                         const text::TokenBlocks& windows) {
  return evaluate({"model", &reader, &reader.config()}, {}, windows, {});
}

// From the demo model's README: perplexity 42.0984 by transformers in fp32.
TEST(Evaluate, FindsTheDemoModelsPerplexity) {
  const auto reader = formats::open_artifact(test::demo_model());
  const auto tokenizer = text::load_tokenizer(test::demo_model());
  const text::PackedTokens packed = text::consecutive_windows(
      fs::path(test::calibration_data()) / "heldout_pride_and_prejudice.txt", *tokenizer, 512, 40);
  const auto metrics = evaluate_alone(*reader, packed.blocks);
  EXPECT_NEAR(metrics.at(0).perplexity_hf.value, 42.0984, 5e-5);
  EXPECT_EQ(metrics.at(0).perplexity_hf.predictions, 40 * 511);
}

// From the golden README: llama-perplexity -c 128 --chunks 16 on tiny-f16.gguf gives 482.5608 with
// fp16 activations; transformers in fp32, scored the same way, 482.5340. The tool puts <s> in front
// of the text, cuts it, and overwrites the first token of each chunk by <s>.
TEST(Evaluate, FindsLlamaCppsPerplexityOfAGgufFile) {
  const fs::path fixtures(test::fixtures());
  const auto reader = formats::open_artifact(fixtures / "artifacts" / "gguf" / "tiny-f16.gguf");
  const auto tokenizer = text::load_tokenizer(fixtures / "artifacts" / "source");
  const text::PackedTokens packed =
      text::consecutive_windows(fixtures / "artifacts" / "gguf" / "imatrix_text.txt", *tokenizer,
                                128, 16, tokenizer->prefix());
  const auto metrics = evaluate_alone(*reader, packed.blocks);
  EXPECT_NEAR(metrics.at(0).perplexity_llamacpp.value, 482.5340, 5e-3);
  EXPECT_EQ(metrics.at(0).perplexity_llamacpp.predictions, 16 * 63);
  EXPECT_EQ(metrics.at(0).perplexity_hf.predictions, 16 * 128);
}

// The token after a window is predicted from the window: what a row that is one token longer makes
// of the same positions.
TEST(Evaluate, PredictsTheTokenThatComesAfterAWindow) {
  const auto reader = formats::open_artifact(fs::path(test::fixtures()) / "families/llama");
  text::TokenBlocks longer;
  longer.ids_BS = Matrix<std::int32_t>(1, 25);
  for (Index i = 0; i < 25; ++i)
    longer.ids_BS(0, i) = static_cast<std::int32_t>((37 * i * i + 11 * i) % 320);
  longer.lengths_B = {25};
  text::TokenBlocks window;
  window.ids_BS = Matrix<std::int32_t>(1, 24);
  std::copy_n(longer.ids_BS.data(), 24, window.ids_BS.data());
  window.lengths_B = {24};
  window.next_B = {longer.ids_BS(0, 24)};
  const ModelMetrics whole = evaluate_alone(*reader, longer).front();
  const ModelMetrics with_next = evaluate_alone(*reader, window).front();
  EXPECT_EQ(with_next.perplexity_hf.predictions, 24);
  // Products of 24 and of 25 rows may be summed in another order: some units of 2^-24 in a logit of
  // size 10, so some 1e-5 of the perplexity.
  EXPECT_NEAR(with_next.perplexity_hf.value / whole.perplexity_hf.value, 1.0, 1e-5);
  EXPECT_EQ(with_next.perplexity_llamacpp.predictions, 11);  // made at positions 12 to 22

  window.next_B = {320};
  EXPECT_THROW(evaluate_alone(*reader, window), Error);
}

TEST(Evaluate, ScoresNothingBeforeTheFirstPosition) {
  const auto reader = formats::open_artifact(fs::path(test::fixtures()) / "families/llama");
  text::TokenBlocks windows;
  windows.ids_BS = Matrix<std::int32_t>(2, 24);
  for (Index i = 0; i < 48; ++i) windows.ids_BS.data()[i] = static_cast<std::int32_t>(5 * i);
  windows.lengths_B = {24, 24};
  const EvalModel model{"model", reader.get(), &reader->config()};
  const auto metrics = evaluate(model, {model}, windows, {.first_position = first_scored(3)});
  EXPECT_EQ(metrics.at(1).perplexity_hf.predictions, 2 * 21);
}

TEST(Evaluate, FindsNoDivergenceOfAModelFromItself) {
  const auto reader = formats::open_artifact(test::demo_model());
  text::TokenBlocks windows;
  windows.ids_BS = Matrix<std::int32_t>(2, 33);
  for (Index i = 0; i < 66; ++i)
    windows.ids_BS(i / 33, i % 33) = static_cast<std::int32_t>(7 * i + 3);
  windows.lengths_B = {33, 20};
  const EvalModel model{"model", reader.get(), &reader->config()};
  const auto metrics = evaluate(model, {model}, windows, {});
  EXPECT_EQ(metrics.at(1).divergence.kl_max, 0.0);
  EXPECT_EQ(metrics.at(1).divergence.top1_agreement, 1.0);
  EXPECT_EQ(metrics.at(1).perplexity_hf.predictions, 32 + 19);
}

// A model with two layers of random weights and text that means nothing to it: how far roundings
// move it, and that they do, does not depend on that.
class TinyModel {
 public:
  TinyModel() : reader_(formats::open_artifact(fs::path(test::fixtures()) / "families/llama")) {
    windows_.ids_BS = Matrix<std::int32_t>(4, 48);
    for (Index i = 0; i < windows_.ids_BS.size(); ++i)
      windows_.ids_BS.data()[i] = static_cast<std::int32_t>((37 * i * i + 11 * i) % 320);
    windows_.lengths_B.assign(4, 48);
  }

  EvalModel model() const { return {"tiny", reader_.get(), &reader_->config()}; }
  EvalModel cached(const std::string& keys, const std::string& values,
                   std::vector<bool> layers = {}) const {
    EvalModel result = model();
    result.kind = ModelKind::kOriginal;
    result.kv_cache = KvCacheSpec{.name = keys + "/" + values,
                                  .keys = kv_type_from(keys),
                                  .values = kv_type_from(values),
                                  .layers = std::move(layers)};
    return result;
  }
  std::vector<ModelMetrics> metrics(const std::vector<EvalModel>& candidates,
                                    const EvalOptions& options = {}) const {
    return evaluate(model(), candidates, windows_, options);
  }

 private:
  std::unique_ptr<formats::ArtifactReader> reader_;
  text::TokenBlocks windows_;
};

TEST(EvaluateKvCache, LosesLessWithMoreBits) {
  const TinyModel tiny;
  const auto metrics = tiny.metrics({tiny.cached("f16", "f16"), tiny.cached("q8_0", "q8_0"),
                                     tiny.cached("q5_1", "q5_1"), tiny.cached("q4_0", "q4_0")});
  EXPECT_GT(metrics[1].divergence.kl_mean, 0.0);
  for (std::size_t i = 2; i < metrics.size(); ++i)
    EXPECT_GT(metrics[i].divergence.kl_mean, metrics[i - 1].divergence.kl_mean)
        << metrics[i].kv_cache;
  EXPECT_EQ(metrics[1].kind, ModelKind::kOriginal);
  EXPECT_EQ(metrics[4].kv_cache, "q4_0/q4_0");
  EXPECT_EQ(metrics[4].kv_cache_bytes,
            2u * 2 * 32 * 48 * 2 / 32 * 18);  // layers, heads, ..., K and V
}

TEST(EvaluateKvCache, RoundsOnlyTheLayersThatItNames) {
  const TinyModel tiny;
  const auto metrics = tiny.metrics(
      {tiny.cached("q4_0", "q4_0", {false, false}), tiny.cached("q4_0", "q4_0", {true, false}),
       tiny.cached("q4_0", "q4_0", {false, true}), tiny.cached("q4_0", "q4_0", {true, true}),
       tiny.cached("q4_0", "q4_0")});
  EXPECT_EQ(metrics[1].divergence.kl_max, 0.0);
  EXPECT_EQ(metrics[1].perplexity_hf.value, metrics[0].perplexity_hf.value);
  EXPECT_GT(metrics[2].divergence.kl_mean, 0.0);
  EXPECT_GT(metrics[3].divergence.kl_mean, 0.0);
  EXPECT_NE(metrics[2].divergence.kl_mean, metrics[3].divergence.kl_mean);
  EXPECT_EQ(metrics[4].divergence.kl_mean, metrics[5].divergence.kl_mean);
}

TEST(Evaluate, FindsANoiseFloorAboveZeroAndBelowEightBits) {
  const TinyModel tiny;
  EvalModel noisy = tiny.model();
  noisy.kind = ModelKind::kNoiseFloor;
  noisy.dtype = forward::ComputeDType::kBFloat16;
  const auto metrics = tiny.metrics({noisy, tiny.cached("q4_0", "q4_0")});
  EXPECT_GT(metrics[1].divergence.kl_mean, 0.0);
  EXPECT_LT(metrics[1].divergence.kl_mean, metrics[2].divergence.kl_mean);
  EXPECT_EQ(metrics[1].kind, ModelKind::kNoiseFloor);
  EXPECT_EQ(metrics[0].kind, ModelKind::kReference);
}

TEST(Evaluate, GivesTheSameBitsWhenTheReferenceHasRunBefore) {
  const TinyModel tiny;
  const std::vector<EvalModel> candidates = {tiny.cached("q4_0", "q4_0")};
  const auto alone = tiny.metrics(candidates);
  EvalOptions options;
  options.reference_states = std::make_shared<ReferenceStates>();
  const auto first = tiny.metrics(candidates, options);
  EXPECT_EQ(options.reference_states->hits(), 0);
  const auto second = tiny.metrics(candidates, options);
  EXPECT_EQ(options.reference_states->hits(), 1);
  for (const auto& again : {first, second})
    for (std::size_t i = 0; i < alone.size(); ++i) {
      EXPECT_EQ(again[i].perplexity_hf.value, alone[i].perplexity_hf.value);
      EXPECT_EQ(again[i].divergence.kl_mean, alone[i].divergence.kl_mean);
      EXPECT_EQ(again[i].divergence.kl_p999, alone[i].divergence.kl_p999);
    }
  options.runner.dtype = forward::ComputeDType::kBFloat16;  // other states
  tiny.metrics(candidates, options);
  EXPECT_EQ(options.reference_states->hits(), 1);
}

// 4096 tokens are four strips: all of them at a time by default, one at a time, and shared among
// threads.
TEST(Evaluate, GivesTheSameBitsWithAnyThreadsAndHoweverMuchOfTheHeadsIsHeld) {
  const auto reader = formats::open_artifact(test::demo_model());
  text::TokenBlocks windows;
  windows.ids_BS = Matrix<std::int32_t>(2, 150);  // more than a tile of positions
  for (Index i = 0; i < 300; ++i)
    windows.ids_BS.data()[i] = static_cast<std::int32_t>((37 * i * i + 11 * i) % 4096);
  windows.lengths_B = {150, 140};
  windows.next_B = {5, -1};
  EvalModel other{"other", reader.get(), &reader->config()};
  other.dtype = forward::ComputeDType::kBFloat16;
  const EvalModel model{"model", reader.get(), &reader->config()};
  EvalOptions options;
  options.runner.threads = 1;
  const std::vector<ModelMetrics> expected = evaluate(model, {other}, windows, options);
  EXPECT_EQ(expected.at(1).perplexity_hf.predictions, 150 + 139);
  Index steps = 0;
  options.progress = [&](Index done, Index total) {
    EXPECT_EQ(done, ++steps);
    EXPECT_LE(done, total);
  };
  options.held_elements = 1;
  options.runner.threads = 2;
  const std::vector<ModelMetrics> found = evaluate(model, {other}, windows, options);
  EXPECT_EQ(steps, 2 * (reader->config().num_layers + 1));
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(found[i].perplexity_hf.value, expected[i].perplexity_hf.value);
    EXPECT_EQ(found[i].perplexity_llamacpp.value, expected[i].perplexity_llamacpp.value);
    EXPECT_EQ(found[i].divergence.kl_mean, expected[i].divergence.kl_mean);
    EXPECT_EQ(found[i].divergence.kl_max, expected[i].divergence.kl_max);
  }
}

TEST(Evaluate, RefusesIdsOutsideTheVocabulary) {
  const auto reader = formats::open_artifact(test::demo_model());
  text::TokenBlocks windows;
  windows.ids_BS = Matrix<std::int32_t>(1, 4);
  windows.ids_BS(0, 2) = 5000;
  windows.lengths_B = {4};
  try {
    evaluate_alone(*reader, windows);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("5000"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("4096"));
  }
}

// A model in which one weight is another number.
class Changed : public model::WeightSource {
 public:
  Changed(const model::WeightSource& source, std::string tensor, Index row, Index column,
          float value)
      : source_(source), tensor_(std::move(tensor)), row_(row), column_(column), value_(value) {}
  bool has(std::string_view name) const override { return source_.has(name); }
  Matrix<float> load(std::string_view name) const override {
    Matrix<float> values = source_.load(name);
    if (name == tensor_) values(row_, column_) = value_;
    return values;
  }

 private:
  const model::WeightSource& source_;
  std::string tensor_;
  Index row_, column_;
  float value_;
};

std::string message_with(const std::string& tensor, Index row, Index column, float value) {
  const auto reader = formats::open_artifact(fs::path(test::fixtures()) / "families/llama");
  const Changed changed(*reader, tensor, row, column, value);
  text::TokenBlocks windows;
  windows.ids_BS = Matrix<std::int32_t>(3, 24);
  for (Index i = 0; i < 72; ++i) windows.ids_BS.data()[i] = static_cast<std::int32_t>(4 * i);
  windows.lengths_B = {24, 24, 24};
  try {
    evaluate({"original", reader.get(), &reader->config()},
             {{"artifact", &changed, &reader->config()}}, windows, {});
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  }
  return "";
}

// 3e38 times an activation of size 1 overflows: value projection, so attention's output.
TEST(Evaluate, StopsAtTheFirstBlockThatOverflows) {
  EXPECT_THAT(message_with("model.layers.1.self_attn.v_proj.weight", 3, 7, 3e38f),
              ::testing::AllOf(::testing::StartsWith("E403: artifact: "),
                               ::testing::HasSubstr("block model.layers.1"),
                               ::testing::HasSubstr("of sequence 0")));
}

TEST(Evaluate, RefusesWeightsThatAreNotFiniteByName) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(message_with("model.layers.0.mlp.up_proj.weight", 2, 5, nan),
              ::testing::AllOf(::testing::StartsWith("E164: "),
                               ::testing::HasSubstr("model.layers.0.mlp.up_proj.weight"),
                               ::testing::HasSubstr("row 2, column 5 is nan")));
  EXPECT_THAT(message_with("model.norm.weight", 0, 9, nan),
              ::testing::HasSubstr("model.norm.weight: row 0, column 9 is nan"));
  EXPECT_THAT(message_with("lm_head.weight", 300, 4, nan),
              ::testing::HasSubstr("lm_head.weight: row 300, column 4 is nan"));
  EXPECT_THAT(message_with("model.embed_tokens.weight", 8, 4, nan),
              ::testing::HasSubstr("model.embed_tokens.weight: row 8, column 4 is nan"));
}

TEST(Evaluate, RefusesLogitsThatOverflow) {
  EXPECT_THAT(message_with("lm_head.weight", 300, 4, 3e38f),
              ::testing::AllOf(::testing::StartsWith("E403: artifact: the logits at position"),
                               ::testing::HasSubstr("of window 0")));
}

}  // namespace
}  // namespace calque::eval
