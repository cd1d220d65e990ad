#pragma once

#include <string>

#include "calque/model/family.h"
#include "mixers/experts/spec.h"

namespace calque::model {

// The differences between a family and the common decoder: RMSNorm, q/k/v with rotary positions, o,
// RMSNorm, act(gate) * up, down.
struct DecoderLayout {
  std::string family;
  std::string gguf_architecture;  // "": no GGUF, so tensors have no names there
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;             // RMSNorm over each head of q and k, before the rotation
  bool qk_norm_whole = false;       // such a norm is over all heads of q, or of k, at once
  bool gated = false;               // q_proj makes a gate beside every query
  bool sinks = false;               // heads of attention have sinks
  bool pre_norms = true;            // each half's input is normed
  bool fused = false;               // q, k and v are one linear, gate and up another
  bool post_norms = false;          // each half's output is normed before it is added (Gemma 2, 3)
  bool local_rope = false;          // layers with a window rotate by local_rope
  bool v_norm = false;              // a norm without weight over each head of v
  bool experts_beside_mlp = false;  // both, on the same input, where a layer has experts
  bool layer_scalar = false;        // the block's output is multiplied by a weight
  bool delta_by_key_head = false;   // delta nets have in_proj_qkvz and in_proj_ba
  ExpertNames experts;              // used in the layers listed by config.experts_in_layer
  // GGUF runtimes rotate adjacent pairs for this architecture, so rows of q and k are interleaved.
  bool gguf_permuted = false;
  std::string gguf_mlp_norm = "ffn_norm";
};

FamilySpec make_decoder(const ModelConfig& config, const DecoderLayout& layout);

}  // namespace calque::model
