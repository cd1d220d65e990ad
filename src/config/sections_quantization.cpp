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
      fmt::format(", then `{}`. If `rounding` is given as well, `method` sets only the transform.",
                  QuantizationSettings().rounding->name);
  const Codec<std::string> codec = one_of(std::move(names));
  result.type = codec.type;
  result.values = codec.values;
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
      "How weights are quantized. `bits`, `group_size` and `sym` apply to folders of safetensors; "
      "GGUF types define their own.";
  one(s, [](auto& job) { return &job.quantization; });
  s.keys = {
      method_key(),
      key("preset", row_of(job::presets()), &S::preset,
          "How much work is spent on quality: the meaning of `auto` in the keys below. " +
              summaries(values_of(job::presets())) + "."),
      key("transform", row_of(quant::transforms()), &S::transform,
          "Transform of the channels before rounding; " +
              summaries(values_of(quant::transforms())) + "."),
      key("rounding", row_of(quant::roundings()), &S::rounding,
          "Rounding of the values; " + summaries(values_of(quant::roundings())) + "."),
      key("bits", small_integer(2, 8), &S::grid, &formats::QuantizationRequest::bits,
          "Bits per weight, without scales; formats support some of these (gptq: 2, 3, 4, 8; "
          "compressed-tensors: 2 to 8; "
          "awq: 4; mlx: 2, 3, 4, 5, 6, 8)."),
      key("group_size", group_size(), &S::grid, &formats::QuantizationRequest::group_size,
          "Number of consecutive inputs that share a scale."),
      key("sym", boolean(), &S::grid, &formats::QuantizationRequest::sym,
          "Symmetric grid, without zero points. Not for mlx, whose groups all have an offset."),
      key("scale_rule", or_auto(choice<ScaleRule>(rules)), &S::scale_rule,
          "How a group's scale is chosen: from its extremes (`minmax`); with the largest magnitude "
          "on the outermost code (`full_range`); as the best of several candidates, with errors "
          "weighted by the inputs' mean squares (`search`) or by the group's block of the Gram "
          "matrix (`block_search`). `auto`: `search`, with channel scales `block_search`."),
      key("act_order", boolean(), &S::options, &quant::RoundingOptions::act_order,
          "gptq: round columns in order of falling activation. Groups stay consecutive, so it "
          "costs nothing at inference."),
      key("damp_percent", number(0, 1), &S::options, &quant::RoundingOptions::damp_percent,
          "gptq: damping added to the Hessian's diagonal, as a fraction of its mean (0.01 is 1 "
          "%)."),
      key("damp_auto_increment", number(0, 1), &S::options,
          &quant::RoundingOptions::damp_auto_increment,
          "gptq: first increase of `damp_percent` if the Hessian is not positive definite, doubled "
          "on each retry; 0: no retries."),
      key("refine_passes", or_auto(small_integer(0, 1000)), &S::refine_passes,
          "gptq: passes that refine codes and scales after rounding; none can raise the error. "
          "`auto`: as many as the `preset` says."),
      key("propagate_error", boolean(), &S::propagate_error,
          "Measure the inputs of each layer after quantizing the layers before it; false: use the "
          "original model throughout."),
      key("upstream_correction", or_auto(number(0, 1)), &S::upstream_correction,
          "gptq: share of the earlier layers' error that each linear compensates. Needs a second "
          "forward pass, through the original model. `auto`: 1 if codes have few enough bits for "
          "the `preset`, else 0."),
      key("target_bpw", or_null(number(1, 16)), &S::allocation,
          &job::AllocationSettings::target_bpw,
          "A size as a target, in bits per weight of the whole file: every matrix gets bits, or a "
          "GGUF type, of its own, so that what the rounding costs is least. For one export; `bits` "
          "and `type` then only decide what `allocation` leaves open."),
      key("target_size", byte_limit(), &S::allocation, &job::AllocationSettings::target_size,
          "The same as the size of the weights files, at most: `4.5GiB`; 0: not given."),
      key("imatrix", or_empty(path()), &S::imatrix,
          "Importance matrix from `calque imatrix` or llama-imatrix, used instead of calibration "
          "text. Only with method `rtn` and exports to GGUF; gives the same files as "
          "`llama-quantize --imatrix`."),
  };
  return s;
}

