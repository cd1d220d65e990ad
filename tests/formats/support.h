#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/matrix.h"
#include "calque/formats/plan.h"
#include "calque/formats/reader.h"
#include "calque/formats/writer.h"
#include "calque/io/safetensors.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "calque/quant/quantized_matrix.h"
#include "calque/text/vocabulary.h"

namespace calque::formats::testing {

std::filesystem::path fixture(const std::string& name);

// Expected values of a quantized fixture, by Hugging Face name: sha256 of the decoded fp32 values.
std::map<std::string, std::string> expected_sha256(const std::filesystem::path& json);

std::string sha256_of(const Matrix<float>& values);
// The kind, code and message of the Error that `body` throws; fails the test if it throws none.
Error error_of(const std::function<void()>& body);

// A family with random weights (fixed seed) in a folder: config.json, model.safetensors, and two
// side files. The members borrow from each other.
class TinyModel {
 public:
  struct Options {
    std::string architecture = "LlamaForCausalLM";
    Index hidden = 64;
    Index intermediate = 96;
    Index heads = 2;
    Index kv_heads = 1;
    Index layers = 2;
    Index vocab = 40;
    bool tied = false;
    bool attention_bias = false;
    std::string rope_scaling = "null";  // JSON
    DType dtype = DType::kBF16;
  };
  TinyModel(const std::filesystem::path& folder, const Options& options);

  const std::filesystem::path& folder() const { return folder_; }
  const model::FamilySpec& family() const { return family_; }
  const model::CheckpointSource& source() const { return source_; }
  ExportPlan plan(const ExportRequest& request, const QuantizationRequest& quantization = {}) const;
  WriterInputs inputs(const text::Vocabulary* vocabulary = nullptr) const;

 private:
  std::filesystem::path folder_;
  model::FamilySpec family_;
  model::CheckpointSource source_;
};

// The plan of a Llama of any size, given as the keys of its config.json. Plans that copy nothing
// read nothing but shapes, so a large model needs no weights.
ExportPlan plan_of_sizes(const std::string& sizes, const ExportRequest& request,
                         const QuantizationRequest& quantization = {});

// "Q4_K", "F16": as the plan stores the weight of a layer's module, "mlp.up_proj".
inline std::string type_of(const ExportPlan& plan, Index layer, const std::string& module) {
  return plan.at("model.layers." + std::to_string(layer) + "." + module + ".weight").stored_as;
}

// The largest magnitude of inputs in random matrices of floating-point numbers.
inline constexpr float kInputPeak = 3.5f;

// Random codes, scales and offsets on `grid`, exactly storable (fixed seed). Scales take both signs
// where the grid allows it. Of a grid with `block`: random weights, rounded.
quant::QuantizedMatrix random_quantized(const quant::Grid& grid, Index N, Index K,
                                        std::uint32_t seed);

// Writes the whole plan with random quantized matrices, finishes, and returns what was written.
std::map<std::string, quant::QuantizedMatrix> write_random(const ExportPlan& plan,
                                                           const WriterInputs& inputs);

// Same codes, same scales and offsets bit for bit, same groups.
void expect_same(const quant::QuantizedMatrix& actual, const quant::QuantizedMatrix& expected);

// As many tokens as the tiny models have rows.
text::Vocabulary tiny_vocabulary(Index size);

}  // namespace calque::formats::testing
