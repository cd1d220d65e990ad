#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/input_grid.h"
#include "calque/core/kv_scales.h"
#include "calque/core/matrix.h"
#include "calque/formats/plan.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::formats {

// One stored tensor, or a module with its packed tensors together; for `inspect` and size tables.
struct StoredTensor {
  std::string name;  // Hugging Face name of the weight ("....q_proj.weight"), or the file's own if
                     // it has none
  std::string stored_as;     // "BF16", "Q4_0", "GPTQ 4 bit g128 sym"
  std::vector<Index> shape;  // weight's shape [out, in]
  std::uint64_t bytes = 0;
};

// An artifact opened as one thing: weights by Hugging Face name, dequantized. Reads a plain Hugging
// Face folder, a GPTQ (v1 or v2), AWQ (GEMM), compressed-tensors or MLX folder, by
// calque or another tool, each module with its own settings, or a GGUF file. Undoes GGUF's row
// permutation of Q and K.
class ArtifactReader : public model::WeightSource {
 public:
  virtual const std::string& format()
      const = 0;  // "safetensors", "gptq", "gptq_v2", "awq", "compressed-tensors", "mlx", "gguf"
  virtual const model::ModelConfig& config() const = 0;
  virtual std::vector<StoredTensor> tensors() const = 0;
  // Codes, scales and offsets exactly as stored; nullopt for a tensor that is not quantized.
  // Columns are in the file's order (TensorSpec::gguf_columns).
  virtual std::optional<quant::QuantizedMatrix> quantized(std::string_view tensor_name) const = 0;
  // The roundings that a server does to the inputs of linears, by the weight's name.
  virtual InputGrids inputs() const { return {}; }
  // Scales of an FP8 key/value cache, by the layer; empty if the files have none.
  virtual KvNumbersByLayer kv_scales() const { return {}; }
  virtual std::uint64_t file_bytes() const = 0;  // weights files on disk, headers included

  // 8 * bytes of all tensors / elements of all weights.
  double bits_per_weight() const;
};

// The file or folder to open for the artifact written to `path`: `path` itself, or the first shard
// of a split GGUF export.
std::filesystem::path weights_path(const std::filesystem::path& path);
// Existing files at the export's path: the file or folder itself, and shards of that name.
std::vector<std::filesystem::path> files_at(const ExportRequest& request);
// Partial files or folders left by an unfinished writer of this export.
std::vector<std::filesystem::path> partial_files_at(const ExportRequest& request);

// Recognizes the format by content; opens weights_path(path). Error(kInput) if it is none of these
// or is damaged; the message names file, tensor and values.
std::unique_ptr<ArtifactReader> open_artifact(const std::filesystem::path& path);

}  // namespace calque::formats
