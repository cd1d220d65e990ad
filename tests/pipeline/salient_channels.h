#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/model/weight_source.h"
#include "verify/probe.h"

namespace calque::pipeline {

// Fixtures of the families whose folds take channel scales.
inline constexpr const char* kFoldingFamilies[] = {
    "llama",      "llama3_rope", "llama_bias",   "mistral_sliding", "qwen2",     "qwen3",
    "phi3",       "gemma2",      "gemma3",       "mixtral",         "qwen2_moe", "qwen3_moe",
    "ministral3", "phi4_mini",   "seed_oss",     "smollm3",         "qwen3_vl",  "mistral3_vl",
    "glm4_moe",   "minimax_m2",  "ernie4_5_moe", "olmo3",           "exaone4",   "qwen3_next",
    "qwen3_5_vl", "gemma4_vl",   "gemma4_moe",   "gemma4_e",        "gpt_oss"};

inline bool ends_with_any(const std::string& name, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](const char* ending) { return name.ends_with(ending); });
}

// A family's model with every sixteenth channel of its blocks' activations eight times as large, so
// that channel scales can gain something at every site: changes norms, and the rows that make the
// inputs of o and down. The function differs from the fixture's, but it is as good a model.
inline void plant_salient_channels(const std::filesystem::path& from,
                                   const std::filesystem::path& to) {
  std::filesystem::create_directories(to);
  io::copy_file(from / "config.json", to / "config.json");
  const io::SafetensorsCheckpoint source(from);
  std::vector<io::TensorDeclaration> declarations;
  for (const io::TensorRef& tensor : source.tensors())
    declarations.push_back({tensor.name, tensor.dtype, tensor.shape});
  io::SafetensorsWriter writer(to, declarations);
  const std::string family = from.filename().string();
  const bool plus_one =
      family == "gemma2" || family == "gemma3" || family == "qwen3_next" || family == "qwen3_5_vl";
  // Without norms before the halves, nothing could absorb scales of what they read.
  const auto& tensors = source.tensors();
  const bool pre_norms = std::any_of(tensors.begin(), tensors.end(), [](const auto& tensor) {
    return tensor.name.ends_with("input_layernorm.weight");
  });
  for (const io::TensorRef& tensor : source.tensors()) {
    const bool norm =
        pre_norms &&
        ends_with_any(tensor.name,
                      {"input_layernorm.weight", "post_attention_layernorm.weight",
                       "pre_feedforward_layernorm.weight", "pre_feedforward_layernorm_2.weight"});
    const bool rows = ends_with_any(tensor.name, {"v_proj.weight", "v_proj.bias", "up_proj.weight",
                                                  "up_proj.bias", "w3.weight", "qkv_proj.weight"});
    const bool net = tensor.name.ends_with("linear_attn.norm.weight");
    if (!norm && !rows && !net) {
      writer.write(tensor.name, tensor.bytes);
      continue;
    }
    Matrix<float> values = model::CheckpointSource(source).load(tensor.name);
    for (Index r = 0; r < values.rows(); ++r)
      for (Index c = 0; c < values.cols(); ++c) {
        const Index channel = values.rows() == 1 ? c : r;
        if (channel % 16 != 3) continue;
        if (net) values(r, c) *= 8;
        if (norm) values(r, c) = plus_one ? 8 * (1 + values(r, c)) - 1 : 8 * values(r, c);
        if (rows) values(r, c) *= 8;
      }
    std::vector<std::byte> bytes(tensor.bytes.size());
    convert_from_float(values.data(), tensor.dtype, static_cast<std::size_t>(values.size()),
                       bytes.data());
    writer.write(tensor.name, bytes);
  }
  writer.finish();
}

// Distance of an artifact's logits from the model's at a typical position: the median over
// positions of |difference| / |logits|. (A mean would be dominated by the few positions where
// rounding sends a token to another expert.)
inline double typical_logit_error(const std::filesystem::path& artifact,
                                  const std::filesystem::path& model,
                                  const std::vector<std::int32_t>& ids) {
  const auto original = formats::open_artifact(model);
  const auto rounded = formats::open_artifact(artifact);
  const Matrix<float> expected_TV = verify::prompt_logits(*original, original->config(), ids, 0);
  const Matrix<float> actual_TV = verify::prompt_logits(*rounded, rounded->config(), ids, 0);
  std::vector<double> errors;
  for (Index t = 0; t < expected_TV.rows(); ++t) {
    double difference = 0, size = 0;
    for (Index v = 0; v < expected_TV.cols(); ++v) {
      difference += std::pow(static_cast<double>(actual_TV(t, v)) - expected_TV(t, v), 2);
      size += std::pow(static_cast<double>(expected_TV(t, v)), 2);
    }
    errors.push_back(std::sqrt(difference / size));
  }
  std::nth_element(errors.begin(), errors.begin() + errors.size() / 2, errors.end());
  return errors[errors.size() / 2];
}

}  // namespace calque::pipeline
