// Jobs whose numbers are none, do not fit, or are missing: what is refused, by which name, and that
// nothing is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/model/weight_source.h"
#include "support/damage.h"
#include "support/demo_job.h"
#include "support/paths.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The tiny model, with one element replaced.
class OneElement : public ::testing::Test {
 protected:
  OneElement() { write_tiny_model(folder_ / "model"); }

  void put(const std::string& tensor, std::size_t at, float value) {
    test::overwrite_element(folder_ / "model/model.safetensors", tensor, at, value);
  }

  job::Job job(const std::string& format, const std::string& type) const {
    job::Job job;
    job.name = "values";
    job.model.path = folder_ / "model";
    job.quantization.set_method("rtn");
    job.quantization.grid = {.bits = 4, .group_size = 32, .sym = true};
    job.exports = {folder_export(format, folder_ / "out")};
    job.exports[0].type = type;
    job.runtime.forward_dtype = "float32";
    return job;
  }
  job::Job calibrated(job::Job job) const {
    job.quantization.set_method("gptq");
    text::TextSource prose;
    prose.path = imatrix_text();
    job.calibration.sources = {prose};
    job.calibration.packing.n_samples = 8;
    job.calibration.packing.seqlen = 64;
    return job;
  }
  bool left_something() const { return fs::exists(folder_ / "out"); }

  TempFolder folder_;
};

// The last rows of embedding and head, which no text reaches.
TEST_F(OneElement, InAnyCopiedTensorIsRefusedByName) {
  const Index vocabulary = model::load_config(folder_ / "model").vocab_size;
  const Index width = model::load_config(folder_ / "model").hidden_size;
  const auto last_row = static_cast<std::size_t>((vocabulary - 1) * width);
  struct Place {
    std::string tensor;
    std::size_t at;
    std::string text;
  };
  const std::vector<Place> places = {
      {"model.embed_tokens.weight", last_row + 3,
       ": row " + std::to_string(vocabulary - 1) + ", column 3 is "},
      {"lm_head.weight", last_row + 5,
       ": row " + std::to_string(vocabulary - 1) + ", column 5 is "},
      {"model.norm.weight", 9, ": row 0, column 9 is "},
      {"model.layers.1.input_layernorm.weight", 7, ": row 0, column 7 is "}};
  for (const Place& place : places) {
    const model::CheckpointSource source(folder_ / "model");
    if (!source.has(place.tensor)) continue;
    float before = 0;
    convert_to_float(source.bytes(place.tensor).get().data() + 2 * place.at, DType::kF16, 1,
                     &before);
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
      put(place.tensor, place.at, value);
      for (const auto& [format, type] :
           {std::pair("gptq", ""), std::pair("awq", ""), std::pair("compressed-tensors", ""),
            std::pair("gguf", "F16"), std::pair("gguf", "F32"), std::pair("gguf", "BF16"),
            std::pair("gguf", "Q8_0")}) {
        EXPECT_THAT(message_of(job(format, type)),
                    AllOf(StartsWith("E164 "), HasSubstr(place.tensor + place.text)))
            << format << " " << type << " " << value;
        EXPECT_FALSE(left_something());
      }
      EXPECT_THAT(message_of(calibrated(job("gptq", ""))),
                  AllOf(StartsWith("E164 "), HasSubstr(place.tensor + place.text)));
      EXPECT_FALSE(left_something());
    }
    put(place.tensor, place.at, before);
  }
  EXPECT_EQ(message_of(job("gptq", "")), "no error");
}

