#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/core/matrix.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::formats {

// One stored tensor (or module, for GPTQ's four tensors together), for `inspect` and size tables.
struct StoredTensor {
  std::string name;  // Hugging Face name of the weight ("....q_proj.weight"), or the file's own if
                     // it has none
  std::string stored_as;     // "BF16", "Q4_0", "GPTQ 4 bit g128 sym"
  std::vector<Index> shape;  // of the weight [out, in]
  std::uint64_t bytes = 0;
};

// A plain Hugging Face folder, a GPTQ (v1 or v2), AWQ (GEMM) or compressed-tensors (pack-quantized)
// folder, this and other tools', every module with its own settings, or a GGUF file, opened as one
// thing: weights by Hugging Face name, dequantized. GGUF's Q/K row permutation is undone.
class ArtifactReader : public model::WeightSource {
 public:
  virtual const std::string& format()
      const = 0;  // "safetensors", "gptq", "gptq_v2", "awq", "compressed-tensors", "gguf"
  virtual const model::ModelConfig& config() const = 0;
  virtual std::vector<StoredTensor> tensors() const = 0;
  // Codes, scales and offsets exactly as stored; nullopt for a tensor that is not quantized.
  virtual std::optional<quant::QuantizedMatrix> quantized(std::string_view tensor_name) const = 0;
  virtual std::uint64_t file_bytes() const = 0;  // weights files on disk, headers included

  // 8 * bytes of all tensors / elements of all weights.
  double bits_per_weight() const;
};

// What holds the weights of the artifact that was written to `path`: `path` itself, or the first of
// the shards that a GGUF export was split into.
std::filesystem::path weights_path(const std::filesystem::path& path);
// What there is already where the export is to be written: the file or folder, shards of that name.
std::vector<std::filesystem::path> files_at(const ExportRequest& request);
// Partial files or folders of such an export that its writer has not finished.
std::vector<std::filesystem::path> partial_files_at(const ExportRequest& request);

// Decides by content; opens weights_path(path). Error(kInput) if that is none of these, or damaged:
// names file, tensor, values.
std::unique_ptr<ArtifactReader> open_artifact(const std::filesystem::path& path);

}  // namespace calque::formats
