// GGUF as an export format: its options, the type of every tensor, and its row in the table of
// formats. gguf_writer.cpp writes the file.
#include "formats/gguf.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <set>
#include <tuple>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/ggml/blocks.h"
#include "formats/gguf_architectures.h"
#include "formats/gguf_mix.h"
#include "formats/gguf_tensors.h"
#include "formats/module_patterns.h"

namespace calque::formats {
namespace {

// The preferred type of a tensor in a GGUF file, and the type it can really have.
struct GgufChoice {
  ggml::Type wanted = ggml::Type::kF32;
  ggml::Type stored = ggml::Type::kF32;  // differs if rows are not whole blocks of `wanted`
};

// Keyed by name in the file; experts stacked in one tensor share its type.
using GgufChoices = std::map<std::string, GgufChoice, std::less<>>;

bool chosen(const std::string& type) { return type != "auto"; }

// The layer of "blk.3.attn_v.weight"; -1 if it has none.
Index layer_of(std::string_view gguf_name) {
  constexpr std::string_view kBlock = "blk.";
  Index layer = -1;
  if (gguf_name.substr(0, kBlock.size()) != kBlock) return layer;
  std::from_chars(gguf_name.data() + kBlock.size(), gguf_name.data() + gguf_name.size(), layer);
  return layer;
}

// Routers and convolutions are F32 in every file. So are tensors with a single row: llama.cpp does
// not count dimensions of length 1.
bool is_matrix(const model::TensorSpec& tensor) {
  const auto named = [&](const char* part) {
    return tensor.gguf_name.find(part) != std::string::npos;
  };
  const auto wide = std::count_if(tensor.shape.begin(), tensor.shape.end() - 1,
                                  [](Index length) { return length > 1; });
  return wide > 0 && !named("ffn_gate_inp") && !named("ssm_conv1d");
}

bool is_stacked(const model::TensorSpec& tensor) { return tensor.gguf_expert >= 0; }

// Each tensor of the file once, in llama-quantize's order.
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
  ggml::Type type;
};

// Call for one tensor after the other, in order: the mix counts tensors.
class Chooser {
 public:
  explicit Chooser(const PlanInputs& inputs)
      : request_(inputs.request),
        embedding_(inputs.family.embedding.name),
        head_(inputs.family.head().name),
        tied_(inputs.family.lm_head.empty()),
        half_(inputs.family.config.dtype == "bfloat16" ? ggml::Type::kBF16 : ggml::Type::kF16),
        mix_(gguf_mix(inputs.request.type)),
        model_(mix_model(inputs.family, inputs.quantization.calibrated)) {
    for (const TensorTypeRule& rule : request_.tensor_types)
      rules_.push_back({ModuleMatcher::searching(rule.match), gguf_written_type(rule.type)});
  }

  GgufChoice choose(const model::TensorSpec& tensor) {
    const ggml::Type wanted = wanted_type(tensor);
    const Index columns = tensor.shape.back();
    const bool whole = columns % ggml::info_of(wanted).block_columns == 0;
    return {wanted, whole ? wanted : fallback_type(wanted, columns)};
  }

 private:
  ggml::Type wanted_type(const model::TensorSpec& tensor) {
    if (!is_matrix(tensor)) return ggml::Type::kF32;
    // llama-quantize leaves it as it is in the file that it starts from.
    if (tensor.gguf_name == "per_layer_model_proj.weight")
      return mix_.quantized() ? half_ : mix_.base;
    if (const auto given = given_type(tensor)) return *given;
    return mix_.quantized() && !request_.pure ? mixed_type(tensor) : mix_.base;
  }

