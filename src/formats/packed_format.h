#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/exec.h"
#include "calque/formats/stored_folder.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "calque/quant/quantized_matrix.h"
#include "formats/folder_contents.h"
#include "formats/plan_inputs.h"

namespace calque::formats {

struct NamedBytes {
  std::string name;
  std::vector<std::byte> bytes;
};

// A module's contents: the grid of its weights, and how a server rounds its inputs.
struct StoredAs {
  StoredAs(const quant::Grid& weights, std::optional<InputGrid> rounded_inputs = std::nullopt)
      : grid(weights), inputs(rounded_inputs) {}
  quant::Grid grid;
  std::optional<InputGrid> inputs;
};

// Options of packing.
struct Packing {
  std::string checkpoint_format = "auto";          // ExportRequest::checkpoint_format
  bool all_sym = true;                             // every module of the folder is symmetric
  std::optional<InputGrid> inputs = std::nullopt;  // TensorPlan::inputs
  Exec exec = open_exec("cpu");                    // device, if Format::packs_on_device
};

// Settings of a quantized Hugging Face folder from config.json (or quantize_config.json).
struct PackedSettings {
  const Format* format = nullptr;
  std::string where;               // file, for messages
  std::string stored_format = {};  // the name that readers use, if it is not the format's
  int bits = 4;
  Index group_size = 128;
  std::optional<bool> sym;  // absent: the stored zero points decide
  bool desc_act = false;
  bool v2 = false;  // GPTQ: zero points are stored without the offset of 1
  std::optional<SmallFloat> number = std::nullopt;  // as in quant::Grid
  Index scale_rows = 1;
  std::optional<ScalePrecision> coded_scales = std::nullopt;  // as in quant::Grid
  std::optional<InputGrid> inputs = std::nullopt;
  // True if modules have settings of their own: bits, group_size and sym are then those of most
  // modules, and each module's tensors decide.
  bool mixed = false;
  // The config's settings of single modules, if they are more than tensors tell.
  std::shared_ptr<const ConfiguredModules> modules = nullptr;
  bool kv_scales = false;  // scales of an FP8 key/value cache are stored
};

// One quantized linear of a folder: the tensors that store it, and how to read them.
struct PackedModule {
  std::string weight_name;  // "....q_proj.weight"
  Index out_features = 0;
  Index in_features = 0;
  std::string stored_as;
  std::vector<std::string> parts;  // names of its tensors
  std::uint64_t bytes = 0;
  std::optional<InputGrid> inputs;  // a server rounds its inputs so
  std::function<quant::QuantizedMatrix()> unpack;
};

// The tensors of one packed module of a stored folder. Problems with them become faults.
class StoredParts {
 public:
  StoredParts(const StoredTensors& tensors, const ConfiguredModules* configured,
              std::vector<std::string>& faults)
      : tensors_(tensors), configured_(configured), faults_(faults) {}

  const io::TensorRef* find(const std::string& name) const { return tensors_.find(name); }
  // Finds the matrix `module`.`suffix`. Null, and a fault, if it is missing or not one of `dtypes`.
  const io::TensorRef* matrix(const std::string& module, const std::string& suffix,
                              const std::vector<DType>& dtypes);
  // The folder's settings, for what tensors leave open; null: there are none.
  const ConfiguredModules* configured() const { return configured_; }
  void add_fault(std::string fault) { faults_.push_back(std::move(fault)); }
  // Reports a fault that names the shapes of `parts` (null ones are left out).
  std::nullopt_t contradiction(const std::string& module,
                               const std::vector<const io::TensorRef*>& parts);

