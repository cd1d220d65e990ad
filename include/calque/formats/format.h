#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/planned_files.h"
#include "calque/formats/writer.h"

namespace calque::formats {

class Refusals;
struct PackedFormat;
struct PlanInputs;

// Decides one tensor after the other; what concerns them all was decided when it was made.
using TensorPlanner = std::function<TensorPlan(const model::TensorSpec&, bool in_block_linear)>;

// One export format: what others ask of it, and what is done with it. Each has a file of its own
// in src/formats that makes its row, and a line in formats.cpp; nothing else names a format.
struct Format {
  std::string_view name;         // in job files: "compressed-tensors"
  std::string_view summary;      // a line for --help
  std::string_view label;        // in tables and on cards: "GPTQ"
  std::string_view short_label;  // in names of folders: "CT"

  // True: a folder as Hugging Face's. Names and dtypes of what is not quantized stay, settings and
  // the tokenizer's files lie beside the weights. False: a file (or shards) in llama.cpp's manner.
  // Tensors have its names and its dtypes, experts are stacked, the tokenizer is inside.
  bool is_folder = true;
  // True: matrices are stored in ggml's blocks, of the types that ExportRequest::type stands for,
  // and importance weighs their errors. False: in codes and scales of groups, as
  // QuantizationRequest says.
  bool has_block_types = false;
  bool packs_on_device = false;  // Operation::kPackBits
  // Choices of ExportRequest::checkpoint_format; empty: there is nothing to choose.
  std::vector<std::string_view> checkpoint_formats = {};
  bool has_desc_act = false;  // ExportRequest::desc_act

  std::string_view run_command = "vllm serve {}";  // {}: the artifact, quoted for a shell

  const PackedFormat* packed = nullptr;  // of a folder of packed linears (packed_format.h)

  // `check` collects every refusal; `planner` may rely on there being none, and on its inputs to
  // outlive the result.
  void (*check)(const PlanInputs&, Refusals&) = nullptr;
  TensorPlanner (*planner)(const PlanInputs&) = nullptr;
  std::vector<std::string> (*remarks)(const PlanInputs&, const std::vector<TensorPlan>&) = nullptr;
  std::unique_ptr<ArtifactWriter> (*open)(const ExportPlan&, const WriterInputs&) = nullptr;
  std::vector<PlannedFile> (*files)(const ExportPlan&, const WriterInputs&) = nullptr;
};

// In the order of formats.cpp, for --help and the job file.
const std::vector<const Format*>& formats();
// Null if there is none of that name.
const Format* find_format(std::string_view name);
// Error(kConfig, "E122") with the nearest name if there is none.
const Format& format_named(std::string_view name);
inline const Format& format_of(const ExportRequest& request) {
  return format_named(request.format);
}

// What a card says under "How to run": the commands of the runtimes that load this artifact, and
// what of it they do not load.
std::string runtime_notes(const ExportPlan& plan);
// What they do not load, in one sentence; "": nothing is known to be in the way.
std::string runtime_limit(const ExportPlan& plan);

}  // namespace calque::formats
