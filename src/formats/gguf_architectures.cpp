#include "formats/gguf_architectures.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "calque/core/error.h"

namespace calque::formats {
namespace {

// "llama" with experts is Mixtral.
constexpr GgufArchitecture kArchitectures[] = {
    {"ernie4_5-moe", "Ernie4_5_MoeForCausalLM"},
    {"exaone4", "Exaone4ForCausalLM"},
    {"gemma", "GemmaForCausalLM"},
    {"gemma2", "Gemma2ForCausalLM"},
    {"gemma3", "Gemma3ForCausalLM"},
    {"gemma4", "Gemma4ForCausalLM"},
    {"glm4moe", "Glm4MoeForCausalLM"},
    {"gpt-oss", "GptOssForCausalLM"},
    {"hy_v3", "HYV3ForCausalLM"},
    {"llama", "LlamaForCausalLM"},
    {"llama", "MixtralForCausalLM"},
    {"minimax-m2", "MiniMaxM2ForCausalLM"},
    {"mistral3", "Ministral3ForCausalLM"},
    {"olmo2", "Olmo3ForCausalLM"},
    {"phi3", "Phi3ForCausalLM"},
    {"qwen2", "Qwen2ForCausalLM"},
    {"qwen2moe", "Qwen2MoeForCausalLM"},
    {"qwen2vl", "Qwen2VLTextModel"},
    {"qwen3", "Qwen3ForCausalLM"},
    {"qwen35", "Qwen3_5ForCausalLM"},
    {"qwen35moe", "Qwen3_5MoeForCausalLM"},
    {"qwen3moe", "Qwen3MoeForCausalLM"},
    {"qwen3next", "Qwen3NextForCausalLM"},
    {"qwen3vl", "Qwen3VLTextModel"},
    {"qwen3vlmoe", "Qwen3VLMoeTextModel"},
    {"seed_oss", "SeedOssForCausalLM"},
    {"smollm3", "SmolLM3ForCausalLM"},
};

using Reasons = std::vector<std::string>;
using Scaling = model::RopeSpec::Scaling;

// The only EXAONE 4 whose layers have windows, as far as loaders know: the 32B model.
constexpr Index kExaoneLayers = 64;

// "2nd", "3rd", "6th".
std::string ordinal(Index n) {
  const Index last = n % 100 / 10 == 1 ? 0 : n % 10;
  return fmt::format("{}{}", n, last == 1 ? "st" : last == 2 ? "nd" : last == 3 ? "rd" : "th");
}

bool is_gemma(const std::string& arch) { return arch.starts_with("gemma"); }

// Loaders compute the factor of cosines and sines from the stretch, and count whole pairs.
void check_yarn(const std::string& arch, const model::RopeSpec& rope, Reasons& reasons) {
  if (!rope.truncate && arch != "gpt-oss")
    reasons.push_back("GGUF cannot store yarn with truncate: false");
  const double expected = gguf_yarn_factor(rope);
  if (arch != "mistral3" && std::abs(rope.attention_factor / expected - 1) > 1e-6)
    reasons.push_back(
        fmt::format("yarn's attention_factor is {:g}; loaders of architecture '{}' take {:g}",
                    rope.attention_factor, arch, expected));
}

void check_positions(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  const std::vector<bool> turned = gguf_turned_layers(arch, config.num_layers);
  if (config.turned_layers == turned) return;
  const std::vector<bool> all(static_cast<std::size_t>(config.num_layers), true);
  const std::vector<bool>& own = config.turned_layers.empty() ? all : config.turned_layers;
  const std::vector<bool>& loaders = turned.empty() ? all : turned;
  for (std::size_t i = 0; i < own.size(); ++i)
    if (own[i] != loaders[i]) {
      reasons.push_back(fmt::format("layer {} has {}positions; loaders of architecture '{}' {}", i,
                                    own[i] ? "" : "no ", arch,
                                    own[i] ? "give it none" : "give it some"));
      return;
    }
}

void check_rope(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  const Scaling scaling = config.rope.scaling;
  // Only in these architectures do loaders look for rope_freqs.weight and rope_factors_*.weight;
  // they refuse tensors they do not look for.
  if (scaling == Scaling::kLlama3 && arch != "llama" && arch != "exaone4")
    reasons.push_back(
        fmt::format("GGUF cannot store llama3 RoPE scaling in architecture '{}' (only in 'llama' "
                    "and 'exaone4')",
                    arch));
  if (arch == "gemma4" && scaling != Scaling::kProportional && scaling != Scaling::kNone)
    reasons.push_back(
        "layers without a window have a RoPE scaling other than 'proportional', which loaders of "
        "architecture 'gemma4' do not read");
  if (scaling == Scaling::kLongRope && arch != "phi3")
    reasons.push_back(fmt::format(
        "GGUF cannot store longrope scaling in architecture '{}' (only in 'phi3')", arch));
  if (scaling == Scaling::kYarn) check_yarn(arch, config.rope, reasons);
  if (config.rope.query_growth != 0 && arch != "mistral3")
    reasons.push_back(fmt::format(
        "GGUF cannot store queries that grow with the position in architecture '{}'", arch));
  if (arch == "olmo2" && config.local_rope.theta != config.rope.theta)
    reasons.push_back(
        "layers with a window have a rope_theta of their own; loaders of architecture 'olmo2' "
        "turn all layers by one");
  if (config.local_rope.scaling != Scaling::kNone)
    reasons.push_back("GGUF cannot store RoPE scaling of the layers with a window");
}

// Loaders of these architectures need the sections, and turn a token of text as plain RoPE does.
void check_sections(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  if (!gguf_has_sections(arch)) return;
  if (config.rope_sections.empty())
    reasons.push_back(fmt::format(
        "rope_scaling has no mrope_section, which loaders of architecture '{}' require", arch));
  const Index pairs =
      std::accumulate(config.rope_sections.begin(), config.rope_sections.end(), Index{0});
  if (pairs > config.head_dim)
    reasons.push_back(fmt::format(
        "mrope_section {} has {} pairs, more than a head's {} channels; loaders of architecture "
        "'{}' stop there",
        fmt::join(config.rope_sections, ", "), pairs, config.head_dim, arch));
}

// Loaders find the layers with attention by one number.
void check_delta_nets(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  if (!gguf_has_delta_nets(arch)) return;
  const model::DeltaNetSizes& sizes = config.delta_net;
  if (sizes.key_dim != sizes.value_dim)
    reasons.push_back(
        fmt::format("a delta net's keys have {} channels a head and its values {}; loaders of "
                    "architecture '{}' take one width for both",
                    sizes.key_dim, sizes.value_dim, arch));
  const std::vector<bool>& layers = config.delta_net_layers;
  if (std::find(layers.begin(), layers.end(), !layers.front()) == layers.end()) {
    reasons.push_back(
        fmt::format("all layers have {}; loaders of architecture '{}' require layers "
                    "with attention and layers with delta nets",
                    layers.front() ? "delta nets" : "attention", arch));
    return;
  }
  const Index interval = gguf_attention_interval(config);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] != ((static_cast<Index>(i) + 1) % interval == 0)) continue;
    reasons.push_back(
        fmt::format("layer {} has {}; loaders of architecture '{}' expect attention in every {} "
                    "layer and delta nets in the others",
                    i, layers[i] ? "a delta net" : "attention", arch, ordinal(interval)));
    return;
  }
}