 private:
  const StoredTensors& tensors_;
  const ConfiguredModules* configured_;
  std::vector<std::string>& faults_;
};
// True if K inputs can form that number of groups, ceil(K / g), for some g.
bool fits_groups(const StoredModule& module);

// A folder format in which every quantized linear is packed into several tensors named after the
// module. Code shared by these formats (planning, writing, reading, checking) is in
// packed_plan.cpp, packed_writer.cpp, folder_reader.cpp and stored_folder.cpp; the differences are
// here.
struct PackedFormat {
  // Limits on writing.
  std::vector<int> widths;
  bool one_group_size = false;          // the same for all modules
  std::vector<Index> group_sizes = {};  // those that its loaders know; empty: any
  // Channels must come in multiples of these, to fill words.
  Index (*input_multiple)(const ModuleSettings&);
  Index (*output_multiple)(const ModuleSettings&);
  quant::Grid (*grid)(const PlanInputs&, const model::TensorSpec&, const ModuleSettings&);
  // Refuses what its loaders cannot load, whatever the export requires; null: nothing.
  void (*check)(const PlanInputs&, Refusals&) = nullptr;

  // The tensors of a weight [N, K], and their bytes, without rounding. Error(kInternal) for
  // anything that planning must prevent.
  std::vector<io::TensorDeclaration> (*declare)(const std::string& module, Index N, Index K,
                                                const StoredAs& stored);
  std::vector<NamedBytes> (*pack)(const std::string& module, const quant::QuantizedMatrix& q,
                                  const Packing& packing);

  // Limits on reading: widths in any tool's folders, and the variant if a name has several.
  std::vector<int> read_widths;
  std::string_view variant = {};  // "gemm"; "": there is only one
  // A tensor that every quantized module has and plain modules do not: ".qweight". Where it is
  // missing, another that most have finds the module, so that the fault can be told: "".
  std::string_view marker;
  std::string_view other_marker = "";
  // Checks a module from headers alone and prepares unpacking. Error(kInput) names tensor and
  // values. The result borrows from `checkpoint`.
  PackedModule (*open)(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                       const PackedSettings& settings);

  // A key of config.json that holds the same as quantization_config, which then names no method.
  std::string_view config_key = "";
  // Adds keys that its loaders need to the config.json of a model; null: none.
  void (*complete_config)(const model::ModelConfig&, io::Json& config) = nullptr;
  // Writes and reads quantization_config. Error(kInput) for values that calque does not read.
  io::Json (*write_config)(const FolderContents&, const Provenance&);
  bool writes_quantize_config = false;  // also as a file of its own, for older loaders
  PackedSettings (*read_config)(const io::Json&, const std::string& where);

  // Describes a module of a stored folder, for verification (stored_folder.h). Returns nullopt
  // after reporting a fault.
  std::optional<StoredModule> (*stored)(StoredParts&, const std::string& module);
  std::unique_ptr<ConfiguredModules> (*configured)(const io::Json&,
                                                   std::vector<std::string>& faults);

  // The embedding and the head are rounded as the linears of blocks, unless a rule skips them.
  bool rounds_embedding = false;