// Weights at the end of fp32's range in a value projection: sums of their products overflow.
TEST_F(OneElement, ThatOverflowsActivationsStopsTheJob) {
  const io::SafetensorsCheckpoint checkpoint(folder_ / "model");
  std::vector<io::TensorDeclaration> declared;
  for (const io::TensorRef& tensor : checkpoint.tensors())
    declared.push_back({tensor.name, DType::kF32, tensor.shape});
  fs::create_directories(folder_ / "wide");
  for (const char* name : {"config.json", "tokenizer.model", "tokenizer_config.json"})
    io::copy_file(folder_ / "model" / name, folder_ / "wide" / name);
  io::SafetensorsWriter writer(folder_ / "wide", declared);
  for (const io::TensorRef& tensor : checkpoint.tensors()) {
    Matrix<float> values = model::CheckpointSource(checkpoint).load(tensor.name);
    if (tensor.name == "model.layers.1.self_attn.v_proj.weight")
      for (Index k = 0; k < values.cols(); ++k) values(3, k) = k % 2 == 0 ? 3.3e38f : -3.3e38f;
    writer.write(tensor.name,
                 std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size()))));
  }
  writer.finish();

  job::Job job = calibrated(this->job("gptq", ""));
  job.model.path = folder_ / "wide";
  formats::ModuleRule unrounded;  // no grid holds such weights
  unrounded.match = "model.layers.1.self_attn.v_proj";
  unrounded.skip = true;
  job.quantization.grid.rules = {unrounded};
  job.quantization.fallback_max_modules = 100;
  EXPECT_THAT(message_of(job),
              AllOf(StartsWith("E403 "), HasSubstr("attn_out of block model.layers.1"),
                    HasSubstr("token 0 of sequence 0")));
  EXPECT_FALSE(left_something());

  calib::ImatrixRequest request = golden_request(folder_ / "wide");
  record::Observer silent;
  try {
    calib::collect_imatrix(request, silent);
    ADD_FAILURE() << "the importance matrix was measured";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E403");
    EXPECT_THAT(error.what(), HasSubstr("attn_out of block model.layers.1"));
  }
}

// A mixture of experts whose router never chooses the last four of eight.
class IdleExperts : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr Index kIdle = 4;

  IdleExperts() {
    const fs::path from = fs::path(test::fixtures()) / "families/qwen3_moe";
    fs::create_directories(folder_ / "model");
    io::copy_file(from / "config.json", folder_ / "model/config.json");
    copy_tokenizer(folder_ / "model");  // it has as many tokens
    const io::SafetensorsCheckpoint source(from);
    std::vector<io::TensorDeclaration> declared;
    for (const io::TensorRef& tensor : source.tensors())
      declared.push_back({tensor.name, tensor.dtype, tensor.shape});
    io::SafetensorsWriter writer(folder_ / "model", declared);
    for (const io::TensorRef& tensor : source.tensors()) {
      Matrix<float> values = model::CheckpointSource(source).load(tensor.name);
      change(tensor.name, values);
      std::vector<std::byte> bytes(tensor.bytes.size());
      convert_from_float(values.data(), tensor.dtype, static_cast<std::size_t>(values.size()),
                         bytes.data());
      writer.write(tensor.name, bytes);
    }
    writer.finish();
  }

  // Two experts have the largest logit, and two the smallest: the other way round where the input's
  // sign is the other. The idle ones have 0, in between. Loud channels are for AWQ to scale.
  static void change(const std::string& name, Matrix<float>& values) {
    if (name.ends_with("mlp.gate.weight")) {
      for (Index k = 0; k < values.cols(); ++k) {
        const float u = (k * 37 % 11) / 5.0f - 1.0f;
        const float rows[] = {8 * u, -8 * u, 7 * u, -7 * u};
        for (Index e = 0; e < values.rows(); ++e) values(e, k) = e < 4 ? rows[e] : 0;
      }
    }
    if (name.ends_with("post_attention_layernorm.weight"))
      for (Index k = 0; k < 6; ++k) values(0, k) *= 20;
  }

  job::Job job(const std::string& method) const {
    job::Job job;
    job.name = "idle";
    job.model.path = folder_ / "model";
    job.calibration.tokens = tokens();
    job.calibration.packing.n_samples = 8;
    job.calibration.packing.seqlen = 48;
    job.runtime.forward_dtype = "float32";
    job.quantization.grid = {.bits = 4, .group_size = 32, .sym = true};
    job.quantization.set_method(method);
    job.exports = {folder_export("gptq", folder_ / "out")};
    return job;
  }

  fs::path tokens() const {
    if (!fs::exists(folder_ / "ids")) {
      std::vector<std::int32_t> ids(8 * 48);
      for (std::size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<std::int32_t>((37 * i * i + 11 * i) % 320);
      fs::create_directories(folder_ / "ids");
      io::SafetensorsWriter writer(folder_ / "ids", {{"input_ids", DType::kI32, {8, 48}}});
      writer.write("input_ids", std::as_bytes(std::span(ids)));
      writer.finish();
    }
    return folder_ / "ids/model.safetensors";
  }

  TempFolder folder_;
};

