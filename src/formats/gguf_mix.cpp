#include "formats/gguf_mix.h"

#include <algorithm>
#include <cassert>

#include "calque/formats/gguf_types.h"

namespace calque::formats {
namespace {

using ggml::Type;
using enum ggml::Type;

bool in(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

// In mixes of few bits, attn_v where few queries share it, and the first ffn_down.
ggml::Type more_of_few_bits(const GgufMix& mix) { return mix.mix == Mix::kIQ2 ? kIQ3_S : kQ2_K; }

ggml::Type value_type(const GgufMix& mix, const MixModel& model, Index number) {
  const bool wide = model.queries_per_value() >= 4;
  switch (mix.mix) {
    case Mix::kQ2_K:
      return wide ? kQ4_K : kQ3_K;
    case Mix::kQ2_K_S:
      return wide ? kQ4_K : mix.base;
    case Mix::kQ3_K_M:
      return number < 2 ? kQ5_K : kQ4_K;
    case Mix::kQ3_K_L:
      return kQ5_K;
    case Mix::kQ4_K_S:
      return number < 4 ? kQ5_K : mix.base;
    case Mix::kQ4_K_M:
    case Mix::kQ5_K_M:
      return more_bits(number, model.value_tensors) ? kQ6_K : mix.base;
    case Mix::kIQ4:
      return wide ? kQ5_K : mix.base;
    case Mix::kIQ3_M:
      return kQ4_K;
    case Mix::kIQ3_S:
    case Mix::kIQ3_XS:
      return wide ? kQ4_K : mix.base;
    case Mix::kIQ3_XXS:
      return wide ? kQ4_K : model.calibrated ? mix.base : kIQ3_S;
    default:
      return mix.base;
  }
}

// V is small in models where many queries share it, and gets more bits there.
ggml::Type value_type_of_size(const GgufMix& mix, const MixModel& model, Index number) {
  if (has_few_bits(mix))
    return model.queries_per_value() >= 4 || model.experts >= 4 ? kQ4_K : more_of_few_bits(mix);
  if (model.experts == 8) return kQ8_0;
  const ggml::Type type = value_type(mix, model, number);
  return model.eighty_layers && (type == kQ3_K || type == kQ4_K) ? kQ5_K : type;
}

ggml::Type down_type(const GgufMix& mix, const MixModel& model, Index number) {
  const bool early = number < model.layers / 8;
  switch (mix.mix) {
    case Mix::kQ2_K:
      return kQ3_K;
    case Mix::kQ2_K_S:
      return early ? kQ4_K : mix.base;
    case Mix::kQ3_K_M:
      return number < model.layers / 16 ? kQ5_K : kQ4_K;
    case Mix::kQ3_K_L:
      return kQ5_K;
    case Mix::kQ4_K_S:
      return early ? kQ5_K : mix.base;
    case Mix::kQ4_K_M:
    case Mix::kQ5_K_M:
      return more_bits(number, model.layers) ? kQ6_K : mix.base;
    case Mix::kIQ4:
      return early && !model.calibrated ? kQ5_K : mix.base;
    case Mix::kIQ3_M:
      return early || (model.experts == 8 && more_bits(number, model.layers)) ? kQ4_K : mix.base;
    case Mix::kIQ3_XXS:
      return model.calibrated ? mix.base : early ? kQ4_K : kQ3_K;
    case Mix::kIQ2:
    case Mix::kIQ2_X:
    case Mix::kIQ1:
      return early ? more_of_few_bits(mix) : mix.base;
    case Mix::kQ4_0:
      return early && model.calibrated ? kQ4_1 : mix.base;
    case Mix::kQ5_0:
      return early && model.calibrated ? kQ5_1 : mix.base;
    default:
      return mix.base;
  }
}

ggml::Type attention_output_type(const GgufMix& mix, const MixModel& model) {
  if (model.experts == 8) return mix.more_for_eight_experts ? kQ5_K : mix.base;
  switch (mix.mix) {
    case Mix::kQ2_K:
      return kQ3_K;
    case Mix::kQ3_K_M:
    case Mix::kIQ3_M:
      return kQ4_K;
    case Mix::kQ3_K_L:
      return kQ5_K;
    case Mix::kIQ3_XXS:
    case Mix::kIQ2:
      return kIQ3_S;
    case Mix::kIQ1:
      return kIQ2_XXS;
    default:
      return mix.base;
  }
}

// Queries and keys.
ggml::Type query_type(const GgufMix& mix) {
  if (mix.mix == Mix::kIQ3_XS) return kIQ3_XXS;
  return mix.mix == Mix::kIQ3_XXS ? kIQ2_S : mix.base;
}

ggml::Type key_type(const GgufMix& mix, const MixModel& model) {
  if (model.experts == 8) return has_few_bits(mix) ? kQ4_K : kQ8_0;
  return query_type(mix);
}

ggml::Type gate_or_up_type(const GgufMix& mix, const MixModel& model, Index number) {
  const bool inner = number >= model.layers / 8 && number < 7 * model.layers / 8;
  return mix.mix == Mix::kIQ3_XS && inner ? kIQ3_XXS : mix.base;
}

Index value_tensors(const model::FamilySpec& family) {
  const std::vector<model::TensorSpec> tensors = family.tensors();
  return std::count_if(tensors.begin(), tensors.end(), [](const model::TensorSpec& tensor) {
    return is_value_tensor(tensor.gguf_name);
  });
}

bool divides(ggml::Type type, Index columns) {
  return columns % ggml::info_of(type).block_columns == 0;
}

}  // namespace

const std::vector<GgufMix>& gguf_mixes() {
  static const std::vector<GgufMix> mixes = {
      {"F32", kF32, 0},
      {"F16", kF16, 1},
      {"BF16", kBF16, 32},
      {"Q8_0", kQ8_0, 7},
      {"Q5_1", kQ5_1, 9},
      {"Q5_0", kQ5_0, 8, Mix::kQ5_0},
      {"Q4_1", kQ4_1, 3},
      {"Q4_0", kQ4_0, 2, Mix::kQ4_0},
      {"Q6_K", kQ6_K, 18},
      {"Q5_K_M", kQ5_K, 17, Mix::kQ5_K_M},
      {"Q5_K_S", kQ5_K, 16},
      {"Q4_K_M", kQ4_K, 15, Mix::kQ4_K_M, true},
      {"Q4_K_S", kQ4_K, 14, Mix::kQ4_K_S, true},
      {"IQ4_NL", kIQ4_NL, 25, Mix::kIQ4, true},
      {"IQ4_XS", kIQ4_XS, 30, Mix::kIQ4, true},
      {"Q3_K_L", kQ3_K, 13, Mix::kQ3_K_L},
      {"Q3_K_M", kQ3_K, 12, Mix::kQ3_K_M, true},
      {"Q3_K_S", kQ3_K, 11, Mix::kUniform, true},
      {"IQ3_M", kIQ3_S, 27, Mix::kIQ3_M, true},
      {"IQ3_S", kIQ3_S, 26, Mix::kIQ3_S, true},
      {"IQ3_XS", kIQ3_S, 22, Mix::kIQ3_XS, true},
      {"IQ3_XXS", kIQ3_XXS, 23, Mix::kIQ3_XXS, true},
      {"Q2_K", kQ2_K, 10, Mix::kQ2_K, true},
      {"Q2_K_S", kQ2_K, 21, Mix::kQ2_K_S},
      {"IQ2_M", kIQ2_S, 29, Mix::kIQ2, true},
      {"IQ2_S", kIQ2_XS, 28, Mix::kIQ2, true},
      {"IQ2_XS", kIQ2_XS, 20, Mix::kIQ2_X, true},
      {"IQ2_XXS", kIQ2_XXS, 19, Mix::kIQ2_X, true},
      {"IQ1_M", kIQ1_M, 31, Mix::kIQ1, true},
      {"IQ1_S", kIQ1_S, 24, Mix::kIQ1, true},
      {"TQ2_0", kTQ2_0, 37},
      {"TQ1_0", kTQ1_0, 36},
      {"MXFP4_MOE", kQ8_0, 38, Mix::kMXFP4_MOE},
      {"MXFP4", kMXFP4, 38},
      // llama-quantize's other names of the M mixes.
      {"Q5_K", kQ5_K, 17, Mix::kQ5_K_M},
      {"Q4_K", kQ4_K, 15, Mix::kQ4_K_M, true},
      {"Q3_K", kQ3_K, 12, Mix::kQ3_K_M, true},
  };
  return mixes;
}

std::vector<GgufType> gguf_types() {
  std::vector<GgufType> types;
  for (const GgufMix& mix : gguf_mixes()) {
    const ggml::TypeInfo& info = ggml::info_of(mix.mix == Mix::kMXFP4_MOE ? kMXFP4 : mix.base);
    types.push_back({mix.name, static_cast<int>(8 * info.block_bytes / info.block_columns)});
  }
  return types;
}

const GgufMix* find_gguf_mix(std::string_view name) {
  const auto& mixes = gguf_mixes();
  const auto found = std::find_if(mixes.begin(), mixes.end(),
                                  [&](const GgufMix& mix) { return mix.name == name; });
  return found == mixes.end() ? nullptr : &*found;
}

const GgufMix& gguf_mix(std::string_view name) {
  const GgufMix* mix = find_gguf_mix(name);
  assert(mix != nullptr);
  return *mix;
}

MixModel mix_model(const model::FamilySpec& family, bool calibrated) {
  const model::ModelConfig& config = family.config;
  const std::string& arch = family.gguf_architecture;
  const bool grouped = config.num_heads != config.num_kv_heads;
  return {
      .layers = config.num_layers,
      .heads = config.num_heads,
      .kv_heads = config.num_kv_heads,
      .experts = config.num_experts,
      .value_tensors = value_tensors(family),
      .eighty_layers = config.num_layers == 80 && (arch == "qwen2" || (arch == "llama" && grouped)),
      .calibrated = calibrated};
}

bool more_bits(Index n, Index count) {
  const Index eighth = count / 8;
  return n < eighth || n >= 7 * count / 8 || (n - eighth) % 3 == 2;
}

bool has_few_bits(const GgufMix& mix) {
  return mix.mix == Mix::kIQ2 || mix.mix == Mix::kIQ2_X || mix.mix == Mix::kIQ1;
}

bool is_value_tensor(std::string_view gguf_name) {
  return in(gguf_name, "attn_v.weight") || in(gguf_name, "attn_qkv.weight") ||
         in(gguf_name, "attn_kv_b.weight");
}

bool is_down_tensor(std::string_view gguf_name) { return in(gguf_name, "ffn_down"); }

bool is_gate_or_up_tensor(std::string_view gguf_name) {
  return in(gguf_name, "ffn_gate") || in(gguf_name, "ffn_up");
}

ggml::Type type_in_mix(const GgufMix& mix, const MixModel& model, const MixTensor& tensor) {
  if (!mix.quantized()) return mix.base;
  if (mix.mix == Mix::kMXFP4_MOE) return tensor.stacked ? kMXFP4 : mix.base;
  if (is_value_tensor(tensor.gguf_name)) return value_type_of_size(mix, model, tensor.number);
  if (in(tensor.gguf_name, "attn_k.weight")) return key_type(mix, model);
  if (in(tensor.gguf_name, "attn_q.weight")) return query_type(mix);
  if (in(tensor.gguf_name, "attn_output.weight")) return attention_output_type(mix, model);
  if (is_down_tensor(tensor.gguf_name)) return down_type(mix, model, tensor.number);
  if (is_gate_or_up_tensor(tensor.gguf_name)) return gate_or_up_type(mix, model, tensor.number);
  return mix.base;
}

// llama-quantize has no preset that is MXFP4 throughout; MXFP4_MOE stores embedding and output as
// Q8_0.
ggml::Type embedding_in_mix(const GgufMix& mix) {
  if (mix.base == kMXFP4) return kQ8_0;
  if (mix.mix == Mix::kIQ1 || mix.mix == Mix::kIQ2_X) return kQ2_K;
  if (mix.mix == Mix::kIQ2 || mix.mix == Mix::kIQ3_XXS) return kIQ3_S;
  return mix.base == kTQ1_0 || mix.base == kTQ2_0 ? kQ4_K : mix.base;
}

// Rows that are not whole blocks of Q6_K become Q8_0 in llama-quantize, too, so that type is
// preferred from the start.
ggml::Type output_in_mix(const GgufMix& mix, Index columns) {
  if (!mix.quantized()) return mix.base;
  if ((has_few_bits(mix) || mix.mix == Mix::kIQ3_XXS) && divides(kQ5_K, columns)) return kQ5_K;
  return mix.base == kMXFP4 || mix.base == kQ8_0 || !divides(kQ6_K, columns) ? kQ8_0 : kQ6_K;
}

ggml::Type fallback_type(ggml::Type wanted, Index columns) {
  constexpr std::pair<ggml::Type, ggml::Type> kInstead[] = {
      {kQ2_K, kQ4_0},      {kQ3_K, kQ4_0},      {kTQ1_0, kQ4_0},   {kTQ2_0, kQ4_0},
      {kQ4_K, kQ5_0},      {kIQ4_XS, kIQ4_NL},  {kQ5_K, kQ5_1},    {kQ6_K, kQ8_0},
      {kIQ3_S, kIQ4_NL},   {kIQ3_XXS, kIQ4_NL}, {kIQ2_S, kIQ4_NL}, {kIQ2_XS, kIQ4_NL},
      {kIQ2_XXS, kIQ4_NL}, {kIQ1_M, kIQ4_NL},   {kIQ1_S, kIQ4_NL},
  };
  for (const auto& [type, instead] : kInstead)
    if (type == wanted && divides(instead, columns)) return instead;
  return kF16;
}

}  // namespace calque::formats
