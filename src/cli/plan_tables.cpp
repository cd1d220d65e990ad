#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "calque/formats/format.h"
#include "cli/tables.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;

std::size_t quantized_count(const formats::ExportPlan& plan) {
  return static_cast<std::size_t>(
      std::count_if(plan.tensors.begin(), plan.tensors.end(),
                    [](const formats::TensorPlan& t) { return t.grid.has_value(); }));
}

// A tensor of the file.
struct PlannedTensor {
  std::string name;
  std::string stored_as;
  std::vector<Index> shape;
  double weights = 0;
  std::uint64_t bytes = 0;
};

struct TypeTotal {
  std::size_t tensors = 0;
  double weights = 0;
  std::uint64_t bytes = 0;
};

double weights_of(const model::TensorSpec& tensor) {
  double count = 1;
  for (const Index n : tensor.shape) count *= static_cast<double>(n);
  return count;
}

void add_expert(PlannedTensor& stack, Index expert) {
  if (expert == 0) stack.shape.insert(stack.shape.begin(), 0);
  if (expert >= 0) stack.shape.front() = std::max(stack.shape.front(), expert + 1);
}

std::vector<PlannedTensor> tensors_of(const formats::ExportPlan& plan) {
  const bool gguf = !format_of(plan.request).is_folder;
  std::vector<PlannedTensor> tensors;
  std::map<std::string, std::size_t> places;
  for (const formats::TensorPlan& planned : plan.tensors) {
    const model::TensorSpec& spec = planned.tensor;
    const std::string& name = gguf ? spec.gguf_name : spec.name;
    const auto [place, added] = places.emplace(name, tensors.size());
    if (added) tensors.push_back({name, planned.stored_as, spec.shape});
    PlannedTensor& tensor = tensors[place->second];
    if (gguf) add_expert(tensor, spec.gguf_expert);
    tensor.weights += weights_of(spec);
    tensor.bytes += planned.bytes;
  }
  return tensors;
}

}  // namespace

std::string plan_table(const std::vector<formats::ExportPlan>& plans) {
  TextTable table({{"export", Align::kLeft},
                   {"format", Align::kLeft},
                   {"bytes of tensors"},
                   {"bits/weight"},
                   {"quantized tensors"},
                   {"of"}});
  for (const formats::ExportPlan& plan : plans)
    table.add({printable(plan.request.path.filename().string()), format_text(plan),
               fmt::format("{}", plan.tensor_bytes), fmt::format("{:.3f}", plan.bits_per_weight),
               fmt::format("{}", quantized_count(plan)), fmt::format("{}", plan.tensors.size())});
  return table.text();
}

std::string types_table(const formats::ExportPlan& plan) {
  std::map<std::string, TypeTotal> totals;
  double weights = 0;
  for (const PlannedTensor& tensor : tensors_of(plan)) {
    TypeTotal& total = totals[tensor.stored_as];
    ++total.tensors;
    total.weights += tensor.weights;
    total.bytes += tensor.bytes;
    weights += tensor.weights;
  }
  std::vector<std::pair<std::string, TypeTotal>> types(totals.begin(), totals.end());
  std::stable_sort(types.begin(), types.end(), [](const auto& a, const auto& b) {
    return a.second.weights > b.second.weights;
  });
  TextTable table({{"stored as", Align::kLeft}, {"tensors"}, {"% of weights"}, {"bytes"}});
  for (const auto& [type, total] : types)
    table.add({type, fmt::format("{}", total.tensors),
               fmt::format("{:.2f}", 100.0 * total.weights / weights),
               fmt::format("{}", total.bytes)});
  return table.text();
}

std::string tensors_table(const formats::ExportPlan& plan) {
  TextTable table({{"tensor", Align::kLeft}, {"stored as", Align::kLeft}, {"shape"}, {"bytes"}});
  for (const PlannedTensor& tensor : tensors_of(plan))
    table.add({printable(tensor.name), tensor.stored_as,
               fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
               fmt::format("{}", tensor.bytes)});
  return table.text();
}

}  // namespace calque::cli
