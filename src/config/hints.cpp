#include "config/hints.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace calque::config {
namespace {

// Optimal string alignment distance.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

struct ForeignKey {
  std::string_view name;
  std::string_view whose;
  std::string_view ours;     // with "{}" for the value
  std::string_view section;  // where it belongs
};

constexpr std::array kForeignKeys{
    ForeignKey{"w_bit", "AutoAWQ's", "bits: {}", "quantization"},
    ForeignKey{"wbits", "GPTQ-for-LLaMa's", "bits: {}", "quantization"},
    ForeignKey{"num_bits", "llm-compressor's", "bits: {}", "quantization"},
    ForeignKey{"q_group_size", "AutoAWQ's", "group_size: {}", "quantization"},
    ForeignKey{"groupsize", "GPTQ-for-LLaMa's", "group_size: {}", "quantization"},
    ForeignKey{"symmetric", "llm-compressor's", "sym: {}", "quantization"},
    ForeignKey{"desc_act", "AutoGPTQ's", "act_order: {}", "quantization"},
    ForeignKey{"actorder", "llm-compressor's", "act_order: true", "quantization"},
    ForeignKey{"act_group_aware", "GPTQModel's", "act_order: {}", "quantization"},
    ForeignKey{"dampening_frac", "llm-compressor's", "damp_percent: {}", "quantization"},
    ForeignKey{"percdamp", "GPTQ's", "damp_percent: {}", "quantization"},
    ForeignKey{"blocksize", "GPTQ's", "block_size: {}", "quantization"},
    ForeignKey{"true_sequential", "AutoGPTQ's", "propagate_error: {}", "quantization"},
    ForeignKey{"nsamples", "GPTQ's", "n_samples: {}", "calibration"},
    ForeignKey{"num_calibration_samples", "llm-compressor's", "n_samples: {}", "calibration"},
    ForeignKey{"max_calib_samples", "AutoAWQ's", "n_samples: {}", "calibration"},
    ForeignKey{"max_seq_length", "llm-compressor's", "seqlen: {}", "calibration"},
    ForeignKey{"max_calib_seq_len", "AutoAWQ's", "seqlen: {}", "calibration"},
    ForeignKey{"model_seqlen", "optimum's", "seqlen: {}", "calibration"},
    ForeignKey{"calib_data", "AutoAWQ's", "sources: [{{path: FILE}}]", "calibration"},
    ForeignKey{"dataset", "optimum's", "sources: [{{path: FILE}}]", "calibration"},
    ForeignKey{"model_path", "AutoAWQ's", "path: {}", "model"},
    ForeignKey{"model_name_or_path", "transformers'", "path: FOLDER", "model"},
};

}  // namespace

std::optional<std::string> nearest(std::string_view name,
                                   const std::vector<std::string>& candidates) {
  const std::size_t most = std::max<std::size_t>(1, name.size() / 3);
  if (name.size() > 100) return std::nullopt;
  std::optional<std::string> best;
  std::size_t best_distance = most + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

std::string foreign_key_hint(std::string_view key, const std::string& value) {
  if (key == "zero_point")
    return fmt::format(
        "'zero_point' is AutoAWQ's name. Write 'sym: {}' in quantization (zero_point: true means "
        "sym: false)",
        value == "false" ? "true" : "false");
  if (key == "iters")
    return "'iters' is AutoRound's name; the methods here do not iterate. Remove it";
  for (const ForeignKey& foreign : kForeignKeys)
    if (foreign.name == key)
      return fmt::format("'{}' is {} name. Write '{}' in {}", key, foreign.whose,
                         fmt::format(fmt::runtime(foreign.ours), value.empty() ? "..." : value),
                         foreign.section);
  return {};
}

}  // namespace calque::config