void check_activation(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  const std::string expected = is_gemma(arch) ? "gelu_pytorch_tanh" : "silu";
  if (config.hidden_act != expected)
    reasons.push_back(fmt::format("hidden_act is '{}'; loaders of architecture '{}' compute {}",
                                  config.hidden_act, arch, expected));
  const model::ClampedGate loaders = gguf_clamped_gate(arch);
  if (config.clamped_gate != loaders)
    reasons.push_back(fmt::format(
        "gates are clamped at {:g} and have a slope of {:g}; loaders of architecture '{}' take "
        "{:g} and {:g}",
        config.clamped_gate.limit, config.clamped_gate.slope, arch, loaders.limit, loaders.slope));
}

void check_window(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  const std::vector<Index>& listed = config.window_of_layer;
  if (gguf_lists_windows(arch) && *std::max_element(listed.begin(), listed.end()) == 0)
    reasons.push_back(
        fmt::format("no layer has a window; loaders of architecture '{}' require one", arch));
  const Index period = gguf_window_period(arch, config.num_layers);
  if (period == 0) return;
  const std::vector<Index>& windows = config.window_of_layer;
  const Index window = *std::max_element(windows.begin(), windows.end());
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const bool full = (static_cast<Index>(i) + 1) % period == 0;
    if (windows[i] == (full ? 0 : window) && window > 0) continue;
    reasons.push_back(
        fmt::format("layer {} has a window of {} tokens; loaders of architecture '{}' give layers "
                    "one window, and every {} none",
                    i, windows[i], arch, ordinal(period)));
    return;
  }
}

