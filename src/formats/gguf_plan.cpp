#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "formats/gguf.h"
#include "formats/gguf_choice.h"
#include "formats/gguf_gaps.h"
#include "formats/gguf_mix.h"
#include "formats/gguf_types.h"
#include "formats/messages.h"
#include "calque/core/names.h"

namespace calque::formats {
namespace {

bool check_name(std::string_view key, const std::string& name,
                const std::vector<std::string_view>& known, Refusals& refusals) {
  if (std::find(known.begin(), known.end(), name) != known.end()) return true;
  refusals.add("E122",
               fmt::format("unknown GGUF {} '{}'; did you mean '{}'? calque writes {}.", key, name,
                           nearest_name(name, known), alternatives({known.begin(), known.end()})));
  return false;
}

// Whether all are known.
bool check_names(const ExportRequest& request, Refusals& refusals) {
  std::vector<std::string_view> mixes;
  for (const GgufMix& mix : gguf_mixes()) mixes.push_back(mix.name);
  std::vector<std::string_view> types = {"auto"};
  for (const io::GgmlType type : gguf_written_types()) types.push_back(io::info_of(type).name);

  bool known = check_name("type", request.type, mixes, refusals);
  known &=
      check_name("on_shape_fallback", request.on_shape_fallback, {"refuse", "allow"}, refusals);
  for (const TensorTypeRule& rule : request.tensor_types)
    known &= check_name("tensor_types type", rule.type, {types.begin() + 1, types.end()}, refusals);
  if (const GgufMix* mix = find_gguf_mix(request.type); mix != nullptr && !mix->quantized())
    return known;
  known &= check_name("embedding_type", request.embedding_type, types, refusals);
  known &= check_name("output_type", request.output_type, types, refusals);
  return known;
}

struct Misfits {
  std::set<Index> widths;
  std::set<std::string> instead;
  std::size_t tensors = 0;
  double weights = 0;
};

struct RowLengths {
  std::map<io::GgmlType, Misfits> misfits_of_type;
  std::size_t tensors = 0;
  double weights = 0;
  double wanted_bytes = 0;  // if blocks could be cut anywhere
  double stored_bytes = 0;
};

double bytes_of(io::GgmlType type, double weights) {
  const io::GgmlTypeInfo& info = io::info_of(type);
  return weights / info.block_elements * info.block_bytes;
}

RowLengths row_lengths(const PlanInputs& inputs) {
  RowLengths rows;
  const GgufChoices choices = choose_gguf_types(inputs);
  for (const model::TensorSpec& tensor : inputs.family.tensors()) {
    double weights = 1;
    for (const Index n : tensor.shape) weights *= static_cast<double>(n);
    const auto [wanted, stored] = choices.at(tensor.gguf_name);
    ++rows.tensors;
    rows.weights += weights;
    rows.wanted_bytes += bytes_of(wanted, weights);
    rows.stored_bytes += bytes_of(stored, weights);
    if (stored == wanted) continue;
    Misfits& misfits = rows.misfits_of_type[wanted];
    misfits.widths.insert(tensor.shape.back());
    misfits.instead.emplace(io::info_of(stored).name);
    misfits.weights += weights;
    ++misfits.tensors;
  }
  return rows;
}

// `becomes`: "would become" or "become".
std::string text_of(const RowLengths& rows, const io::GgmlTypeInfo& type, const Misfits& misfits,
                    std::string_view becomes) {
  std::vector<std::string> widths;
  for (const Index width : misfits.widths) widths.push_back(std::to_string(width));
  return fmt::format(
      "{} needs row lengths in multiples of {}; {} of {} tensors have {} ({:.1f}% of weights). "
      "They {} {}: {:.2f} -> {:.2f} bits per weight of the file.",
      type.name, type.block_elements, misfits.tensors, rows.tensors, alternatives(widths),
      100.0 * misfits.weights / rows.weights, becomes,
      alternatives({misfits.instead.begin(), misfits.instead.end()}),
      8.0 * rows.wanted_bytes / rows.weights, 8.0 * rows.stored_bytes / rows.weights);
}

// Rows that are not whole blocks of the type that they should take, by type.
void check_row_lengths(const PlanInputs& inputs, Refusals& refusals) {
  if (inputs.request.on_shape_fallback == "allow") return;
  const RowLengths rows = row_lengths(inputs);
  for (const auto& [type, misfits] : rows.misfits_of_type)
    refusals.add("E132", text_of(rows, io::info_of(type), misfits, "would become") +
                             " Set on_shape_fallback: allow, or choose another type.");
}

void check_architecture(const model::FamilySpec& family, Refusals& refusals) {
  if (!family.gguf_architecture.empty()) return;
  refusals.add("E123", fmt::format("calque writes no GGUF of family '{}' ({}). Export gptq, awq or "
                                   "compressed-tensors instead.",
                                   family.name, family.config.architecture));
}

void check_gaps(const model::FamilySpec& family, Refusals& refusals) {
  for (const std::string& gap : gguf_gaps(family))
    refusals.add("E123", gap + ". Export gptq instead.");
}

}  // namespace

void check_gguf(const PlanInputs& inputs, Refusals& refusals) {
  check_architecture(inputs.family, refusals);
  const bool known = check_names(inputs.request, refusals);
  const bool matched = check_tensor_types(inputs, refusals);
  if (known && matched) check_row_lengths(inputs, refusals);
  check_gaps(inputs.family, refusals);
}

std::vector<std::string> gguf_remarks(const PlanInputs& inputs,
                                      const std::vector<TensorPlan>& /*tensors*/) {
  std::vector<std::string> remarks;
  const RowLengths rows = row_lengths(inputs);
  for (const auto& [type, misfits] : rows.misfits_of_type)
    remarks.push_back(text_of(rows, io::info_of(type), misfits, "become"));
  return remarks;
}

TensorPlanner gguf_planner(const PlanInputs& inputs) {
  const bool by_reference = inputs.quantization.reference_rounding;
  return [by_reference, choices = choose_gguf_types(inputs)](const model::TensorSpec& tensor,
                                                             bool /*in_block_linear*/) {
    const io::GgmlType type = choices.at(tensor.gguf_name).stored;
    TensorPlan plan;
    plan.tensor = tensor;
    plan.grid = gguf_grid(type, by_reference);
    plan.stored_as = io::info_of(type).name;
    plan.bytes = gguf_bytes(type, tensor.shape);
    return plan;
  };
}

}  // namespace calque::formats
