// Compares the logits of a GGUF file with those of the checkpoint it was made from.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/reader.h"
#include "calque/formats/source.h"
#include "calque/formats/writer.h"
#include "calque/io/safetensors.h"
#include "calque/model/weight_source.h"
#include "support/paths.h"
#include "support/temp_folder.h"
#include "verify/probe.h"

namespace calque::pipeline {
namespace {

using verify::prompt_logits;

namespace fs = std::filesystem;
using calque::testing::TempFolder;

void write_f32(const fs::path& model, const fs::path& file) {
  const formats::SourceModel source(model);
  formats::ExportRequest request;
  request.format = "gguf";
  request.path = file;
  request.type = "F32";
  const formats::ExportPlan plan =
      formats::plan_export(source.family, *source.weights, {}, request);
  formats::open_writer(plan, {source.family, *source.weights, model, nullptr, {}})->finish();
}

// The first 96 tokens of reference.safetensors.
std::vector<std::int32_t> tokens_of(const fs::path& model) {
  const io::SafetensorsFile file(model / "reference.safetensors");
  std::vector<std::int32_t> ids(96);
  std::memcpy(ids.data(), file.find("input_ids")->bytes.data(), ids.size() * sizeof(ids[0]));
  return ids;
}

class GgufOfEveryFamily : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, GgufOfEveryFamily,
                         ::testing::Values("llama", "llama3_rope", "llama_bias", "mistral_sliding",
                                           "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "mixtral",
                                           "qwen2_moe", "qwen3_moe", "ministral3", "phi4_mini",
                                           "seed_oss", "smollm3", "qwen3_vl", "mistral3_vl",
                                           "glm4_moe", "minimax_m2", "ernie4_5_moe", "olmo3",
                                           "qwen3_next", "qwen3_5_vl", "gemma4_vl", "gemma4_moe",
                                           "gemma4_e", "gpt_oss"));

// The same numbers go through the same operations, so every bit is the same. The exceptions are
// phi4_mini (below), llama3_rope, whose factor and context are recovered from divisors in fp32, and
// Mistral, whose GGUF has no window: equal as long as the window of 24 tokens covers everything.
TEST_P(GgufOfEveryFamily, ComputesWhatTheCheckpointDoes) {
  const TempFolder folder;
  const fs::path path = fs::path(test::fixtures()) / "families" / GetParam();
  write_f32(path, folder / "out.gguf");
  const std::string name = GetParam();
  std::vector<std::int32_t> ids = tokens_of(path);
  if (name == "mistral_sliding") ids.resize(24);
  const auto original = formats::open_artifact(path);
  const auto written = formats::open_artifact(folder / "out.gguf");
  const Matrix<float> expected_TV = prompt_logits(*original, original->config(), ids, 0);
  const Matrix<float> actual_TV = prompt_logits(*written, written->config(), ids, 0);
  ASSERT_EQ(actual_TV.size(), expected_TV.size());
  // phi4_mini's attention factor, 2^-24 off in fp32, multiplies queries and keys: a score of 20
  // moves by 2.4e-6, and so does the share of a value in logits of up to 24.
  // The logarithm of a decay's rate is 2^-22 off at most (GivesBackEveryWeightOfAnF32File), and so
  // is the rate of itself; a state that keeps e^-r of its values loses r e^-r 2^-22 <= 9e-8 of
  // them.
  const bool decays = name == "qwen3_next" || name == "qwen3_5_vl";
  const float slack = name == "llama3_rope" ? 1e-6f : decays || name == "phi4_mini" ? 6e-5f : 0.0f;
  for (Index i = 0; i < expected_TV.size(); ++i)
    ASSERT_NEAR(actual_TV.data()[i], expected_TV.data()[i], slack) << i;
}

}  // namespace
}  // namespace calque::pipeline
