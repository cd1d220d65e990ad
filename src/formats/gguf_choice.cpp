#include "formats/gguf_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include "formats/gguf_mix.h"
#include "formats/gguf_types.h"
#include "formats/module_patterns.h"
#include "calque/core/error.h"

namespace calque::formats {
namespace {

bool chosen(const std::string& type) { return type != "auto"; }

// The layer that "blk.3.attn_v.weight" belongs to; -1: none.
Index layer_of(std::string_view gguf_name) {
  constexpr std::string_view kBlock = "blk.";
  Index layer = -1;
  if (gguf_name.substr(0, kBlock.size()) != kBlock) return layer;
  std::from_chars(gguf_name.data() + kBlock.size(), gguf_name.data() + gguf_name.size(), layer);
  return layer;
}

// Routers are F32 in every file, and so is what has one row only: llama.cpp counts no dimension of
// length 1.
bool is_matrix(const model::TensorSpec& tensor) {
  const bool router = tensor.gguf_name.find("ffn_gate_inp") != std::string::npos;
  const auto wide = std::count_if(tensor.shape.begin(), tensor.shape.end() - 1,
                                  [](Index length) { return length > 1; });
  return wide > 0 && !router;
}

bool is_stacked(const model::TensorSpec& tensor) {
  return tensor.gguf_expert >= 0 || tensor.shape.size() > 2;
}

// One of every tensor of the file, in the order in which llama-quantize meets them.
std::vector<model::TensorSpec> in_order(const model::FamilySpec& family) {
  const auto place = [](const model::TensorSpec& tensor) {
    return std::make_tuple(layer_of(tensor.gguf_name), std::string_view(tensor.gguf_name));
  };
  std::vector<model::TensorSpec> tensors = family.tensors();
  std::stable_sort(tensors.begin(), tensors.end(),
                   [&](const auto& a, const auto& b) { return place(a) < place(b); });
  const auto same = [](const auto& a, const auto& b) { return a.gguf_name == b.gguf_name; };
  tensors.erase(std::unique(tensors.begin(), tensors.end(), same), tensors.end());
  return tensors;
}

std::vector<std::string> matrix_names(const model::FamilySpec& family) {
  std::vector<std::string> names;
  for (const model::TensorSpec& tensor : in_order(family))
    if (is_matrix(tensor)) names.push_back(tensor.gguf_name);
  return names;
}

struct CompiledRule {
  ModuleMatcher matcher;
  io::GgmlType type;
};

// Asked for one tensor after the other, in order: the mix counts.
class Chooser {
 public:
  explicit Chooser(const PlanInputs& inputs)
      : request_(inputs.request),
        embedding_(inputs.family.embedding.name),
        head_(inputs.family.head().name),
        mix_(gguf_mix(inputs.request.type)),
        model_(mix_model(inputs.family, inputs.quantization.calibrated)) {
    for (const TensorTypeRule& rule : request_.tensor_types)
      rules_.push_back({ModuleMatcher::searching(rule.match), gguf_written_type(rule.type)});
  }

  GgufChoice choose(const model::TensorSpec& tensor) {
    const io::GgmlType wanted = wanted_type(tensor);
    const Index columns = tensor.shape.back();
    const bool whole = columns % io::info_of(wanted).block_elements == 0;
    return {wanted, whole ? wanted : fallback_type(wanted, columns)};
  }

 private:
  io::GgmlType wanted_type(const model::TensorSpec& tensor) {
    if (!is_matrix(tensor)) return io::GgmlType::kF32;
    if (const auto given = given_type(tensor)) return *given;
    return mix_.quantized() && !request_.pure ? mixed_type(tensor) : mix_.base;
  }

  // By the keys of the job, strongest first. A tied embedding is the output, too.
  std::optional<io::GgmlType> given_type(const model::TensorSpec& tensor) const {
    const bool embedding = mix_.quantized() && tensor.name == embedding_;
    const bool head = mix_.quantized() && tensor.name == head_;
    if (embedding && chosen(request_.embedding_type))
      return gguf_written_type(request_.embedding_type);
    if (head && !embedding && chosen(request_.output_type))
      return gguf_written_type(request_.output_type);
    for (const CompiledRule& rule : rules_)
      if (rule.matcher.matches(tensor.gguf_name)) return rule.type;
    if (head && chosen(request_.output_type)) return gguf_written_type(request_.output_type);
    return std::nullopt;
  }

  io::GgmlType mixed_type(const model::TensorSpec& tensor) {
    if (tensor.name == head_) return output_in_mix(mix_, tensor.shape.back());
    if (tensor.name == embedding_) return embedding_in_mix(mix_);
    return type_in_mix(mix_, model_, {tensor.gguf_name, number_of(tensor), is_stacked(tensor)});
  }

  // Tensors that a key of the job decides are not counted. With experts, a layer may have several
  // tensors named ffn_down: there the layer counts.
  Index number_of(const model::TensorSpec& tensor) {
    if (is_value_tensor(tensor.gguf_name)) return values_++;
    if (is_down_tensor(tensor.gguf_name) && model_.experts <= 1) return downs_++;
    return layer_of(tensor.gguf_name);
  }

  const ExportRequest& request_;
  std::string embedding_;
  std::string head_;
  const GgufMix& mix_;
  MixModel model_;
  std::vector<CompiledRule> rules_;
  Index values_ = 0;
  Index downs_ = 0;
};

bool check_rule(const TensorTypeRule& rule, const std::vector<std::string>& names,
                Refusals& refusals) {
  try {
    const ModuleMatcher matcher = ModuleMatcher::searching(rule.match);
    const auto matches = [&](const std::string& name) { return matcher.matches(name); };
    if (std::any_of(names.begin(), names.end(), matches)) return true;
    refusals.add("E151",
                 fmt::format("tensor_types: '{}' matches none of {} matrices. Nearest: '{}'.",
                             rule.match, names.size(), nearest_module(rule.match, names)));
  } catch (const Error& error) {
    refusals.add(error.code(), fmt::format("tensor_types: {}", error.what()));
  }
  return false;
}

}  // namespace

GgufChoices choose_gguf_types(const PlanInputs& inputs) {
  Chooser chooser(inputs);
  GgufChoices choices;
  for (const model::TensorSpec& tensor : in_order(inputs.family))
    choices.emplace(tensor.gguf_name, chooser.choose(tensor));
  return choices;
}

bool check_tensor_types(const PlanInputs& inputs, Refusals& refusals) {
  if (inputs.request.tensor_types.empty()) return true;
  const std::vector<std::string> names = matrix_names(inputs.family);
  bool all = true;
  for (const TensorTypeRule& rule : inputs.request.tensor_types)
    all &= check_rule(rule, names, refusals);
  return all;
}

}  // namespace calque::formats
