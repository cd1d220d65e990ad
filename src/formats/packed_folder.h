#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "calque/io/safetensors.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::formats {

// What config.json (or quantize_config.json) says about a quantized Hugging Face folder.
struct PackedSettings {
  enum class Layout { kGptq, kAwqGemm, kCompressedTensors };
  Layout layout = Layout::kGptq;
  std::string where;  // file, for messages
  int bits = 4;
  Index group_size = 128;
  std::optional<bool> sym;  // absent: what the stored zero points say
  bool desc_act = false;
  bool v2 = false;  // GPTQ: zero points stored as they are
  // Modules have settings of their own: bits, group_size and sym above are those of most, and the
  // tensors of each module tell what it has.
  bool mixed = false;
};

// One quantized linear of a folder: which tensors it is stored in, and how to read them.
struct PackedModule {
  std::string weight_name;  // "....q_proj.weight"
  Index out_features = 0;
  Index in_features = 0;
  std::string stored_as;
  std::vector<std::string> parts;  // names of its tensors
  std::uint64_t bytes = 0;
  std::function<quant::QuantizedMatrix()> unpack;
};

// Settings of the folder; nullopt for a plain checkpoint. Error(kInput) for a method, layout or
// width that calque does not read.
std::optional<PackedSettings> packed_settings(const std::filesystem::path& folder,
                                              const io::SafetensorsCheckpoint& checkpoint);

// Finds and checks every quantized linear, from headers alone: missing parts, dtypes and shapes
// that contradict the settings or each other are Error(kInput) naming tensor and values. The
// results borrow from `checkpoint`.
std::vector<PackedModule> packed_modules(const io::SafetensorsCheckpoint& checkpoint,
                                         const PackedSettings& settings);

// One layout each.
PackedModule gptq_module(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                         const PackedSettings& settings);
PackedModule awq_module(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                        const PackedSettings& settings);
PackedModule compressed_tensors_module(const io::SafetensorsCheckpoint& checkpoint,
                                       const std::string& module, const PackedSettings& settings);

// Helpers that the layouts share.

// The settings of one module with K inputs, its codes in words of `words` * 32 bits a vector of
// `count` codes, and `groups` groups: as stated if these fit, or the folder is not mixed; from the
// numbers otherwise. Error(kInput), naming the module, if no width or group size fits.
PackedSettings settings_of_module(const PackedSettings& settings, const std::string& module,
                                  Index words, Index count, Index K, Index groups);
// The width (2, 3, 4 or 8) at which `count` codes fill `words` words; the stated one first.
int width_of(const PackedSettings& settings, const std::string& module, Index words, Index count);

// The tensor `module`.`part`. Error(kInput) if it is missing, or not of rank 2 and one of `dtypes`.
const io::TensorRef& part_of(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                             const std::string& part, const std::vector<DType>& dtypes);
// Error(kInput) unless `tensor` has this shape; `reason` says what demands it.
void require_shape(const io::TensorRef& tensor, const std::vector<Index>& shape,
                   const std::string& reason);
// ceil(K / group_size); 1 for -1.
Index group_count(Index in_features, Index group_size);
// The parts of the module and their sizes.
void add_parts(PackedModule& module, const std::vector<const io::TensorRef*>& parts);
Matrix<std::int32_t> words_of(const io::TensorRef& tensor);
// [rows, cols] as fp32. Error(kInput) naming row and column if one is not finite.
Matrix<float> scales_of(const io::TensorRef& tensor);
ScalePrecision precision_of(DType dtype);
// Offsets -scale * zero for all groups; `zeros_NG` empty: the middle code.
Matrix<float> offsets_of(const Matrix<float>& scales_NG, const Matrix<std::uint8_t>& zeros_NG,
                         int bits);
Matrix<float> transposed(MatrixView<const float> matrix);
Matrix<std::uint8_t> transposed(MatrixView<const std::uint8_t> matrix);
// "GPTQ 4 bit g128 sym"
std::string description(std::string_view layout, const PackedSettings& settings, bool sym);

}  // namespace calque::formats
