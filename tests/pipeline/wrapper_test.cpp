// Jobs on a model of several parts: the language model is quantized, the others stay as they are.
#include <gtest/gtest.h>

#include <algorithm>

#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "calque/text/regex.h"
#include "calque/verify/verify_artifact.h"
#include "support/demo_job.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;

class Wrapper : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path model() const { return fs::path(test::fixtures()) / "families" / GetParam(); }
  job::Job job_for(std::vector<formats::ExportRequest> exports) const {
    job::Job job;
    job.name = "wrapper";
    job.model.path = model();
    job.quantization.grid = {.bits = 4, .group_size = 32, .sym = false};
    job.quantization.set_method("rtn");
    job.exports = std::move(exports);
    return job;
  }
  const TempFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Models, Wrapper,
                         ::testing::Values("qwen3_vl", "mistral3_vl", "qwen3_5_vl"));

bool is_of_text(const std::string& name) {
  return name.find("language_model.") != std::string::npos;
}

TEST_P(Wrapper, KeepsTheTensorsOfOtherPartsBitForBit) {
  run(job_for({folder_export("gptq", folder_ / "gptq"), folder_export("awq", folder_ / "awq"),
               folder_export("compressed-tensors", folder_ / "ct")}));
  const io::SafetensorsCheckpoint original(model());
  for (const char* format : {"gptq", "awq", "ct"}) {
    const io::SafetensorsCheckpoint written(folder_ / format);
    int carried = 0;
    for (const io::TensorRef& tensor : original.tensors()) {
      if (is_of_text(tensor.name)) continue;
      const io::TensorRef* copy = written.find(tensor.name);
      ASSERT_NE(copy, nullptr) << tensor.name;
      EXPECT_TRUE(std::ranges::equal(copy->bytes, tensor.bytes)) << tensor.name;
      ++carried;
    }
    EXPECT_GT(carried, 0);
    for (const verify::Finding& finding : verify::verify_artifact({.artifact = folder_ / format}))
      EXPECT_NE(finding.verdict, verify::Finding::Verdict::kFault) << finding.message;
  }
}

// Loaders give modules other names than files do: "model.visual" and "visual",
// "model.language_model" and "language_model.model".
TEST_P(Wrapper, ItsSettingsFitTheNamesOfEveryLoader) {
  job::Job job = job_for({folder_export("compressed-tensors", folder_ / "ct")});
  job.quantization.grid.rules = {{.match = "*.0.mlp.down_proj", .skip = true}};
  run(job);
  const io::Json config = io::read_json(folder_ / "ct" / "config.json");
  EXPECT_NE(config.find("text_config"), nullptr);
  std::vector<text::Regex> ignored;
  for (const io::Json& pattern : config.at("quantization_config").at("ignore").elements())
    if (pattern.string().starts_with("re:"))
      ignored.emplace_back(pattern.string().substr(3), text::Regex::Options{.anchored = true});
  const auto is_ignored = [&](const std::string& module) {
    return std::any_of(ignored.begin(), ignored.end(),
                       [&](const text::Regex& regex) { return regex.matches(module); });
  };
  for (const std::string prefix : {"model.language_model.", "language_model.model."}) {
    EXPECT_TRUE(is_ignored(prefix + "layers.0.mlp.down_proj"));
    EXPECT_FALSE(is_ignored(prefix + "layers.1.mlp.down_proj"));
  }
  for (const std::string prefix : {"", "model."})
    EXPECT_TRUE(is_ignored(prefix + (std::string(GetParam()).starts_with("qwen3")
                                         ? "visual.blocks.0.attn.qkv"
                                         : "vision_tower.transformer.layers.0.attention.k_proj")));
}

TEST_P(Wrapper, AGgufHasTheLanguageModelAlone) {
  formats::ExportRequest request;
  request.format = "gguf";
  request.path = folder_ / "out.gguf";
  request.type = "F16";
  run(job_for({request}));
  const io::GgufFile file(folder_ / "out.gguf");
  for (const io::GgufTensor& tensor : file.tensors())
    EXPECT_TRUE(tensor.name.starts_with("blk.") || tensor.name.starts_with("token_embd") ||
                tensor.name.starts_with("output"))
        << tensor.name;
  if (std::string(GetParam()) != "qwen3_vl") return;
  EXPECT_EQ(file.string("general.architecture"), "qwen3vl");
  EXPECT_EQ(file.integer("qwen3vl.n_deepstack_layers"), 1);
}

}  // namespace
}  // namespace calque::pipeline
