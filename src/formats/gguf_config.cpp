#include "formats/gguf_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <string>
#include <vector>

#include "formats/gguf_config_parts.h"

namespace calque::formats {
namespace {

struct Architecture {
  std::string_view gguf;
  std::string_view hugging_face;
  std::string_view model_type;
};
// "llama" with experts is Mixtral.
constexpr std::array<Architecture, 10> kArchitectures = {
    {{"llama", "LlamaForCausalLM", "llama"},
     {"llama", "MixtralForCausalLM", "mixtral"},
     {"qwen2", "Qwen2ForCausalLM", "qwen2"},
     {"qwen3", "Qwen3ForCausalLM", "qwen3"},
     {"qwen2moe", "Qwen2MoeForCausalLM", "qwen2_moe"},
     {"qwen3moe", "Qwen3MoeForCausalLM", "qwen3_moe"},
     {"gemma", "GemmaForCausalLM", "gemma"},
     {"gemma2", "Gemma2ForCausalLM", "gemma2"},
     {"gemma3", "Gemma3ForCausalLM", "gemma3_text"},
     {"phi3", "Phi3ForCausalLM", "phi3"}}};

const Architecture& architecture_of(const io::GgufFile& file) {
  const std::optional<std::string> name = file.string("general.architecture");
  if (!name) refuse_gguf(file, "key 'general.architecture' is missing");
  const bool mixtral = *name == "llama" && file.integer("llama.expert_count").value_or(0) > 0;
  std::vector<std::string> known;
  for (const Architecture& architecture : kArchitectures) {
    const bool has_experts = architecture.model_type == "mixtral";
    if (architecture.gguf == *name && has_experts == mixtral) return architecture;
    if (!has_experts) known.emplace_back(architecture.gguf);
  }
  refuse_gguf(file, fmt::format("architecture '{}' cannot be read; calque reads {}", *name,
                                fmt::join(known, ", ")));
}

Index vocab_size_of(const io::GgufFile& file) {
  const io::GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->ne.size() != 2)
    refuse_gguf(file, "tensor 'token_embd.weight' is missing or no matrix");
  return static_cast<Index>(embedding->ne[1]);
}

// File names of tensors end in .weight and .bias; a layer's biases are optional for "llama".
bool has_tensor(const io::GgufFile& file, std::string_view name) {
  return file.find_tensor(name) != nullptr;
}

void set_sizes(const io::GgufFile& file, const GgufKeyReader& keys, model::ModelConfig& config) {
  config.hidden_size = keys.count("embedding_length");
  config.intermediate_size = keys.count("feed_forward_length");
  config.num_layers = keys.count("block_count");
  // A block has at least nine tensors; a count beyond the file's is a lie that would cost memory.
  if (static_cast<std::uint64_t>(config.num_layers) > file.tensors().size())
    refuse_gguf(file, fmt::format("key 'block_count' is {}, but the file has {} tensors",
                                  config.num_layers, file.tensors().size()));
  config.num_heads = keys.count("attention.head_count");
  config.num_kv_heads = keys.find_count("attention.head_count_kv").value_or(config.num_heads);
  config.head_dim =
      keys.find_count("attention.key_length").value_or(config.hidden_size / config.num_heads);
  config.max_positions = keys.count("context_length");
  config.vocab_size = vocab_size_of(file);
  config.window_of_layer.assign(static_cast<std::size_t>(config.num_layers), 0);
  if (config.num_heads % config.num_kv_heads != 0 || config.head_dim < 2 || config.head_dim % 2)
    refuse_gguf(file, fmt::format("{} heads of {} and {} key/value heads do not fit together",
                                  config.num_heads, config.head_dim, config.num_kv_heads));
}

}  // namespace

model::ModelConfig gguf_config(const io::GgufFile& file) {
  const Architecture& architecture = architecture_of(file);
  const GgufKeyReader keys(file, architecture.gguf);
  model::ModelConfig config;
  config.architecture = architecture.hugging_face;
  config.model_type = architecture.model_type;
  set_sizes(file, keys, config);
  const std::optional<double> eps = keys.find_real("attention.layer_norm_rms_epsilon");
  if (!eps)
    refuse_gguf(file, fmt::format("key '{}.attention.layer_norm_rms_epsilon' is missing",
                                  architecture.gguf));
  config.rms_norm_eps = *eps;
  const std::string arch(architecture.gguf);
  read_gguf_rope(arch, keys, config);
  read_gguf_gemma(arch, keys, config);
  read_gguf_windows(arch, keys, config);
  if (arch == "llama" || arch.ends_with("moe")) read_gguf_experts(arch, keys, config);
  config.tie_word_embeddings = !has_tensor(file, "output.weight");
  config.attention_bias = has_tensor(file, "blk.0.attn_q.bias");
  config.mlp_bias = has_tensor(file, "blk.0.ffn_gate.bias");
  config.bos_token_id = file.integer("tokenizer.ggml.bos_token_id");
  config.eos_token_id = file.integer("tokenizer.ggml.eos_token_id");
  return config;
}

}  // namespace calque::formats