  // The type set by the job's keys, strongest first. A tied embedding is the output, too.
  std::optional<ggml::Type> given_type(const model::TensorSpec& tensor) const {
    const bool embedding = mix_.quantized() && is_embedding(tensor);
    const bool head = mix_.quantized() && is_head(tensor);
    if (embedding && chosen(request_.embedding_type))
      return gguf_written_type(request_.embedding_type);
    if (head && !embedding && chosen(request_.output_type))
      return gguf_written_type(request_.output_type);
    for (const CompiledRule& rule : rules_)
      if (rule.matcher.matches(tensor.gguf_name)) return rule.type;
    if (head && chosen(request_.output_type)) return gguf_written_type(request_.output_type);
    return std::nullopt;
  }

  // The layers' own embeddings go with that of the model.
  bool is_embedding(const model::TensorSpec& tensor) const {
    return tensor.name == embedding_ || tensor.gguf_name == "per_layer_token_embd.weight";
  }
  bool is_head(const model::TensorSpec& tensor) const {
    return tensor.name == head_ || (tied_ && is_embedding(tensor));
  }

  ggml::Type mixed_type(const model::TensorSpec& tensor) {
    if (is_head(tensor)) return output_in_mix(mix_, tensor.shape.back());
    if (is_embedding(tensor)) return embedding_in_mix(mix_);
    return type_in_mix(mix_, model_, {tensor.gguf_name, number_of(tensor), is_stacked(tensor)});
  }

  // Tensors whose type is set by a key are not counted. With experts, a layer may have several
  // tensors named ffn_down; the layer number counts there in most mixes.
  Index number_of(const model::TensorSpec& tensor) {
    if (is_value_tensor(tensor.gguf_name)) return values_++;
    if (is_down_tensor(tensor.gguf_name) && (model_.experts <= 1 || has_few_bits(mix_)))
      return downs_++;
    if (is_gate_or_up_tensor(tensor.gguf_name) && model_.experts <= 1)
      return counted_[tensor.gguf_name.find("ffn_up") == std::string::npos]++;
    return layer_of(tensor.gguf_name);
  }

  const ExportRequest& request_;
  std::string embedding_;
  std::string head_;
  bool tied_;
  ggml::Type half_;  // the type of matrices that are never quantized
  const GgufMix& mix_;
  MixModel model_;
  std::vector<CompiledRule> rules_;
  Index values_ = 0;
  Index downs_ = 0;
  Index counted_[2] = {};  // ffn_up, ffn_gate
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

// Applies the request, its rules and the mix in llama-quantize's order. Names must be valid.
GgufChoices choose_gguf_types(const PlanInputs& inputs) {
  Chooser chooser(inputs);
  GgufChoices choices;
  for (const model::TensorSpec& tensor : in_order(inputs.family))
    choices.emplace(tensor.gguf_name, chooser.choose(tensor));
  return choices;
}

// True if every rule matches a matrix. Otherwise refuses with E151 (and the nearest name), or E152
// for an invalid pattern.
bool check_tensor_types(const PlanInputs& inputs, Refusals& refusals) {
  if (inputs.request.tensor_types.empty()) return true;
  const std::vector<std::string> names = matrix_names(inputs.family);
  bool all = true;
  for (const TensorTypeRule& rule : inputs.request.tensor_types)
    all &= check_rule(rule, names, refusals);
  return all;
}

bool is_known(std::string_view key, const std::string& name,
              const std::vector<std::string_view>& known, Refusals& refusals) {
  if (std::find(known.begin(), known.end(), name) != known.end()) return true;
  refusals.add("E122",
               fmt::format("unknown GGUF {} '{}'; did you mean '{}'? calque writes {}.", key, name,
                           nearest_name(name, known), alternatives({known.begin(), known.end()})));
  return false;
}

// True if all type names are known.
bool check_names(const ExportRequest& request, Refusals& refusals) {
  std::vector<std::string_view> mixes;
  for (const GgufMix& mix : gguf_mixes()) mixes.push_back(mix.name);
  std::vector<std::string_view> types = {"auto"};
  for (const ggml::TypeInfo& info : ggml::types())
    if (info.supported()) types.push_back(info.name);

  bool known = is_known("type", request.type, mixes, refusals);
  known &= is_known("on_shape_fallback", request.on_shape_fallback, {"refuse", "allow"}, refusals);
  for (const TensorTypeRule& rule : request.tensor_types)
    known &= is_known("tensor_types type", rule.type, {types.begin() + 1, types.end()}, refusals);
  if (const GgufMix* mix = find_gguf_mix(request.type); mix != nullptr && !mix->quantized())
    return known;
  known &= is_known("embedding_type", request.embedding_type, types, refusals);
  known &= is_known("output_type", request.output_type, types, refusals);
  return known;
}

struct Misfits {
  std::set<Index> widths;
  std::set<std::string> instead;
  std::set<std::string> names;  // with "*" in place of numbers
  std::size_t tensors = 0;
  double weights = 0;
};

struct RowLengths {
  std::map<ggml::Type, Misfits> misfits_of_type;
  std::size_t tensors = 0;
  double weights = 0;
  double wanted_bytes = 0;  // if blocks could be cut anywhere
  double stored_bytes = 0;
};

double bytes_of(ggml::Type type, double weights) {
  const ggml::TypeInfo& info = ggml::info_of(type);
  return weights / static_cast<double>(info.block_columns) * static_cast<double>(info.block_bytes);
}

// "model.layers.*.mlp.down_proj.weight"
std::string without_numbers(const std::string& name) {
  std::string result;
  for (const char c : name) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0 ||
        !(result.ends_with('.') || result.ends_with('*')))
      result += c;
    else if (!result.ends_with('*'))
      result += '*';
  }
  return result;
}