// Loaders take the keys and values of the last layer that makes some for layers without a window,
// and those of the layer before it for layers with one.
void check_shared_layers(const std::string& arch, const model::ModelConfig& config,
                         Reasons& reasons) {
  for (Index layer = config.num_layers - config.shared_kv_layers; layer < config.num_layers;
       ++layer) {
    const Index taken =
        config.num_layers - config.shared_kv_layers - (config.has_window(layer) ? 2 : 1);
    if (taken >= 0 && config.has_window(taken) == config.has_window(layer)) continue;
    reasons.push_back(
        fmt::format("layer {} uses keys and values of another layer than loaders of architecture "
                    "'{}' would take, which is layer {}",
                    layer, arch, taken));
    return;
  }
}

void check_gemma(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  if (!is_gemma(arch)) return;
  if (!config.tie_word_embeddings && arch != "gemma4")
    reasons.push_back(fmt::format("architecture '{}' has no separate output matrix", arch));
  if (config.attention_bias)
    reasons.push_back(fmt::format("architecture '{}' has no biases", arch));
  const double expected = gguf_query_scale(arch, config);
  if (config.query_scale > 0 && std::abs(config.query_scale / expected - 1) > 1e-6)
    reasons.push_back(
        fmt::format("query_pre_attn_scalar is {:g}; loaders of architecture '{}' take "
                    "{:g} for a model of {} layers",
                    1 / (config.query_scale * config.query_scale), arch, 1 / (expected * expected),
                    config.num_layers));
  const bool second = arch == "gemma2";
  if (second && (config.attention_softcap == 0 || config.logit_softcap == 0))
    reasons.push_back(
        "loaders of architecture 'gemma2' cap scores and logits; this model does not");
  if (!second && config.attention_softcap > 0)
    reasons.push_back(
        fmt::format("loaders of architecture '{}' do not cap attention scores", arch));
}

void check_dense_layers(const std::string& arch, const model::ModelConfig& config,
                        Reasons& reasons) {
  const GgufExperts loaders = gguf_experts(arch);
  const std::vector<bool>& layers = config.experts_in_layer;
  if (loaders.dense == GgufExperts::Dense::kAny) return;
  if (loaders.dense == GgufExperts::Dense::kNone) {
    if (const auto dense = std::find(layers.begin(), layers.end(), false); dense != layers.end())
      reasons.push_back(fmt::format(
          "layer {} has no experts; loaders of architecture '{}' require them in every layer",
          dense - layers.begin(), arch));
    return;
  }
  const Index step = model::expert_layer_step(config);
  if (step == 1 || (step > 1 && loaders.dense == GgufExperts::Dense::kSteps)) return;
  reasons.push_back(
      fmt::format("the layers with experts are not all from a first one on{}, as loaders of "
                  "architecture '{}' assume",
                  loaders.dense == GgufExperts::Dense::kSteps ? ", or every n-th" : "", arch));
}

