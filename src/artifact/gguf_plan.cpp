#include <fmt/format.h>

#include <map>
#include <set>

#include "artifact/formats.h"
#include "artifact/ggml_blocks.h"
#include "artifact/gguf_types.h"
#include "artifact/wording.h"
#include "calque/core/names.h"

namespace calque::artifact {
namespace {

// The job file's word for the type of this tensor; vectors (norms, biases) are F32 in every file.
std::string type_name_for(const PlanInputs& inputs, const model::TensorSpec& tensor) {
  if (tensor.shape.size() < 2) return "F32";
  const GgufTypeChoice* blocks = find_gguf_type_choice(inputs.request.type);
  if (blocks == nullptr || !blocks->quantized) return inputs.request.type;
  // A tied embedding makes the logits too, so it takes the type of the output.
  if (tensor.name == inputs.family.head().name) return inputs.request.output_type;
  if (tensor.name == inputs.family.embedding.name) return inputs.request.embedding_type;
  return inputs.request.type;
}

void check_type_name(std::string_view key, const std::string& name, Refusals& refusals) {
  if (find_gguf_type_choice(name) != nullptr) return;
  std::vector<std::string_view> known;
  std::vector<std::string> listed;
  for (const GgufTypeChoice& choice : gguf_type_choices()) {
    known.push_back(choice.name);
    listed.emplace_back(choice.name);
  }
  refusals.add("E122", fmt::format("unknown GGUF {} '{}'; did you mean '{}'? calque writes {}.",
                                   key, name, nearest_name(name, known), alternatives(listed)));
}

void check_type_names(const ExportRequest& request, Refusals& refusals) {
  check_type_name("type", request.type, refusals);
  const GgufTypeChoice* blocks = find_gguf_type_choice(request.type);
  if (blocks != nullptr && !blocks->quantized) return;
  check_type_name("embedding_type", request.embedding_type, refusals);
  check_type_name("output_type", request.output_type, refusals);
}

struct Misfits {
  std::set<Index> widths;
  std::size_t tensors = 0;
  double elements = 0;
};

// Rows that are not whole blocks of the type that they should take, by type.
void check_row_lengths(const PlanInputs& inputs, Refusals& refusals) {
  std::map<std::string, Misfits> misfits_of_type;
  double all_elements = 0;
  const std::vector<model::TensorSpec> tensors = inputs.family.tensors();
  for (const model::TensorSpec& tensor : tensors) {
    double elements = 1;
    for (const Index n : tensor.shape) elements *= static_cast<double>(n);
    all_elements += elements;
    const std::string name = type_name_for(inputs, tensor);
    const GgufTypeChoice* choice = find_gguf_type_choice(name);
    if (choice == nullptr) continue;
    if (tensor.shape.back() % io::info_of(choice->type).block_elements == 0) continue;
    Misfits& misfits = misfits_of_type[name];
    misfits.widths.insert(tensor.shape.back());
    misfits.elements += elements;
    ++misfits.tensors;
  }
  for (const auto& [name, misfits] : misfits_of_type) {
    std::vector<std::string> widths;
    for (const Index width : misfits.widths) widths.push_back(std::to_string(width));
    refusals.add(
        "E132",
        fmt::format("{} needs row lengths in multiples of {}; {} of {} tensors have {} ({:.1f}% of "
                    "weights). Choose F16, BF16 or F32 for them.",
                    name, io::info_of(gguf_type_choice(name).type).block_elements, misfits.tensors,
                    tensors.size(), alternatives(widths), 100.0 * misfits.elements / all_elements));
  }
}

void check_architecture(const model::FamilySpec& family, Refusals& refusals) {
  if (!family.gguf_architecture.empty()) return;
  refusals.add("E123", fmt::format("calque writes no GGUF of family '{}' ({}). Export gptq, awq or "
                                   "compressed-tensors instead.",
                                   family.name, family.config.architecture));
}

// Loaders look for rope_freqs.weight in architecture "llama" only and refuse tensors that they do
// not look for.
void check_rope(const model::FamilySpec& family, Refusals& refusals) {
  if (family.config.rope.scaling != model::RopeSpec::Scaling::kLlama3) return;
  if (family.gguf_architecture == "llama" || family.gguf_architecture.empty()) return;
  refusals.add("E123", fmt::format("GGUF has no place for llama3 RoPE scaling in architecture '{}' "
                                   "(only in 'llama'). Export gptq instead.",
                                   family.gguf_architecture));
}

}  // namespace

void check_gguf(const PlanInputs& inputs, Refusals& refusals) {
  check_architecture(inputs.family, refusals);
  check_type_names(inputs.request, refusals);
  check_row_lengths(inputs, refusals);
  check_rope(inputs.family, refusals);
}

TensorPlan plan_gguf_tensor(const PlanInputs& inputs, const model::TensorSpec& tensor,
                            bool /*in_block_linear*/) {
  const GgufTypeChoice& choice = gguf_type_choice(type_name_for(inputs, tensor));
  TensorPlan plan;
  plan.tensor = tensor;
  if (const BlockCodec* codec = find_block_codec(choice.type)) plan.grid = codec->grid;
  plan.stored_as = choice.name;
  plan.bytes = gguf_bytes(choice.type, tensor.shape);
  return plan;
}

}  // namespace calque::artifact
