#include <span>

#include "calque/quant/methods.h"
#include "config/sections.h"

namespace calque::config {

using job::Job;
using job::QuantizationSettings;
using Presence = Section::Presence;

namespace {

template <typename Row>
Codec<const Row*> row_of(std::span<const Row* const> rows) {
  std::vector<Choice<const Row*>> choices;
  for (const Row* row : rows) choices.push_back({std::string(row->name), row});
  return choice<const Row*>(std::move(choices));
}

// "`rtn`: round every weight ...; `gptq`: ..."
template <typename Rows>
std::string summaries(const Rows& rows) {
  std::string text;
  for (const auto& row : rows)
    text += fmt::format("{}`{}`: {}", text.empty() ? "" : "; ", row.name, row.summary);
  return text;
}

template <typename Row>
std::vector<Row> values_of(std::span<const Row* const> rows) {
  std::vector<Row> values;
  for (const Row* row : rows) values.push_back(*row);
  return values;
}

// A usual pair of the two keys after it.
Key method_key() {
  const std::vector<quant::Method> methods = quant::methods();
  std::vector<std::string> names;
  for (const quant::Method& method : methods) names.emplace_back(method.name);
  Key result;
  result.name = "method";
  result.shorthand = true;
  result.default_value = QuantizationSettings().method();
  result.doc =
      "Short for `transform` and `rounding`: " + summaries(methods) +
      fmt::format(", then `{}`. With `rounding` beside it, the method is the transform alone.",
                  QuantizationSettings().rounding->name);
  const Codec<std::string> codec = one_of(std::move(names));
  result.type = codec.type;
  result.store = [=](const YamlNode& node, const std::filesystem::path& folder, void* target) {
    std::string chosen;
    Problem problem = codec.parse(node, folder, chosen);
    if (problem.empty()) static_cast<QuantizationSettings*>(target)->set_method(chosen);
    return problem;
  };
  result.show = [](const void* target) {
    return static_cast<const QuantizationSettings*>(target)->method();
  };
  return result;
}

// What `quantization.rounding` was called when only awq had a choice; with no transform it never
// meant anything.
Key earlier_rounding_key() {
  const Codec<const quant::Rounding*> codec = row_of(quant::roundings());
  Key result;
  result.name = "rounding";
  result.shorthand = true;
  result.documented = false;
  result.type = codec.type;
  result.doc = "Earlier name of `quantization.rounding`.";
  result.default_value = QuantizationSettings().rounding->name;
  result.store = [=](const YamlNode& node, const std::filesystem::path& folder, void* target) {
    auto& settings = *static_cast<QuantizationSettings*>(target);
    const quant::Rounding* given = settings.rounding;
    Problem problem = codec.parse(node, folder, given);
    if (settings.transform->rescales_channels()) settings.rounding = given;
    return problem;
  };
  return result;
}

}  // namespace

Section quantization_section() {
  using S = QuantizationSettings;
  const std::vector<Choice<ScaleRule>> rules = {{"minmax", ScaleRule::kMinMax},
                                                {"full_range", ScaleRule::kFullRange},
                                                {"search", ScaleRule::kSearch},
                                                {"block_search", ScaleRule::kBlockSearch}};
  Section s;
  s.path = "quantization";
  s.doc =
      "How values are chosen. `bits`, `group_size` and `sym` are for folders of safetensors; GGUF "
      "types bring their own.";
  s.open = [](Job& job) -> void* { return &job.quantization; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.quantization}; };
  s.keys = {
      method_key(),
      key<S>(
          "transform", row_of(quant::transforms()),
          [](const S& q) -> auto& { return q.transform; },
          "What is done to channels before rounding; " + summaries(values_of(quant::transforms())) +
              "."),
      key<S>(
          "rounding", row_of(quant::roundings()), [](const S& q) -> auto& { return q.rounding; },
          "How values are rounded then; " + summaries(values_of(quant::roundings())) + "."),
      key<S>(
          "bits", small_integer(2, 8), [](const S& q) -> auto& { return q.grid.bits; },
          "Bits of a code; formats hold some of these (gptq: 2, 3, 4, 8; compressed-tensors: 4, 8; "
          "awq: "
          "4)."),
      key<S>(
          "group_size", group_size(), [](const S& q) -> auto& { return q.grid.group_size; },
          "Inputs that share a scale."),
      key<S>(
          "sym", boolean(), [](const S& q) -> auto& { return q.grid.sym; },
          "Symmetric: no zero points."),
      key<S>(
          "scale_rule", or_auto(choice<ScaleRule>(rules)),
          [](const S& q) -> auto& { return q.scale_rule; },
          "A group's scale: from its extremes (`minmax`), with the largest magnitude on the "
          "outermost code (`full_range`), the best of candidates under the inputs' mean squares "
          "(`search`), or under the group's block of the Gram matrix (`block_search`); `auto`: "
          "`search`, behind channel scales `block_search`."),
      key<S>(
          "act_order", boolean(), [](const S& q) -> auto& { return q.options.act_order; },
          "gptq: visit columns by falling activation; groups stay consecutive, so it costs "
          "nothing when the model is used."),
      key<S>(
          "damp_percent", number(0, 1), [](const S& q) -> auto& { return q.options.damp_percent; },
          "gptq: added to the Hessian's diagonal, as a share of its mean (0.01 is 1 %)."),
      key<S>(
          "damp_auto_increment", number(0, 1),
          [](const S& q) -> auto& { return q.options.damp_auto_increment; },
          "gptq: first increase of `damp_percent` when the Hessian is not positive definite, "
          "doubled each time; 0: no retries."),
      key<S>(
          "refine_passes", small_integer(0, 1000),
          [](const S& q) -> auto& { return q.options.refine_passes; },
          "gptq: passes over the codes and scales after rounding; each lowers the error or leaves "
          "it."),
      key<S>(
          "propagate_error", boolean(), [](const S& q) -> auto& { return q.propagate_error; },
          "Measure later layers behind the already quantized ones; false: behind the original "
          "ones."),
      key<S>(
          "upstream_correction", number_or_auto(0, 1),
          [](const S& q) -> auto& { return q.upstream_correction; },
          "gptq: how much of the error of earlier layers each linear makes up for, by the original "
          "model running beside: twice the forward pass. `auto`: 1 where codes have less than 4 "
          "bits, else 0."),
      key<S>(
          "imatrix", path_or_null(), [](const S& q) -> auto& { return q.imatrix; },
          "Importance matrix of `calque imatrix` or llama-imatrix, instead of calibration text: "
          "method `rtn`, exports to GGUF; the files are those of `llama-quantize --imatrix`."),
  };
  return s;
}