constexpr std::size_t kNamesShown = 6;

std::string names_text(const std::set<std::string>& names) {
  std::vector<std::string> shown(names.begin(), names.end());
  if (shown.size() > kNamesShown) {
    shown.resize(kNamesShown);
    shown.emplace_back("...");
  }
  return fmt::format("{}", fmt::join(shown, ", "));
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
    misfits.instead.emplace(ggml::info_of(stored).name);
    misfits.names.insert(without_numbers(tensor.name));
    misfits.weights += weights;
    ++misfits.tensors;
  }
  return rows;
}

// `becomes`: "would become" or "become".
std::string text_of(const RowLengths& rows, const ggml::TypeInfo& type, const Misfits& misfits,
                    std::string_view becomes) {
  std::vector<std::string> widths;
  for (const Index width : misfits.widths) widths.push_back(std::to_string(width));
  return fmt::format(
      "{} needs row lengths in multiples of {}; {} of {} tensors have {} ({:.1f}% of weights): {}. "
      "They {} {}: {:.2f} -> {:.2f} bits per weight of the file.",
      type.name, type.block_columns, misfits.tensors, rows.tensors, alternatives(widths),
      100.0 * misfits.weights / rows.weights, names_text(misfits.names), becomes,
      alternatives({misfits.instead.begin(), misfits.instead.end()}),
      8.0 * rows.wanted_bytes / rows.weights, 8.0 * rows.stored_bytes / rows.weights);
}

// Refuses rows that are not whole blocks of their type, grouped by type.
void check_row_lengths(const PlanInputs& inputs, Refusals& refusals) {
  if (inputs.request.on_shape_fallback == "allow") return;
  const RowLengths rows = row_lengths(inputs);
  for (const auto& [type, misfits] : rows.misfits_of_type)
    refusals.add("E132", text_of(rows, ggml::info_of(type), misfits, "would become") +
                             " Set on_shape_fallback: allow, or choose another type.");
}

