#pragma once

#include <filesystem>
#include <memory>

#include "calque/io/gguf.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"

namespace calque::formats {

// A model to start from.
struct OpenedModel {
  std::unique_ptr<model::ModelSource> weights;
  model::ModelConfig config;
  io::GgufMetadata metadata;  // of a GGUF file, for files made from it; empty for a folder
};

// A Hugging Face folder of unquantized safetensors, or a GGUF file: its tensors under Hugging
// Face's names and in its order of rows, F16 and BF16 as they are, everything else as F32.
// Error(kInput): neither of them, damaged, of an unknown architecture, or "E169" quantized, naming
// the types, unless `allow_requantize`.
OpenedModel open_model(const std::filesystem::path& path, bool allow_requantize = false);

// Such a model as one of the families that calque knows: what planning and every pass read.
struct SourceModel {
  // Errors as open_model; "E1xx" of a family that is not known or whose tensors differ.
  explicit SourceModel(const std::filesystem::path& path, bool allow_requantize = false);

  std::unique_ptr<model::ModelSource> weights;
  model::FamilySpec family;
  io::GgufMetadata metadata;  // of a GGUF file; empty for a folder

  bool is_gguf() const { return !metadata.empty(); }
  double bits_per_weight() const;  // as stored

 private:
  explicit SourceModel(OpenedModel opened);
};

}  // namespace calque::formats