Section fallback_section() {
  using S = QuantizationSettings;
  Section s;
  s.path = "quantization.fallback";
  s.doc = "When gptq cannot use a matrix's statistics, the matrix is rounded by rtn.";
  s.open = [](Job& job) -> void* { return &job.quantization; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.quantization}; };
  s.keys = {key<S>(
      "max_modules", integer(0), [](const S& q) -> auto& { return q.fallback_max_modules; },
      "More matrices than this falling back fail the job.")};
  return s;
}

Section awq_section() {
  using S = QuantizationSettings;
  const std::vector<Choice<quant::AwqLoss>> losses = {{"gram", quant::AwqLoss::kGram},
                                                      {"output", quant::AwqLoss::kOutput}};
  Section s;
  s.path = "quantization.awq";
  s.doc = "Channel scales of `transform: awq`, folded into the norm or the linear before.";
  s.open = [](Job& job) -> void* { return &job.quantization; };
  s.instances = [](const Job& job) { return std::vector<const void*>{&job.quantization}; };
  s.keys = {
      earlier_rounding_key(),
      key<S>(
          "loss", choice<quant::AwqLoss>(losses), [](const S& q) -> auto& { return q.awq.loss; },
          "What the search makes small: the error of the linears' outputs, from their Gram matrix "
          "(`gram`), or of the attention's and the MLP's as a whole, run for every candidate "
          "(`output`, as in the paper)."),
      key<S>(
          "n_grid", small_integer(1, 1000), [](const S& q) -> auto& { return q.awq.n_grid; },
          "Ratios tried besides the identity."),
  };
  return s;
}

Section rules_section() {
  using S = formats::ModuleRule;
  Section s;
  s.path = "quantization.rules";
  s.doc =
      "Settings for single modules, in folders of safetensors. Later rules patch earlier ones, key "
      "by "
      "key. `lm_head` is left alone unless a rule says `skip: false`.";
  s.presence = Presence::kOptional;
  s.list = true;
  s.open = [](Job& job) -> void* { return &job.quantization.grid.rules.emplace_back(); };
  s.instances = [](const Job& job) { return pointers_to(job.quantization.grid.rules); };
  s.keys = {
      required(key<S>(
          "match", text(), [](const S& r) -> auto& { return r.match; },
          "Module name (`model.layers.0.mlp.down_proj`), glob (`*.down_proj`), or regular "
          "expression (`re:.*\\.mlp\\.`, from the start of the name).")),
      key<S>(
          "bits", or_null(small_integer(2, 8)), [](const S& r) -> auto& { return r.bits; },
          "Bits of these modules."),
      key<S>(
          "group_size", or_null(group_size()), [](const S& r) -> auto& { return r.group_size; },
          "Group size of these modules."),
      key<S>(
          "sym", or_null(boolean()), [](const S& r) -> auto& { return r.sym; },
          "Symmetric or not."),
      key<S>(
          "skip", or_null(boolean()), [](const S& r) -> auto& { return r.skip; },
          "Leave these modules as they are."),
      key<S>(
          "allow_no_match", boolean(), [](const S& r) -> auto& { return r.allow_no_match; },
          "A rule that matches nothing is an error otherwise."),
  };
  return s;
}

}  // namespace calque::config
