#include "artifact/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "artifact/ggml_blocks.h"
#include "artifact/gguf_types.h"
#include "calque/core/error.h"

namespace calque::artifact {
namespace {

struct Architecture {
  std::string_view gguf;
  std::string_view hugging_face;
  std::string_view model_type;
};
constexpr std::array<Architecture, 3> kArchitectures = {{{"llama", "LlamaForCausalLM", "llama"},
                                                         {"qwen2", "Qwen2ForCausalLM", "qwen2"},
                                                         {"qwen3", "Qwen3ForCausalLM", "qwen3"}}};

[[noreturn]] void refuse(const io::GgufFile& file, const std::string& reason) {
  throw Error(ErrorKind::kInput, "", file.path().string() + ": " + reason);
}

const Architecture& architecture_of(const io::GgufFile& file) {
  const std::optional<std::string> name = file.string("general.architecture");
  if (!name) refuse(file, "key 'general.architecture' is missing");
  for (const Architecture& architecture : kArchitectures)
    if (architecture.gguf == *name) return architecture;
  refuse(file, fmt::format("architecture '{}' cannot be read; calque reads llama, qwen2 and qwen3",
                           *name));
}

// Sizes that no model reaches, so that products of two of them stay far from overflow.
constexpr std::int64_t kMostSize = std::int64_t{1} << 28;

class KeyReader {
 public:
  KeyReader(const io::GgufFile& file, std::string_view arch)
      : file_(file), prefix_(std::string(arch) + ".") {}

  std::optional<Index> find_count(const std::string& key) const {
    const std::optional<std::int64_t> value = file_.integer(prefix_ + key);
    if (value && (*value < 1 || *value > kMostSize))
      refuse(file_,
             fmt::format("key '{}{}' is {}, expected 1 to {}", prefix_, key, *value, kMostSize));
    return value;
  }
  Index count(const std::string& key) const {
    const std::optional<Index> value = find_count(key);
    if (!value) refuse(file_, fmt::format("key '{}{}' is missing", prefix_, key));
    return *value;
  }
  // The shortest decimal that gives the stored fp32: 1e-05 rather than 9.99999974e-06.
  std::optional<double> find_real(const std::string& key) const {
    const std::optional<double> value = file_.real(prefix_ + key);
    if (!value) return std::nullopt;
    if (!std::isfinite(*value) || *value <= 0)
      refuse(file_, fmt::format("key '{}{}' is {}", prefix_, key, *value));
    const auto stored = static_cast<float>(*value);
    return static_cast<double>(stored) == *value ? std::stod(fmt::format("{}", stored)) : *value;
  }
  std::optional<std::string> find_text(const std::string& key) const {
    return file_.string(prefix_ + key);
  }