Section allocation_section() {
  using S = job::AllocationSettings;
  using Sensitivity = S::Sensitivity;
  const std::vector<Choice<Sensitivity>> sensitivities = {{"measured", Sensitivity::kMeasured},
                                                          {"layer", Sensitivity::kLayer}};
  Section s;
  s.path = "quantization.allocation";
  s.doc =
      "How `target_bpw` or `target_size` is met. Each matrix is rounded with every option; the "
      "choice then makes the sum of the costs least.";
  one(s, [](auto& job) { return &job.quantization.allocation; });
  s.keys = {
      key("options", texts(), &S::options,
          "Bits (`[\"2\", \"3\", \"4\"]`) or GGUF types (`[Q2_K, Q3_K, Q4_K]`) to choose from. "
          "Empty: "
          "those of the format that are next to the target, from 2 to 8 bits, or Q2_K to Q8_0."),
      key("sensitivity", choice<Sensitivity>(sensitivities), &S::sensitivity,
          "The cost of an option. `measured`: the divergence of the original with this part alone "
          "rounded, from one run of `windows` for every part from its block on; `layer`: the error "
          "of the linears' outputs, which costs no such runs and knows less (the embedding and the "
          "head then keep what the job says)."),
      key("samples", integer(1), &S::samples,
          "Rows of calibration text that the inputs of the linears are measured on."),
      key("windows", integer(1), &S::windows,
          "Rows of calibration text that the divergence is measured on."),
  };
  return s;
}

Section awq_section() {
  using S = QuantizationSettings;
  const std::vector<Choice<quant::AwqLoss>> losses = {{"gram", quant::AwqLoss::kGram},
                                                      {"output", quant::AwqLoss::kOutput}};
  Section s;
  s.path = "quantization.awq";
  s.doc =
      "Search for the channel scales of `transform: awq`. The scales are folded into the preceding "
      "norm or linear.";
  one(s, [](auto& job) { return &job.quantization; });
  s.keys = {
      earlier_rounding_key(),
      key("loss", choice<quant::AwqLoss>(losses), &S::awq, &quant::AwqOptions::loss,
          "Loss that the search minimizes: the error of the linears' outputs, from their Gram "
          "matrix (`gram`), or of the whole attention's or MLP's output, run for every candidate "
          "(`output`, as in the paper)."),
      key("n_grid", small_integer(1, 1000), &S::awq, &quant::AwqOptions::n_grid,
          "Number of ratios tried, in addition to the identity."),
  };
  return s;
}

Section smoothquant_section() {
  Section s;
  s.path = "quantization.smoothquant";
  s.doc =
      "Channel scales of `transform: smoothquant`: `max|x|^alpha / max|w|^(1 - alpha)`. They are "
      "folded into the preceding norm or linear.";
  one(s, [](auto& job) { return &job.quantization.smoothquant; });
  s.keys = {key("alpha", number(0, 1), &quant::SmoothQuantOptions::alpha,
                "Share of the inputs' size that moves into the weights; more (0.8) where few "
                "channels are much larger than the others.")};
  return s;
}

Section rules_section() {
  using S = formats::ModuleRule;
  Section s;
  s.path = "quantization.rules";
  s.doc =
      "Settings for single modules in folders of safetensors. Later rules override earlier ones, "
      "key by key. `lm_head` and a delta net's decays and rates (`in_proj_a`, `in_proj_b`, "
      "`in_proj_ba`) are not quantized unless a rule says `skip: false`. `format: mlx` quantizes "
      "`lm_head` and the embedding (`model.embed_tokens`) unless a rule says `skip: true`.";
  s.presence = Presence::kOptional;
  many(s, [](auto& job) { return &job.quantization.grid.rules; });
  s.keys = {
      required(key("match", text(), &S::match,
                   "Module name (`model.layers.0.mlp.down_proj`), glob (`*.down_proj`), or regular "
                   "expression (`re:.*\\.mlp\\.`, anchored at the start of the name).")),
      key("bits", or_null(small_integer(2, 8)), &S::bits, "Bits of these modules."),
      key("group_size", or_null(group_size()), &S::group_size, "Group size of these modules."),
      key("sym", or_null(boolean()), &S::sym, "Symmetric grid for these modules."),
      key("skip", or_null(boolean()), &S::skip, "Do not quantize these modules."),
      key("allow_no_match", boolean(), &S::allow_no_match,
          "Accept a rule that matches nothing, which is an error otherwise."),
  };
  return s;
}

Section fallback_section() {
  using S = QuantizationSettings;
  Section s;
  s.path = "quantization.fallback";
  s.doc = "If gptq cannot use the statistics of a matrix, it rounds the matrix by rtn.";
  one(s, [](auto& job) { return &job.quantization; });
  s.keys = {key("max_modules", integer(0), &S::fallback_max_modules,
                "Number of matrices that may fall back; with more, the job fails.")};
  return s;
}

}  // namespace calque::config