void check_routing(const std::string& arch, const model::Routing& routing, Reasons& reasons) {
  const GgufExperts loaders = gguf_experts(arch);
  if (routing.scores != loaders.routing.scores)
    reasons.push_back(
        fmt::format("loaders of architecture '{}' compute another function of the "
                    "router's scores",
                    arch));
  if (loaders.weight_keys) return;
  if (routing.normalize != loaders.routing.normalize)
    reasons.push_back(fmt::format("norm_topk_prob is {}; loaders of architecture '{}' assume {}",
                                  routing.normalize, arch, loaders.routing.normalize));
  if (routing.scale != 1)
    reasons.push_back(
        fmt::format("experts' weights are multiplied by {}; loaders of architecture "
                    "'{}' do not",
                    routing.scale, arch));
}

void check_expert(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  if (config.num_experts == 0) return;
  check_dense_layers(arch, config, reasons);
  check_routing(arch, config.routing, reasons);
  if (arch == "qwen2moe" && config.tie_word_embeddings)
    reasons.push_back("loaders of architecture 'qwen2moe' require a separate output matrix");
}

// Loaders accept biases of q, k and v, and refuse a bias of o as an unexpected tensor.
void check_bias(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  const bool refuses = arch.starts_with("qwen3") || arch == "hy_v3" || arch == "olmo2";
  if (refuses && config.attention_bias)
    reasons.push_back(fmt::format("architecture '{}' has no bias of o_proj", arch));
  if (arch == "gpt-oss" && !config.attention_bias)
    reasons.emplace_back("loaders of architecture 'gpt-oss' require biases of q, k, v and o");
}

void check_width(const std::string& arch, const model::ModelConfig& config, Reasons& reasons) {
  const Index width = config.num_heads * config.head_dim;
  if (!arch.starts_with("qwen2") && arch != "phi3") return;
  if (width != config.hidden_size)
    reasons.push_back(
        fmt::format("{} heads of {} do not make up hidden_size {}, as architecture '{}' requires",
                    config.num_heads, config.head_dim, config.hidden_size, arch));
}

}  // namespace

void refuse_gguf(const io::GgufFile& file, const std::string& reason) {
  throw Error(ErrorKind::kInput, "E174", file.path().string() + ": " + reason);
}

const GgufArchitecture& gguf_architecture_of(const io::GgufFile& file) {
  const std::optional<std::string> name = file.string("general.architecture");
  if (!name) refuse_gguf(file, "key 'general.architecture' is missing");
  const bool mixtral = *name == "llama" && file.integer("llama.expert_count").value_or(0) > 0;
  std::vector<std::string> known;
  for (const GgufArchitecture& architecture : kArchitectures) {
    const bool has_experts = architecture.hugging_face == "MixtralForCausalLM";
    if (architecture.gguf == *name && has_experts == mixtral) return architecture;
    if (!has_experts) known.emplace_back(architecture.gguf);
  }
  refuse_gguf(file, fmt::format("architecture '{}' cannot be read; calque reads {}", *name,
                                fmt::join(known, ", ")));
}

Index gguf_window_period(const std::string& arch, Index layers) {
  if (arch == "gemma2" || arch == "gpt-oss") return 2;
  if (arch == "olmo2" || (arch == "exaone4" && layers == kExaoneLayers)) return 4;
  return arch == "gemma3" ? 6 : 0;
}

const GgufPieces* gguf_pieces_by_merges(const std::string& arch) {
  // Thoughts and calls of tools stand between these, and a server must see them to tell them from
  // the answer.
  static const GgufPieces kGemma4{"gemma4",
                                  {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>",
                                   "<|tool_response>", "<tool_response|>", "<|\"|>"}};
  return arch == "gemma4" ? &kGemma4 : nullptr;
}

bool gguf_lists_windows(const std::string& arch) { return arch == "gemma4"; }