 private:
  const io::GgufFile& file_;
  std::string prefix_;
};

Index vocab_size_of(const io::GgufFile& file) {
  const io::GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->ne.size() != 2)
    refuse(file, "tensor 'token_embd.weight' is missing or no matrix");
  return static_cast<Index>(embedding->ne[1]);
}

// File names of tensors end in .weight and .bias; a layer's biases are optional for "llama".
bool has_tensor(const io::GgufFile& file, std::string_view name) {
  return file.find_tensor(name) != nullptr;
}

void set_sizes(const io::GgufFile& file, const KeyReader& keys, model::ModelConfig& config) {
  config.hidden_size = keys.count("embedding_length");
  config.intermediate_size = keys.count("feed_forward_length");
  config.num_layers = keys.count("block_count");
  // A block has at least nine tensors; a count beyond the file's is a lie that would cost memory.
  if (static_cast<std::uint64_t>(config.num_layers) > file.tensors().size())
    refuse(file, fmt::format("key 'block_count' is {}, but the file has {} tensors",
                             config.num_layers, file.tensors().size()));
  config.num_heads = keys.count("attention.head_count");
  config.num_kv_heads = keys.find_count("attention.head_count_kv").value_or(config.num_heads);
  config.head_dim =
      keys.find_count("attention.key_length").value_or(config.hidden_size / config.num_heads);
  config.max_positions = keys.count("context_length");
  config.vocab_size = vocab_size_of(file);
  config.window_of_layer.assign(static_cast<std::size_t>(config.num_layers), 0);
  if (config.num_heads % config.num_kv_heads != 0 || config.head_dim < 2 || config.head_dim % 2)
    refuse(file, fmt::format("{} heads of {} and {} key/value heads do not fit together",
                             config.num_heads, config.head_dim, config.num_kv_heads));
}

model::RopeSpec llama3_rope(const io::GgufFile& file, const io::GgufTensor& tensor, Index head_dim,
                            double theta) {
  const auto pairs = static_cast<std::uint64_t>(head_dim / 2);
  if (tensor.type != io::GgmlType::kF32 || tensor.element_count() != pairs)
    refuse(file, fmt::format("tensor '{}' must hold {} F32 values", kRopeFreqs, pairs));
  const Matrix<float> stored =
      decode_blocks(tensor.type, tensor.bytes, 1, static_cast<Index>(pairs), {});
  model::RopeSpec rope;
  rope.scaling = model::RopeSpec::Scaling::kLlama3;
  rope.theta = theta;
  rope.factor = *std::max_element(stored.data(), stored.data() + stored.size());
  if (!(rope.factor >= 1.0 && std::isfinite(rope.factor)))
    refuse(file, fmt::format("tensor '{}' holds a divisor of {}", kRopeFreqs, rope.factor));
  // 8192 first: it is every published model's value.
  std::vector<Index> candidates = {8192};
  for (Index positions = 16; positions <= Index{1} << 24; positions *= 2)
    candidates.push_back(positions);
  for (const Index positions : candidates) {
    rope.original_max_positions = positions;
    const std::vector<float> expected = llama3_divisors(rope, head_dim);
    const auto agree = [](float a, float b) { return std::abs(a - b) <= 1e-5f * std::abs(b); };
    if (std::equal(expected.begin(), expected.end(), stored.data(), agree)) return rope;
  }
  refuse(file, fmt::format("tensor '{}' follows no llama3 scaling that calque knows", kRopeFreqs));
}

model::RopeSpec rope_of(const io::GgufFile& file, const KeyReader& keys, Index head_dim) {
  model::RopeSpec rope;
  rope.theta = keys.find_real("rope.freq_base").value_or(10000.0);
  if (const io::GgufTensor* divisors = file.find_tensor(kRopeFreqs))
    return llama3_rope(file, *divisors, head_dim, rope.theta);
  const std::string scaling = keys.find_text("rope.scaling.type").value_or("none");
  if (scaling == "none") return rope;
  if (scaling != "linear")
    refuse(file,
           fmt::format("rope.scaling.type '{}' cannot be read; calque reads linear", scaling));
  rope.scaling = model::RopeSpec::Scaling::kLinear;
  rope.factor = keys.find_real("rope.scaling.factor").value_or(1.0);
  return rope;
}

}  // namespace

model::ModelConfig gguf_config(const io::GgufFile& file) {
  const Architecture& architecture = architecture_of(file);
  const KeyReader keys(file, architecture.gguf);
  model::ModelConfig config;
  config.architecture = architecture.hugging_face;
  config.model_type = architecture.model_type;
  set_sizes(file, keys, config);
  const std::optional<double> eps = keys.find_real("attention.layer_norm_rms_epsilon");
  if (!eps)
    refuse(file,
           fmt::format("key '{}.attention.layer_norm_rms_epsilon' is missing", architecture.gguf));
  config.rms_norm_eps = *eps;
  config.rope = rope_of(file, keys, config.head_dim);
  config.tie_word_embeddings = !has_tensor(file, "output.weight");
  config.attention_bias = has_tensor(file, "blk.0.attn_q.bias");
  config.mlp_bias = has_tensor(file, "blk.0.ffn_gate.bias");
  config.bos_token_id = file.integer("tokenizer.ggml.bos_token_id");
  config.eos_token_id = file.integer("tokenizer.ggml.eos_token_id");
  return config;
}

}  // namespace calque::artifact
