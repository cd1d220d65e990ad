#pragma once

#include <string>

#include "calque/model/family.h"

namespace calque::model {

// How a family differs from the decoder that all of them share: RMSNorm, q/k/v with rotary
// positions, o, RMSNorm, silu(gate) * up, down.
struct DecoderLayout {
  std::string family;
  std::string gguf_architecture;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // RMSNorm over each head of q and k, before the rotation
  // GGUF runtimes rotate adjacent pairs for this architecture, so rows of q and k are interleaved
  //.
  bool gguf_permuted = false;
};

FamilySpec make_decoder(const ModelConfig& config, const DecoderLayout& layout);

}  // namespace calque::model
