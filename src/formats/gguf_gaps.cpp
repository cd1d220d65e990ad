#include "formats/gguf_gaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace calque::formats {
namespace {

using Gaps = std::vector<std::string>;
using Scaling = model::RopeSpec::Scaling;

bool is_gemma(const std::string& arch) { return arch.starts_with("gemma"); }

void add_rope_gaps(const std::string& arch, const model::ModelConfig& config, Gaps& gaps) {
  const Scaling scaling = config.rope.scaling;
  // Loaders look for rope_freqs.weight and rope_factors_*.weight in these architectures only, and
  // refuse tensors that they do not look for.
  if (scaling == Scaling::kLlama3 && arch != "llama")
    gaps.push_back(fmt::format(
        "GGUF has no place for llama3 RoPE scaling in architecture '{}' (only in 'llama')", arch));
  if (scaling == Scaling::kLongRope && arch != "phi3")
    gaps.push_back(fmt::format(
        "GGUF has no place for longrope scaling in architecture '{}' (only in 'phi3')", arch));
  if (config.local_rope.scaling != Scaling::kNone)
    gaps.push_back("GGUF has no place for RoPE scaling of the layers with a window");
}

void add_activation_gaps(const std::string& arch, const model::ModelConfig& config, Gaps& gaps) {
  const std::string expected = is_gemma(arch) ? "gelu_pytorch_tanh" : "silu";
  if (config.hidden_act != expected)
    gaps.push_back(fmt::format("hidden_act is '{}'; loaders of architecture '{}' compute {}",
                               config.hidden_act, arch, expected));
}

void add_window_gaps(const std::string& arch, const model::ModelConfig& config, Gaps& gaps) {
  const Index period = gguf_window_period(arch);
  if (period == 0) return;
  const std::vector<Index>& windows = config.window_of_layer;
  const Index window = *std::max_element(windows.begin(), windows.end());
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const bool full = (static_cast<Index>(i) + 1) % period == 0;
    if (windows[i] == (full ? 0 : window) && window > 0) continue;
    gaps.push_back(
        fmt::format("layer {} has a window of {} tokens; loaders of architecture '{}' give layers "
                    "one window, and every {}th none",
                    i, windows[i], arch, period));
    return;
  }
}

void add_gemma_gaps(const std::string& arch, const model::ModelConfig& config, Gaps& gaps) {
  if (!is_gemma(arch)) return;
  if (!config.tie_word_embeddings)
    gaps.push_back(fmt::format("architecture '{}' has no output matrix of its own", arch));
  if (config.attention_bias) gaps.push_back(fmt::format("architecture '{}' has no biases", arch));
  const double expected = gguf_query_scale(arch, config);
  if (config.query_scale > 0 && std::abs(config.query_scale / expected - 1) > 1e-6)
    gaps.push_back(
        fmt::format("query_pre_attn_scalar is {:g}; loaders of architecture '{}' take "
                    "{:g} for a model of {} layers",
                    1 / (config.query_scale * config.query_scale), arch, 1 / (expected * expected),
                    config.num_layers));
  const bool second = arch == "gemma2";
  if (second && (config.attention_softcap == 0 || config.logit_softcap == 0))
    gaps.push_back("loaders of architecture 'gemma2' cap scores and logits, this model does not");
  if (!second && config.attention_softcap > 0)
    gaps.push_back(fmt::format("loaders of architecture '{}' cap no attention scores", arch));
}

void add_expert_gaps(const std::string& arch, const model::ModelConfig& config, Gaps& gaps) {
  if (config.num_experts == 0) return;
  const std::vector<bool>& layers = config.experts_in_layer;
  if (const auto dense = std::find(layers.begin(), layers.end(), false); dense != layers.end())
    gaps.push_back(
        fmt::format("layer {} has no experts; loaders of architecture '{}' want them in "
                    "every layer",
                    dense - layers.begin(), arch));
  if (config.normalize_experts != gguf_normalizes_experts(arch))
    gaps.push_back(fmt::format("norm_topk_prob is {}; loaders of architecture '{}' take it for {}",
                               config.normalize_experts, arch, gguf_normalizes_experts(arch)));
  if (arch == "qwen2moe" && config.tie_word_embeddings)
    gaps.push_back("loaders of architecture 'qwen2moe' want an output matrix of its own");
}

// Loaders find biases of q, k and v, and refuse the one of o as a tensor too many.
void add_bias_gaps(const std::string& arch, const model::ModelConfig& config, Gaps& gaps) {
  if (arch.starts_with("qwen3") && config.attention_bias)
    gaps.push_back(fmt::format("architecture '{}' has no bias of o_proj", arch));
}

void add_width_gaps(const std::string& arch, const model::ModelConfig& config, Gaps& gaps) {
  const Index width = config.num_heads * config.head_dim;
  if (!arch.starts_with("qwen2") && arch != "phi3") return;
  if (width != config.hidden_size)
    gaps.push_back(fmt::format("{} heads of {} are not hidden_size {}, as architecture '{}' wants",
                               config.num_heads, config.head_dim, config.hidden_size, arch));
}

}  // namespace

Index gguf_window_period(const std::string& arch) {
  if (arch == "gemma2") return 2;
  return arch == "gemma3" ? 6 : 0;
}

double gguf_query_scale(const std::string& arch, const model::ModelConfig& config) {
  // The 27B models.
  const bool by_width = (arch == "gemma2" && config.num_layers == 46) ||
                        (arch == "gemma3" && config.num_layers == 62);
  const Index size = by_width ? config.hidden_size / config.num_heads : config.head_dim;
  return 1.0 / std::sqrt(static_cast<double>(size));
}

bool gguf_normalizes_experts(const std::string& arch) { return arch != "qwen2moe"; }

std::vector<std::string> gguf_gaps(const model::FamilySpec& family) {
  Gaps gaps;
  const std::string& arch = family.gguf_architecture;
  if (arch.empty()) return gaps;
  for (const auto add : {add_rope_gaps, add_activation_gaps, add_window_gaps, add_gemma_gaps,
                         add_expert_gaps, add_bias_gaps, add_width_gaps})
    add(arch, family.config, gaps);
  return gaps;
}

}  // namespace calque::formats