// Two layers, four idle experts, three matrices each.
TEST_P(IdleExperts, AreFallbacksWhateverTheMethod) {
  EXPECT_THAT(message_of(job(GetParam())),
              AllOf(StartsWith("E401 "), HasSubstr("mlp.experts.4.gate_proj"),
                    HasSubstr("no calibration statistics")));
  EXPECT_FALSE(fs::exists(folder_ / "out"));

  job::Job allowed = job(GetParam());
  allowed.quantization.fallback_max_modules = 24;
  const record::Report report = run(allowed);
  int fallbacks = 0;
  for (const record::ModuleReport& module : report.artifacts[0].modules)
    fallbacks += module.rounding.fallback_reason == "no calibration statistics";
  EXPECT_EQ(fallbacks, 24);
  EXPECT_EQ(report.warnings.size(), 24u);

  allowed.quantization.fallback_max_modules = 23;
  allowed.exports[0].path = folder_ / "again";
  EXPECT_THAT(message_of(allowed), StartsWith("E401 "));
}

// down_proj reads no fold but its own: its values are the original's to the grid's precision. A
// symmetric group of 4 bits has steps of at most 1/7 of its largest weight, so errors of uniform
// size have a root mean square of 1/7/sqrt(12) = 4% of that, and of normal weights in groups of 32,
// whose largest is about twice the root mean square, 8% of the weights.
TEST_P(IdleExperts, AreRoundedAsWellAsWithoutStatistics) {
  job::Job allowed = job(GetParam());
  allowed.quantization.fallback_max_modules = 24;
  run(allowed);
  const auto rounded = formats::open_artifact(folder_ / "out");
  const model::CheckpointSource original(folder_ / "model");
  for (Index e = kIdle; e < 8; ++e) {
    const std::string name =
        "model.layers.1.mlp.experts." + std::to_string(e) + ".down_proj.weight";
    const Matrix<float> expected = original.load(name);
    const Matrix<float> actual = rounded->load(name);
    double error = 0, energy = 0;
    for (Index i = 0; i < expected.size(); ++i) {
      error += std::pow(static_cast<double>(actual.data()[i]) - expected.data()[i], 2);
      energy += std::pow(static_cast<double>(expected.data()[i]), 2);
    }
    EXPECT_LT(std::sqrt(error / energy), 0.12) << name;
  }
}

// GPTQ has no Hessian for a grid of groups (Q4_0), nor for blocks with scales that are codes or
// levels that are a table (IQ4_NL). MXFP4 is rounded without statistics in any case.
TEST_P(IdleExperts, AreFallbacksInEveryGgufTypeThatTakesStatistics) {
  for (const char* type : {"Q4_0", "Q5_1", "Q8_0", "IQ4_NL"}) {
    job::Job job = this->job(GetParam());
    job.exports = {folder_export("gguf", folder_ / "out.gguf")};
    job.exports[0].type = type;
    job.exports[0].pure = true;
    EXPECT_THAT(message_of(job), AllOf(StartsWith("E401 "), HasSubstr("no calibration statistics")))
        << type;
    EXPECT_FALSE(fs::exists(folder_ / "out.gguf"));
    job.quantization.fallback_max_modules = 24;
    EXPECT_EQ(message_of(job), "no error") << type;
    fs::remove(folder_ / "out.gguf");
  }
  job::Job job = this->job(GetParam());
  job.exports = {folder_export("gguf", folder_ / "out.gguf")};
  job.exports[0].type = "MXFP4";
  job.exports[0].pure = true;
  EXPECT_EQ(message_of(job), "no error");
}

INSTANTIATE_TEST_SUITE_P(Methods, IdleExperts, ::testing::Values("gptq", "awq"));

}  // namespace
}  // namespace calque::pipeline
