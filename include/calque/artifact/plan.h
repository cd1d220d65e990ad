#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "calque/io/safetensors.h"
#include "calque/model/family.h"
#include "calque/quant/grid.h"

namespace calque::artifact {

// How the linears of the blocks are to be quantized, for formats that leave it open (GPTQ). GGUF
// types decide by themselves.
struct QuantizationRequest {
  int bits = 4;
  Index group_size = 128;
  bool sym = true;
};

// One thing to write.
struct ExportRequest {
  std::string format;          // "gptq", "gguf"; see formats()
  std::filesystem::path path;  // gptq: the folder; gguf: the file
  bool overwrite = false;
  // gptq
  std::string checkpoint_format =
      "auto";  // "gptq" (v1), "gptq_v2", "auto": v1 when symmetric, else v2
  std::uint64_t max_shard_bytes = 5'000'000'000;
  // gguf
  std::string type = "Q4_0";  // of the blocks' matrices
  std::string embedding_type =
      "Q8_0";  // used when `type` is quantized; F16/BF16/F32 exports store everything as `type`
  std::string output_type = "Q8_0";
  std::string pre;  // overrides tokenizer.ggml.pre
};

// What happens to one tensor of the checkpoint.
struct TensorPlan {
  model::TensorSpec tensor;
  bool in_block_linear = false;     // the weight of a linear with an input site
  std::optional<quant::Grid> grid;  // rounded onto this; nullopt: copied
  std::string stored_as;            // "Q4_0", "F16", "GPTQ 4 bit g128"
  std::uint64_t bytes = 0;          // exact, tensor data in the artifact
};

struct ExportPlan {
  ExportRequest request;
  std::vector<TensorPlan> tensors;  // every tensor of the family once, in family order
  std::uint64_t tensor_bytes = 0;   // sum
  double bits_per_weight =
      0;  // 8 * tensor_bytes / elements of all tensors: embeddings, head and scales included

  const TensorPlan& at(const std::string& tensor_name) const;
};

// Decides everything for one export, from headers alone. Collects all reasons for refusal before it
// throws one Error(kConfig): group size that divides no module (E131, with the sizes that would fit
// all), K or N not a multiple of 32 for GPTQ, bits the format has no room for (E121), unknown GGUF
// type (with the nearest name), rows that are not whole blocks of the type (E132).
ExportPlan plan_export(const model::FamilySpec& family, const io::SafetensorsCheckpoint& checkpoint,
                       const QuantizationRequest& quantization, const ExportRequest& request);

// One row a format, for --help and the job file.
struct FormatInfo {
  std::string_view name;
  std::string_view summary;
};
const std::vector<FormatInfo>& formats();

}  // namespace calque::artifact
