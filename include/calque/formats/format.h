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

// Plans one tensor at a time. Whatever concerns all tensors was decided when the planner was made.
using TensorPlanner = std::function<TensorPlan(const model::TensorSpec&, bool in_block_linear)>;

// One export format as a table of its properties and functions. Each format has a file of its own
// in src/formats that defines its row, and a line in formats.cpp; nothing else names a format.
struct Format {
  std::string_view name;         // in job files: "compressed-tensors"
  std::string_view summary;      // one line for --help
  std::string_view label;        // in tables and on model cards: "GPTQ"
  std::string_view short_label;  // in folder names: "CT"

  // True: a Hugging Face folder. Names and dtypes of unquantized tensors stay; settings and
  // tokenizer files lie next to the weights. False: a llama.cpp file (or shards) with its tensor
  // names and dtypes, stacked experts, and the tokenizer inside.
  bool is_folder = true;
  // True: matrices are stored in ggml blocks, of the types that ExportRequest::type stands for, and
  // importance weights their errors. False: as codes and scales of groups, as QuantizationRequest
  // says.
  bool has_block_types = false;
  bool packs_on_device = false;  // uses Operation::kPackBits
  // Values of ExportRequest::checkpoint_format; empty if there is no choice.
  std::vector<std::string_view> checkpoint_formats = {};
  bool has_desc_act = false;  // supports ExportRequest::desc_act
  bool has_schemes = false;   // supports ExportRequest::scheme and activations

  std::string_view run_command = "vllm serve {}";  // {}: the artifact's path, quoted for a shell

  const PackedFormat* packed = nullptr;  // for folders of packed linears (packed_format.h)

  // `check` collects every refusal. `planner` may rely on there being none, and on its inputs
  // outliving the result.
  void (*check)(const PlanInputs&, Refusals&) = nullptr;
  TensorPlanner (*planner)(const PlanInputs&) = nullptr;
  std::vector<std::string> (*remarks)(const PlanInputs&, const std::vector<TensorPlan>&) = nullptr;
  std::unique_ptr<ArtifactWriter> (*open)(const ExportPlan&, const WriterInputs&) = nullptr;
  std::vector<PlannedFile> (*files)(const ExportPlan&, const WriterInputs&) = nullptr;
};

// All formats in the order of formats.cpp, for --help and the job file.
const std::vector<const Format*>& formats();
// Null if there is no format of that name.
const Format* find_format(std::string_view name);
// Error(kConfig, "E122") with the nearest name if there is no such format.
const Format& format_named(std::string_view name);
inline const Format& format_of(const ExportRequest& request) {
  return format_named(request.format);
}

// The "How to run" text of the model card: commands of the runtimes that load this artifact, and
// the parts that they do not load.
std::string runtime_notes(const ExportPlan& plan);
// One sentence on what those runtimes do not load; "" if no limit is known.
std::string runtime_limit(const ExportPlan& plan);

}  // namespace calque::formats
