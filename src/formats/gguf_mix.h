#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "calque/io/gguf.h"
#include "calque/model/family.h"

namespace calque::formats {

enum class Mix {
  kUniform,  // one type for the blocks; embedding and output separate
  kQ2_K,
  kQ2_K_S,
  kQ3_K_M,
  kQ3_K_L,
  kQ4_K_S,
  kQ4_K_M,
  kQ5_K_M,
  kIQ4,
  kIQ3_M,
  kIQ3_S,
  kIQ3_XS,
  kIQ3_XXS,
  kIQ2,    // IQ2_S and IQ2_M
  kIQ2_X,  // IQ2_XS and IQ2_XXS
  kIQ1,
  kQ4_0,
  kQ5_0,
  kMXFP4_MOE,
};

// A value of the job file's `type`: one type, or one of llama.cpp's mixes of types as
// llama-quantize chooses them.
struct GgufMix {
  std::string_view name;
  ggml::Type base;  // type of tensors without a rule in the mix
  std::uint32_t file_type;
  Mix mix = Mix::kUniform;
  bool more_for_eight_experts = false;  // attn_output becomes Q5_K

  bool quantized() const { return ggml::info_of(base).block_columns > 1; }
};

const std::vector<GgufMix>& gguf_mixes();
const GgufMix* find_gguf_mix(std::string_view name);
// `name` must be valid.
const GgufMix& gguf_mix(std::string_view name);

// Properties of the model that the rules depend on.
struct MixModel {
  Index layers = 0;
  Index heads = 0;
  Index kv_heads = 0;
  Index experts = 0;
  Index value_tensors = 0;     // attn_v and what holds it
  bool eighty_layers = false;  // llama.cpp treats such a model as a 70B
  bool calibrated = false;     // an importance matrix is given

  Index queries_per_value() const { return heads / kv_heads; }
};
MixModel mix_model(const model::FamilySpec& family, bool calibrated);

// True for those of `count` tensors that get more bits: the first and last eighth, and every third
// in between.
bool more_bits(Index n, Index count);

// Kinds of matrices that the rules count, recognized by a part of their GGUF names.
bool is_value_tensor(std::string_view gguf_name);
bool is_down_tensor(std::string_view gguf_name);
bool is_gate_or_up_tensor(std::string_view gguf_name);

// The mixes of one and two bits (IQ1, IQ2). Their rules count ffn_down tensors with experts, too,
// where others take the layer.
bool has_few_bits(const GgufMix& mix);

// A matrix of a block.
struct MixTensor {
  std::string_view gguf_name;
  Index number = 0;      // index among tensors of its kind, in layer order
  bool stacked = false;  // all experts of a layer
};

// Type of a matrix of a block, of the embedding, and of the output.
ggml::Type type_in_mix(const GgufMix& mix, const MixModel& model, const MixTensor& tensor);
ggml::Type embedding_in_mix(const GgufMix& mix);
ggml::Type output_in_mix(const GgufMix& mix, Index columns);

// The type llama.cpp uses if rows of `columns` elements are not whole blocks of `wanted`.
ggml::Type fallback_type(ggml::Type wanted, Index columns);

}  // namespace calque::formats