// Refuses types that are too small for columns of equal importance, as llama-quantize does.
void check_importance(const PlanInputs& inputs, Refusals& refusals) {
  if (inputs.quantization.calibrated) return;
  std::set<std::string_view> types;
  std::set<std::string> names;
  std::size_t tensors = 0;
  for (const auto& [name, choice] : choose_gguf_types(inputs)) {
    if (!ggml::needs_importance(choice.stored) || layer_of(name) < 0) continue;
    types.insert(ggml::info_of(choice.stored).name);
    names.insert(without_numbers(name));
    ++tensors;
  }
  if (tensors == 0) return;
  refusals.add(
      "E137", fmt::format("{} {} the importance of each column, which calibration text or an "
                          "importance matrix gives; there is neither, and {} tensors have such a "
                          "type: {}. Give calibration.sources, or quantization.imatrix with method "
                          "rtn, or choose Q2_K or more.",
                          alternatives({types.begin(), types.end()}),
                          types.size() == 1 ? "needs" : "need", tensors, names_text(names)));
}

void check_architecture(const model::FamilySpec& family, Refusals& refusals) {
  if (!family.gguf_architecture.empty()) return;
  refusals.add("E123",
               fmt::format("calque cannot write family '{}' ({}) as GGUF. Export gptq, awq or "
                           "compressed-tensors instead.",
                           family.name, family.config.architecture));
}

void check_unsupported(const model::FamilySpec& family, Refusals& refusals) {
  for (const std::string& reason : gguf_unsupported(family))
    refusals.add("E123", reason + ". Export gptq instead.");
}

void check(const PlanInputs& inputs, Refusals& refusals) {
  check_architecture(inputs.family, refusals);
  const bool known = check_names(inputs.request, refusals);
  const bool matched = check_tensor_types(inputs, refusals);
  if (known && matched) {
    check_row_lengths(inputs, refusals);
    check_importance(inputs, refusals);
  }
  check_unsupported(inputs.family, refusals);
}

std::vector<std::string> remarks(const PlanInputs& inputs,
                                 const std::vector<TensorPlan>& /*tensors*/) {
  std::vector<std::string> texts;
  const RowLengths rows = row_lengths(inputs);
  for (const auto& [type, misfits] : rows.misfits_of_type)
    texts.push_back(text_of(rows, ggml::info_of(type), misfits, "become"));
  for (std::string& text : gguf_differences(inputs.family)) texts.push_back(std::move(text));
  return texts;
}

// The source has the matrix in this type, and nothing changes it.
bool is_kept(const PlanInputs& inputs, const model::TensorSpec& tensor, ggml::Type type) {
  if (type != ggml::Type::kMXFP4 || inputs.quantization.rescales_channels) return false;
  const model::SourceTensor* stored = inputs.source.find(tensor.name);
  return stored != nullptr && stored->in_mxfp4;
}

TensorPlanner planner(const PlanInputs& inputs) {
  const bool by_reference = inputs.quantization.reference_rounding;
  return [&inputs, by_reference, choices = choose_gguf_types(inputs)](
             const model::TensorSpec& tensor, bool /*in_block_linear*/) {
    const ggml::Type type = choices.at(tensor.gguf_name).stored;
    TensorPlan plan;
    plan.tensor = tensor;
    if (!is_kept(inputs, tensor, type)) plan.grid = gguf_grid(type, by_reference);
    plan.stored_as = ggml::info_of(type).name;
    plan.bytes = gguf_bytes(type, tensor.shape);
    plan.column_order = tensor.gguf_columns.order(tensor.shape.back());
    return plan;
  };
}

}  // namespace

const Format& gguf_format() {
  static const Format row = {
      .name = "gguf",
      .summary = "one file, or shards, for llama.cpp: its block types and mixes, F16, BF16, F32",
      .label = "GGUF",
      .short_label = "GGUF",
      .is_folder = false,
      .has_block_types = true,
      .run_command = "llama-cli -m {} -p \"Once upon a time\"",
      .check = check,
      .planner = planner,
      .remarks = remarks,
      .open = open_gguf_writer,
      .files = gguf_files};
  return row;
}

}  // namespace calque::formats
