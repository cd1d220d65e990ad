#include <fmt/format.h>

#include <cmath>

#include "formats/gguf_config_parts.h"
#include "formats/gguf_gaps.h"

namespace calque::formats {
namespace {

// As for config.json: every expert becomes three linears, so a lying count must not ask for more
// than memory holds.
constexpr Index kMostExperts = 4096;
constexpr Index kMostExpertsOfAllLayers = 200'000;

// The width of the first matrix named `name`: ne [hidden, width, ...].
std::optional<Index> width_of(const io::GgufFile& file, std::string_view name) {
  const io::GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr || tensor->ne.size() < 2 ||
      tensor->ne[1] > static_cast<std::uint64_t>(kMostGgufSize))
    return std::nullopt;
  return static_cast<Index>(tensor->ne[1]);
}

void read_counts(const GgufKeyReader& keys, model::ModelConfig& config) {
  config.experts_per_token = keys.count("expert_used_count");
  if (config.num_experts > kMostExperts ||
      config.num_experts * config.num_layers > kMostExpertsOfAllLayers)
    refuse_gguf(
        keys.file(),
        fmt::format("key 'expert_count' is {} in {} layers; calque takes {} in a layer and "
                    "{} in all",
                    config.num_experts, config.num_layers, kMostExperts, kMostExpertsOfAllLayers));
  if (config.experts_per_token > config.num_experts)
    refuse_gguf(keys.file(), fmt::format("key 'expert_used_count' is {} of only {} experts",
                                         config.experts_per_token, config.num_experts));
}

}  // namespace

void read_gguf_gemma(const std::string& arch, const GgufKeyReader& keys,
                     model::ModelConfig& config) {
  if (!arch.starts_with("gemma")) return;
  config.hidden_act = "gelu_pytorch_tanh";
  config.norm_plus_one = true;
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  if (arch == "gemma") return;
  config.query_scale = gguf_query_scale(arch, config);
  const bool second = arch == "gemma2";
  config.attention_softcap = keys.find_real("attn_logit_softcapping").value_or(second ? 50.0 : 0.0);
  config.logit_softcap = keys.find_real("final_logit_softcapping").value_or(second ? 30.0 : 0.0);
}

void read_gguf_windows(const std::string& arch, const GgufKeyReader& keys,
                       model::ModelConfig& config) {
  const Index period = gguf_window_period(arch);
  if (period == 0 && arch != "phi3") return;
  Index window = keys.count_or_zero("attention.sliding_window");
  if (arch == "gemma2" && window == 0) window = 4096;
  for (std::size_t i = 0; i < config.window_of_layer.size(); ++i) {
    const bool full = period > 0 && (static_cast<Index>(i) + 1) % period == 0;
    config.window_of_layer[i] = full ? 0 : window;
  }
}

void read_gguf_experts(const std::string& arch, const GgufKeyReader& keys,
                       model::ModelConfig& config) {
  config.num_experts = keys.count_or_zero("expert_count");
  if (config.num_experts == 0) return;
  read_counts(keys, config);
  config.experts_in_layer.assign(static_cast<std::size_t>(config.num_layers), true);
  config.normalize_experts = gguf_normalizes_experts(arch);
  // Older files say the widths by their tensors only.
  const io::GgufFile& file = keys.file();
  const auto width = [&](const char* key, const char* tensor) {
    const std::optional<Index> given = keys.find_count(key);
    return given ? given : width_of(file, tensor);
  };
  config.expert_intermediate_size =
      width("expert_feed_forward_length", "blk.0.ffn_gate_exps.weight")
          .value_or(config.intermediate_size);
  if (arch == "qwen2moe")
    config.shared_intermediate_size =
        width("expert_shared_feed_forward_length", "blk.0.ffn_gate_shexp.weight")
            .value_or(config.intermediate_size);
}

}  // namespace calque::formats