  // The "How to run" text for a folder of this name, of formats that vLLM, SGLang and transformers
  // do not load; null: they do, and the fields below are about them.
  std::string (*notes)(const std::string& folder) = nullptr;
  // The grids that vLLM's loaders accept, and advice for the others.
  bool (*vllm_loads)(const quant::Grid&) = nullptr;
  std::string_view vllm_advice = "";
  // A sentence on what SGLang and vLLM do not load in a folder of these widths; "" if nothing.
  std::string (*runtime_limit)(const std::vector<int>& bits, bool all_symmetric) = nullptr;
  std::string_view python_packages = "";  // needed by transformers
};

// Completes the row of a folder of packed linears with the shared planning and writing functions.
Format packed_row(Format facts);
std::unique_ptr<ArtifactWriter> open_packed_writer(const ExportPlan& plan,
                                                   const WriterInputs& inputs);
std::vector<PlannedFile> packed_files(const ExportPlan& plan, const WriterInputs& inputs);

// ---- Helpers that the formats share

// "....q_proj.weight" -> "....q_proj"
std::string module_of(std::string_view weight_name);
// Scales that are codes have their own precision.
quant::Grid basic_grid(const ModuleSettings& settings, ScalePrecision precision);
// Scales are binary16; if bfloat16 is asked for by name, numbers that are exact in both.
ScalePrecision half_precision(const ExportRequest& request);

// ---- Packing

// Zero points [N, G]: the middle code for a symmetric grid, and for a scale of 0, where every code
// decodes to 0. Error(kInternal) if a zero point is not a code.
Matrix<std::uint8_t> stored_zeros(const quant::QuantizedMatrix& q);
// Scales [N, G] as `dtype` (F16 or BF16) stores them. Error(kInternal) if that changes one.
std::vector<std::byte> stored_scales(MatrixView<const float> scales, DType dtype);
// Error(kInternal) if groups are not consecutive.
void require_consecutive_groups(const quant::QuantizedMatrix& q, std::string_view layout);
Matrix<float> transposed(MatrixView<const float> matrix);
Matrix<std::uint8_t> transposed(MatrixView<const std::uint8_t> matrix);

template <typename T>
std::vector<std::byte> bytes_of(const T* data, Index count) {
  const auto* first = reinterpret_cast<const std::byte*>(data);
  return {first, first + static_cast<std::size_t>(count) * sizeof(T)};
}
template <typename T>
std::vector<std::byte> bytes_of(const Matrix<T>& matrix) {
  return bytes_of(matrix.data(), matrix.size());
}

// ---- Unpacking

// The settings of one module with K inputs, codes that take `words` words for a vector of `count`
// codes, and `groups` groups. Uses the stated settings if they fit, or if the folder is not mixed;
// otherwise derives them from these numbers. Error(kInput), naming the module, if no width or group
// size fits.
PackedSettings settings_of_module(const PackedSettings& settings, const std::string& module,
                                  Index words, Index count, Index K, Index groups);
// The width, of those that the format's reader knows, at which `count` codes fill `words` words;
// the stated one first.
int width_of(const PackedSettings& settings, const std::string& module, Index words, Index count);
// The tensor `module`.`part`. Error(kInput) if it is missing, or not of rank 2 and one of `dtypes`.
const io::TensorRef& part_of(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                             const std::string& part, const std::vector<DType>& dtypes);
inline const std::vector<DType> kScaleTypes = {DType::kF16, DType::kBF16, DType::kF32};
// Error(kInput) unless `tensor` has this shape; `reason` explains the requirement.
void require_shape(const io::TensorRef& tensor, const std::vector<Index>& shape,
                   const std::string& reason);
// ceil(K / group_size); 1 for -1.
Index group_count(Index in_features, Index group_size);
// Builds a module from its parts; null ones are skipped.
PackedModule packed_module(const std::string& module, Index N, Index K, std::string stored_as,
                           const std::vector<const io::TensorRef*>& parts);
Matrix<std::int32_t> words_of(const io::TensorRef& tensor);
// [rows, cols] as fp32. Error(kInput) naming row and column if one is not finite.
Matrix<float> scales_of(const io::TensorRef& tensor);
ScalePrecision precision_of(DType dtype);
// Offsets -scale * zero for all groups; `zeros_NG` empty: the middle code.
Matrix<float> offsets_of(const Matrix<float>& scales_NG, const Matrix<std::uint8_t>& zeros_NG,
                         int bits);
// "FP8 per row", "FP8 per matrix", "FP8 128x128": weights that are floating-point numbers.
std::string number_text(SmallFloat number, Index group_size, Index scale_rows);
// ", inputs FP8 a token"; "" if they are not rounded.
std::string inputs_text(const std::optional<InputGrid>& inputs);
// "GPTQ 4 bit g128 sym"
std::string description(std::string_view layout, const PackedSettings& settings, bool sym);

}  // namespace calque::formats