double gguf_query_scale(const std::string& arch, const model::ModelConfig& config) {
  if (arch == "gemma4") return 1.0;
  // The 27B models.
  const bool by_width = (arch == "gemma2" && config.num_layers == 46) ||
                        (arch == "gemma3" && config.num_layers == 62);
  const Index size = by_width ? config.hidden_size / config.num_heads : config.head_dim;
  return 1.0 / std::sqrt(static_cast<double>(size));
}

std::vector<bool> gguf_turned_layers(const std::string& arch, Index layers) {
  if (arch != "smollm3" && (arch != "exaone4" || layers != kExaoneLayers)) return {};
  std::vector<bool> turned(static_cast<std::size_t>(layers), true);
  for (std::size_t i = 3; i < turned.size(); i += 4) turned[i] = false;
  return turned;
}

bool gguf_has_sections(const std::string& arch) {
  return arch.ends_with("vl") || arch == "qwen3vlmoe" || arch.starts_with("qwen35");
}

bool gguf_has_delta_nets(const std::string& arch) {
  return arch == "qwen3next" || arch.starts_with("qwen35");
}

Index gguf_attention_interval(const model::ModelConfig& config) {
  const auto first =
      std::find(config.delta_net_layers.begin(), config.delta_net_layers.end(), false);
  return first - config.delta_net_layers.begin() + 1;
}

model::ClampedGate gguf_clamped_gate(const std::string& arch) {
  return {.limit = arch == "gpt-oss" ? 7.0 : 0.0};
}

double gguf_yarn_factor(const model::RopeSpec& rope) {
  return rope.factor > 1 ? 1 + 0.1 * std::log(rope.factor) : 1.0;
}

GgufExperts gguf_experts(const std::string& arch) {
  GgufExperts experts;
  experts.any = arch == "llama" || arch == "gemma4" || arch.ends_with("moe") || arch == "hy_v3" ||
                arch == "minimax-m2" || arch == "qwen3next" || arch == "gpt-oss";
  const bool like_deepseek = arch == "glm4moe" || arch == "hy_v3";
  experts.in_mxfp4 = arch == "gpt-oss";
  experts.weight_keys = like_deepseek;
  experts.scores_key = like_deepseek || arch == "minimax-m2";
  experts.shared_count = arch == "glm4moe" || arch == "ernie4_5-moe";
  if (experts.scores_key) experts.routing.scores = model::Routing::Scores::kSigmoid;
  experts.routing.normalize = arch != "qwen2moe";
  if (like_deepseek) experts.routing.sum_extra = 1e-20;
  if (arch == "ernie4_5-moe") experts.routing.sum_floor = 1e-12;
  if (arch == "glm4moe") experts.dense = GgufExperts::Dense::kFirst;
  if (arch == "hy_v3" || arch == "gemma4") experts.dense = GgufExperts::Dense::kAny;
  if (arch == "ernie4_5-moe") experts.dense = GgufExperts::Dense::kSteps;
  return experts;
}

std::vector<std::string> gguf_differences(const model::FamilySpec& family) {
  const model::RopeSpec& rope = family.config.rope;
  if (family.gguf_architecture != "gpt-oss" || rope.scaling != Scaling::kYarn || rope.truncate)
    return {};
  return {
      "yarn blends pairs from a fraction of a pair on (truncate: false), which no key can say: "
      "llama.cpp rounds the ends to whole pairs, in every file of architecture 'gpt-oss'"};
}

std::vector<std::string> gguf_unsupported(const model::FamilySpec& family) {
  Reasons reasons;
  const std::string& arch = family.gguf_architecture;
  if (arch.empty()) return reasons;
  for (const auto check :
       {check_sections, check_delta_nets, check_rope, check_activation, check_window,
        check_shared_layers, check_gemma, check_expert, check_bias, check_width, check_positions})
    check(arch, family.config, reasons);
  return reasons;
}

}  // namespace calque::formats
