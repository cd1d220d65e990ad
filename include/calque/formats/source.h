#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "calque/io/gguf.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"

namespace calque::formats {

// A model to start from.
struct OpenedModel {
  std::unique_ptr<model::ModelSource> weights;
  model::ModelConfig config;
  io::GgufMetadata metadata;          // the GGUF file's, for files made from it; empty for a folder
  std::vector<std::string> left_out;  // files of a folder that no export copies (side_files.h)
};

// Opens a Hugging Face folder of unquantized safetensors, or a GGUF file. Tensors of a GGUF file
// get Hugging Face's names and row order; F16 and BF16 stay, everything else becomes F32.
// Error(kInput) if it is neither, is damaged or has an unknown architecture; "E169", naming method
// or types and the way out, if it is quantized: a folder always, a GGUF file if `allow_requantize`
// is false.
OpenedModel open_model(const std::filesystem::path& path, bool allow_requantize = false);

// An opened model with its family: the input of planning and of every pass.
struct SourceModel {
  // Errors as open_model, and "E1xx" for an unknown family or tensors that do not match it.
  explicit SourceModel(const std::filesystem::path& path, bool allow_requantize = false);

  std::unique_ptr<model::ModelSource> weights;
  model::FamilySpec family;
  io::GgufMetadata metadata;  // the GGUF file's; empty for a folder
  std::vector<std::string> left_out;

  bool is_gguf() const { return !metadata.empty(); }
  double bits_per_weight() const;  // as stored

 private:
  explicit SourceModel(OpenedModel opened);
};

}  // namespace calque::formats
