#include <fmt/format.h>

#include <span>

#include "calque/quant/methods.h"
#include "config/sections.h"

namespace calque::config {

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

// Sets the usual pair of the two keys after it.
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

// The earlier name of `quantization.rounding`, when only awq had a choice. Without a transform it
// never had an effect.
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
  one(s, [](auto& job) { return &job.quantization; });
  s.keys = {
      method_key(),
      key("transform", row_of(quant::transforms()), &S::transform,
          "What is done to channels before rounding; " + summaries(values_of(quant::transforms())) +
              "."),
      key("rounding", row_of(quant::roundings()), &S::rounding,
          "How values are rounded then; " + summaries(values_of(quant::roundings())) + "."),
      key("bits", small_integer(2, 8), &S::grid, &formats::QuantizationRequest::bits,
          "Bits of a code; formats hold some of these (gptq: 2, 3, 4, 8; compressed-tensors: 4, 8; "
          "awq: 4)."),
      key("group_size", group_size(), &S::grid, &formats::QuantizationRequest::group_size,
          "Inputs that share a scale."),
      key("sym", boolean(), &S::grid, &formats::QuantizationRequest::sym,
          "Symmetric: no zero points."),
      key("scale_rule", or_auto(choice<ScaleRule>(rules)), &S::scale_rule,
          "A group's scale: from its extremes (`minmax`), with the largest magnitude on the "
          "outermost code (`full_range`), the best of candidates under the inputs' mean squares "
          "(`search`), or under the group's block of the Gram matrix (`block_search`); `auto`: "
          "`search`, behind channel scales `block_search`."),
      key("act_order", boolean(), &S::options, &quant::RoundingOptions::act_order,
          "gptq: visit columns by falling activation; groups stay consecutive, so it costs "
          "nothing when the model is used."),
      key("damp_percent", number(0, 1), &S::options, &quant::RoundingOptions::damp_percent,
          "gptq: added to the Hessian's diagonal, as a share of its mean (0.01 is 1 %)."),
      key("damp_auto_increment", number(0, 1), &S::options,
          &quant::RoundingOptions::damp_auto_increment,
          "gptq: first increase of `damp_percent` when the Hessian is not positive definite, "
          "doubled each time; 0: no retries."),
      key("refine_passes", small_integer(0, 1000), &S::options,
          &quant::RoundingOptions::refine_passes,
          "gptq: passes over the codes and scales after rounding; each lowers the error or leaves "
          "it."),
      key("propagate_error", boolean(), &S::propagate_error,
          "Measure later layers behind the already quantized ones; false: behind the original "
          "ones."),
      key("upstream_correction", or_auto(number(0, 1)), &S::upstream_correction,
          "gptq: how much of the error of earlier layers each linear makes up for, by the original "
          "model running beside: twice the forward pass. `auto`: 1 where codes have less than 4 "
          "bits, else 0."),
      key("imatrix", or_empty(path()), &S::imatrix,
          "Importance matrix of `calque imatrix` or llama-imatrix, instead of calibration text: "
          "method `rtn`, exports to GGUF; the files are those of `llama-quantize --imatrix`."),
  };
  return s;
}

Section awq_section() {
  using S = QuantizationSettings;
  const std::vector<Choice<quant::AwqLoss>> losses = {{"gram", quant::AwqLoss::kGram},
                                                      {"output", quant::AwqLoss::kOutput}};
  Section s;
  s.path = "quantization.awq";
  s.doc = "Channel scales of `transform: awq`, folded into the norm or the linear before.";
  one(s, [](auto& job) { return &job.quantization; });
  s.keys = {
      earlier_rounding_key(),
      key("loss", choice<quant::AwqLoss>(losses), &S::awq, &quant::AwqOptions::loss,
          "What the search makes small: the error of the linears' outputs, from their Gram matrix "
          "(`gram`), or of the attention's and the MLP's as a whole, run for every candidate "
          "(`output`, as in the paper)."),
      key("n_grid", small_integer(1, 1000), &S::awq, &quant::AwqOptions::n_grid,
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
      "by key. `lm_head` is left alone unless a rule says `skip: false`.";
  s.presence = Presence::kOptional;
  many(s, [](auto& job) { return &job.quantization.grid.rules; });
  s.keys = {
      required(key("match", text(), &S::match,
                   "Module name (`model.layers.0.mlp.down_proj`), glob (`*.down_proj`), or regular "
                   "expression (`re:.*\\.mlp\\.`, from the start of the name).")),
      key("bits", or_null(small_integer(2, 8)), &S::bits, "Bits of these modules."),
      key("group_size", or_null(group_size()), &S::group_size, "Group size of these modules."),
      key("sym", or_null(boolean()), &S::sym, "Symmetric or not."),
      key("skip", or_null(boolean()), &S::skip, "Leave these modules as they are."),
      key("allow_no_match", boolean(), &S::allow_no_match,
          "A rule that matches nothing is an error otherwise."),
  };
  return s;
}

Section fallback_section() {
  using S = QuantizationSettings;
  Section s;
  s.path = "quantization.fallback";
  s.doc = "When gptq cannot use a matrix's statistics, the matrix is rounded by rtn.";
  one(s, [](auto& job) { return &job.quantization; });
  s.keys = {key("max_modules", integer(0), &S::fallback_max_modules,
                "More matrices than this falling back fail the job.")};
  return s;
}

}  // namespace calque::config
