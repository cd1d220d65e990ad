#include "config/hints.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "calque/core/names.h"

namespace calque::config {
namespace {

struct ForeignKey {
  std::string_view name;
  std::string_view whose;
  std::string_view ours;     // with "{}" for the value
  std::string_view section;  // calque's section for the key
};

constexpr std::array kForeignKeys{
    ForeignKey{"w_bit", "AutoAWQ's", "bits: {}", "quantization"},
    ForeignKey{"wbits", "GPTQ-for-LLaMa's", "bits: {}", "quantization"},
    ForeignKey{"num_bits", "llm-compressor's", "bits: {}", "quantization"},
    ForeignKey{"q_group_size", "AutoAWQ's", "group_size: {}", "quantization"},
    ForeignKey{"groupsize", "GPTQ-for-LLaMa's", "group_size: {}", "quantization"},
    ForeignKey{"symmetric", "llm-compressor's", "sym: {}", "quantization"},
    ForeignKey{"actorder", "llm-compressor's", "act_order: true", "quantization"},
    ForeignKey{"act_group_aware", "GPTQModel's", "act_order: {}", "quantization"},
    ForeignKey{"dampening_frac", "llm-compressor's", "damp_percent: {}", "quantization"},
    ForeignKey{"percdamp", "GPTQ's", "damp_percent: {}", "quantization"},
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

struct RetiredKey {
  std::string_view path;
  std::string_view instead;  // with "{0}" for the value
};

constexpr std::array kRetiredKeys{
    RetiredKey{"quantization.block_size",
               "Columns are processed in blocks of 128; other sizes change the time by a few "
               "percent, and results only by rounding. Remove it"},
    RetiredKey{"quantization.awq.clip",
               "Write 'scale_rule: block_search' in quantization for clip: true (with transform: "
               "awq, 'auto' means the same), 'scale_rule: search' for clip: false"},
    RetiredKey{"evaluate.text", "Write 'texts: [{{text: {0}}}]' in evaluate"},
    RetiredKey{"evaluate.tokens", "Write 'texts: [{{tokens: {0}}}]' in evaluate"},
    RetiredKey{"evaluate.kv_cache.type", "Write 'k_type: {0}, v_type: {0}'"},
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

std::string retired_key_hint(std::string_view path, const std::string& value) {
  for (const RetiredKey& key : kRetiredKeys)
    if (key.path == path)
      return fmt::format(
          "'{}' is no longer a key. {}", path.substr(path.rfind('.') + 1),
          fmt::format(fmt::runtime(key.instead), value.empty() ? std::string("...") : value));
  return {};
}

std::string foreign_key_hint(std::string_view key, const std::string& value) {
  if (key == "zero_point")
    return fmt::format(
        "'zero_point' is AutoAWQ's name. Write 'sym: {}' in quantization (zero_point: true means "
        "sym: false)",
        value == "false" ? "true" : "false");
  if (key == "desc_act")
    return fmt::format(
        "'desc_act' belongs to a gptq export, where it stores groups in activation order (g_idx, "
        "slower kernels). For the rounding order alone, write 'act_order: {}' in quantization",
        value == "false" ? "false" : "true");
  if (key == "iters")
    return "'iters' is AutoRound's name; calque's methods do not iterate. Remove it";
  if (key == "blocksize")
    return "'blocksize' is GPTQ's name. calque processes columns in blocks of 128; the size "
           "affects only the time. Remove it";
  for (const ForeignKey& foreign : kForeignKeys)
    if (foreign.name == key)
      return fmt::format("'{}' is {} name. Write '{}' in {}", key, foreign.whose,
                         fmt::format(fmt::runtime(foreign.ours), value.empty() ? "..." : value),
                         foreign.section);
  return {};
}

}  // namespace calque::config
