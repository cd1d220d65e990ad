#include <algorithm>
#include <string>

#include "formats/gguf_gaps.h"
#include "formats/gguf_keys.h"

namespace calque::formats {
namespace {

using Scaling = model::RopeSpec::Scaling;

void add_sizes(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  keys.count(arch + ".block_count", config.num_layers);
  keys.count(arch + ".context_length", config.max_positions);
  keys.count(arch + ".embedding_length", config.hidden_size);
  keys.count(arch + ".feed_forward_length", config.intermediate_size);
  keys.count(arch + ".attention.head_count", config.num_heads);
  keys.count(arch + ".attention.head_count_kv", config.num_kv_heads);
  keys.real(arch + ".attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  keys.count(arch + ".attention.key_length", config.head_dim);
  keys.count(arch + ".attention.value_length", config.head_dim);
}

// llama3's divisors and longrope's factors are tensors.
void add_rope(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  const model::RopeSpec& rope = config.rope;
  keys.real(arch + ".rope.freq_base", rope.theta);
  if (arch == "gemma3") keys.real(arch + ".rope.freq_base_swa", config.local_rope.theta);
  if (arch == "llama" || arch == "phi3")
    keys.count(arch + ".rope.dimension_count", config.head_dim);
  if (rope.scaling == Scaling::kLinear) {
    keys.text(arch + ".rope.scaling.type", "linear");
    keys.real(arch + ".rope.scaling.factor", rope.factor);
  }
  if (rope.scaling == Scaling::kLongRope) {
    keys.count(arch + ".rope.scaling.original_context_length", rope.original_max_positions);
    keys.real(arch + ".rope.scaling.attn_factor", rope.attention_factor);
  }
}

void add_experts(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  if (config.num_experts == 0) return;
  keys.count(arch + ".expert_count", config.num_experts);
  keys.count(arch + ".expert_used_count", config.experts_per_token);
  // Mixtral's experts are feed_forward_length wide.
  if (arch != "llama")
    keys.count(arch + ".expert_feed_forward_length", config.expert_intermediate_size);
  if (config.shared_intermediate_size > 0)
    keys.count(arch + ".expert_shared_feed_forward_length", config.shared_intermediate_size);
}

// phi3 must say that it has no window; llama and qwen have no key for theirs.
void add_windows(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  if (arch != "phi3" && gguf_window_period(arch) == 0) return;
  const std::vector<Index>& windows = config.window_of_layer;
  keys.count(arch + ".attention.sliding_window", *std::max_element(windows.begin(), windows.end()));
}

void add_caps(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  if (config.attention_softcap > 0)
    keys.real(arch + ".attn_logit_softcapping", config.attention_softcap);
  if (config.logit_softcap > 0) keys.real(arch + ".final_logit_softcapping", config.logit_softcap);
}

}  // namespace

void add_architecture_keys(const WriterInputs& inputs, GgufKeys& keys) {
  const std::string& arch = inputs.family.gguf_architecture;
  const model::ModelConfig& config = inputs.family.config;
  add_sizes(arch, config, keys);
  // Without tokens, the loader knows their number from here only.
  if (arch == "llama" || arch == "phi3" || inputs.vocabulary == nullptr)
    keys.count(arch + ".vocab_size", config.vocab_size);
  add_rope(arch, config, keys);
  add_experts(arch, config, keys);
  add_windows(arch, config, keys);
  add_caps(arch, config, keys);
}

}  // namespace calque::formats
