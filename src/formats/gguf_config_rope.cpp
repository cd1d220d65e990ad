#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "formats/ggml_blocks.h"
#include "formats/gguf_config_parts.h"
#include "formats/gguf_types.h"

namespace calque::formats {
namespace {

using Scaling = model::RopeSpec::Scaling;

// One fp32 number a pair of a head, finite and above 0.
std::vector<float> divisors_of(const io::GgufFile& file, const io::GgufTensor& tensor,
                               Index head_dim) {
  const auto pairs = static_cast<std::uint64_t>(head_dim / 2);
  if (tensor.type != io::GgmlType::kF32 || tensor.element_count() != pairs)
    refuse_gguf(file, fmt::format("tensor '{}' must hold {} F32 values", tensor.name, pairs));
  const Matrix<float> stored =
      decode_blocks(tensor.type, tensor.bytes, 1, static_cast<Index>(pairs), {});
  for (Index i = 0; i < stored.size(); ++i)
    if (!(stored.data()[i] > 0 && std::isfinite(stored.data()[i])))
      refuse_gguf(file,
                  fmt::format("tensor '{}' holds a divisor of {}", tensor.name, stored.data()[i]));
  return {stored.data(), stored.data() + stored.size()};
}

model::RopeSpec llama3_rope(const io::GgufFile& file, const io::GgufTensor& tensor,
                            const model::ModelConfig& config) {
  const std::vector<float> stored = divisors_of(file, tensor, config.head_dim);
  model::RopeSpec rope = config.rope;
  rope.scaling = Scaling::kLlama3;
  rope.factor = *std::max_element(stored.begin(), stored.end());
  if (rope.factor < 1.0)
    refuse_gguf(file, fmt::format("tensor '{}' holds a divisor of {}", kRopeFreqs, rope.factor));
  // 8192 first: it is every published model's value.
  std::vector<Index> candidates = {8192};
  for (Index positions = 16; positions <= Index{1} << 24; positions *= 2)
    candidates.push_back(positions);
  for (const Index positions : candidates) {
    rope.original_max_positions = positions;
    const std::vector<float> expected = llama3_divisors(rope, config.head_dim);
    const auto agree = [](float a, float b) { return std::abs(a - b) <= 1e-5f * std::abs(b); };
    if (std::equal(expected.begin(), expected.end(), stored.begin(), agree)) return rope;
  }
  refuse_gguf(file,
              fmt::format("tensor '{}' follows no llama3 scaling that calque knows", kRopeFreqs));
}

model::RopeSpec long_rope(const GgufKeyReader& keys, const model::ModelConfig& config) {
  const auto factors = [&](std::string_view name) -> std::vector<double> {
    const io::GgufTensor* tensor = keys.file().find_tensor(name);
    if (tensor == nullptr) refuse_gguf(keys.file(), fmt::format("tensor '{}' is missing", name));
    const std::vector<float> stored = divisors_of(keys.file(), *tensor, config.head_dim);
    return {stored.begin(), stored.end()};
  };
  model::RopeSpec rope = config.rope;
  rope.scaling = Scaling::kLongRope;
  rope.short_factors = factors(kRopeFactorsShort);
  rope.long_factors = factors(kRopeFactorsLong);
  rope.original_max_positions =
      keys.find_count("rope.scaling.original_context_length").value_or(config.max_positions);
  rope.attention_factor = keys.find_real("rope.scaling.attn_factor").value_or(1.0);
  return rope;
}

}  // namespace

void read_gguf_rope(const std::string& arch, const GgufKeyReader& keys,
                    model::ModelConfig& config) {
  config.rope.theta = keys.find_real("rope.freq_base").value_or(arch == "gemma3" ? 1e6 : 1e4);
  config.local_rope.theta = keys.find_real("rope.freq_base_swa").value_or(1e4);
  const Index turned = keys.find_count("rope.dimension_count").value_or(config.head_dim);
  if (turned != config.head_dim)
    refuse_gguf(keys.file(), fmt::format("{} of the {} channels of a head are turned by their "
                                         "position; calque reads models that turn all",
                                         turned, config.head_dim));
  if (const io::GgufTensor* divisors = keys.file().find_tensor(kRopeFreqs)) {
    config.rope = llama3_rope(keys.file(), *divisors, config);
    return;
  }
  if (keys.file().find_tensor(kRopeFactorsLong) != nullptr) {
    config.rope = long_rope(keys, config);
    return;
  }
  const std::string scaling = keys.find_text("rope.scaling.type").value_or("none");
  if (scaling == "none") return;
  if (scaling != "linear")
    refuse_gguf(keys.file(), fmt::format("rope.scaling.type '{}' cannot be read; calque reads "
                                         "linear, and longrope with its factors as tensors",
                                         scaling));
  config.rope.factor = keys.find_real("rope.scaling.factor").value_or(1.0);
  if (config.rope.factor != 1.0) config.rope.scaling = Scaling::kLinear;
}

}  // namespace calque::formats
