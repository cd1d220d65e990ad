#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "support/paths.h"

namespace calque::model {

// A Hugging Face folder opened for tests.
struct ModelFolder {
  explicit ModelFolder(const std::filesystem::path& folder)
      : ModelFolder(folder, load_config(folder)) {}
  ModelFolder(const std::filesystem::path& folder, const ModelConfig& as)
      : source(folder, as.stacked_experts),
        config(with_names(source, as)),
        family(family_of(config)) {
    carry_others(source, family);
  }

  CheckpointSource source;
  ModelConfig config;
  FamilySpec family;

 private:
  static ModelConfig with_names(const ModelSource& source, ModelConfig config) {
    settle_names(source, config);
    return config;
  }
};

inline std::filesystem::path family_folder(const std::string& name) {
  return std::filesystem::path(test::fixtures()) / "families" / name;
}

inline const std::vector<std::string>& family_folders() {
  static const std::vector<std::string> names{
      "llama",      "llama3_rope", "llama_bias",   "mistral_sliding", "qwen2",     "qwen3",
      "gemma2",     "gemma3",      "phi3",         "mixtral",         "qwen2_moe", "qwen3_moe",
      "ministral3", "phi4_mini",   "seed_oss",     "smollm3",         "qwen3_vl",  "mistral3_vl",
      "glm4_moe",   "minimax_m2",  "ernie4_5_moe", "olmo3",           "exaone4",   "qwen3_next",
      "qwen3_5_vl", "gpt_oss",     "gemma4_vl",    "gemma4_moe",      "gemma4_e"};
  return names;
}

// The first block with experts, or the first.
inline const BlockSpec& telling_block(const FamilySpec& family) {
  for (const BlockSpec& block : family.blocks)
    if (block.has_site("expert_in")) return block;
  return family.blocks.front();
}

// The folders whose references were computed with exact rotary frequencies (README.md there).
inline bool has_exact_frequencies(const std::string& name) {
  const auto& names = family_folders();
  return std::find(names.begin(), names.end(), name) >=
         std::find(names.begin(), names.end(), "ministral3");
}

// The message of the Error that `body` throws; fails the test if it throws none.
template <typename Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no calque::Error was thrown";
  return {};
}

}  // namespace calque::model
