#include "calque/eval/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "calque/artifact/reader.h"
#include "calque/core/error.h"
#include "calque/io/text_lines.h"
#include "calque/text/tokenizer.h"

namespace calque::eval {
namespace {

namespace fs = std::filesystem;

std::vector<ModelMetrics> evaluate_alone(const artifact::ArtifactReader& reader,
                                         const text::TokenBlocks& windows,
                                         std::optional<std::int32_t> bos) {
  return evaluate({"model", &reader, &reader.config()}, {}, windows, {.llamacpp_bos = bos});
}

// From the demo model's README: perplexity 42.0984 by transformers in fp32.
TEST(Evaluate, FindsTheDemoModelsPerplexity) {
  const auto reader = artifact::open_artifact(CALQUE_DEMO_MODEL);
  const auto tokenizer = text::load_tokenizer(CALQUE_DEMO_MODEL);
  const text::PackedTokens packed = text::consecutive_windows(
      fs::path(CALQUE_CALIBRATION_DATA) / "heldout_pride_and_prejudice.txt", *tokenizer, 512, 40);
  const auto metrics = evaluate_alone(*reader, packed.blocks, std::nullopt);
  EXPECT_NEAR(metrics.at(0).perplexity_hf.value, 42.0984, 5e-5);
  EXPECT_EQ(metrics.at(0).perplexity_hf.predictions, 40 * 511);
}

// From the golden README: llama-perplexity -c 128 --chunks 16 on tiny-f16.gguf gives 482.5608 with
// fp16 activations; transformers in fp32, scored the same way, 482.5340.
TEST(Evaluate, FindsLlamaCppsPerplexityOfAGgufFile) {
  const fs::path fixtures(CALQUE_FIXTURES);
  const auto reader = artifact::open_artifact(fixtures / "artifacts" / "gguf" / "tiny-f16.gguf");
  const auto tokenizer = text::load_tokenizer(fixtures / "artifacts" / "source");
  const text::TokenIds ids =
      tokenizer->encode(io::read_text(fixtures / "artifacts" / "gguf" / "imatrix_text.txt"));
  text::TokenBlocks windows;
  windows.ids_BS = Matrix<std::int32_t>(16, 128);
  windows.lengths_B.assign(16, 128);
  // The tool puts <s> in front of the text before it cuts it.
  for (Index i = 0; i < 16 * 128; ++i)
    windows.ids_BS(i / 128, i % 128) = i == 0 ? 1 : ids[static_cast<std::size_t>(i - 1)];
  const auto metrics = evaluate_alone(*reader, windows, 1);
  EXPECT_NEAR(metrics.at(0).perplexity_llamacpp.value, 482.5340, 5e-3);
  EXPECT_EQ(metrics.at(0).perplexity_llamacpp.predictions, 16 * 63);
}

TEST(Evaluate, FindsNoDivergenceOfAModelFromItself) {
  const auto reader = artifact::open_artifact(CALQUE_DEMO_MODEL);
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

TEST(Evaluate, RefusesIdsOutsideTheVocabulary) {
  const auto reader = artifact::open_artifact(CALQUE_DEMO_MODEL);
  text::TokenBlocks windows;
  windows.ids_BS = Matrix<std::int32_t>(1, 4);
  windows.ids_BS(0, 2) = 5000;
  windows.lengths_B = {4};
  try {
    evaluate_alone(*reader, windows, std::nullopt);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("5000"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("4096"));
  }
}

}  // namespace
}  // namespace calque::eval
