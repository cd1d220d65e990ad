#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/model/config.h"

namespace calque::model {

// A tensor of the checkpoint under its Hugging Face name, with what GGUF calls it.
struct TensorSpec {
  std::string name;          // "model.layers.3.input_layernorm.weight"
  std::vector<Index> shape;  // [out, in] or [n]
  std::string gguf_name;     // "blk.3.attn_norm.weight"
  // > 0: GGUF stores the rows of each of this many heads interleaved (formats_gguf.md 5.4).
  Index gguf_permuted_heads = 0;
};

// A linear layer: weight_NK [out_features, in_features] and perhaps a bias [out_features].
struct LinearSpec {
  std::string name;  // the module, "model.layers.3.self_attn.q_proj"
  std::string role;  // its last part, "q_proj"
  TensorSpec weight;
  std::vector<TensorSpec> bias;  // none or one

  Index out_features() const { return weight.shape[0]; }
  Index in_features() const { return weight.shape[1]; }
};

// The places in a block where one activation feeds one or more linears, in execution order.
enum class SiteKind { kAttnIn, kAttnOut, kMlpIn, kMlpOut };
std::string_view name_of(SiteKind kind);  // "attn_in", ...

struct SiteSpec {
  SiteKind kind = SiteKind::kAttnIn;
  std::vector<LinearSpec>
      readers;  // kAttnIn: q, k, v; kAttnOut: o; kMlpIn: gate, up; kMlpOut: down
  // The tensor that takes an inverse channel scale: a norm's weight, or the linear before (its
  // rows).
  std::string absorber;

  Index features() const { return readers.front().in_features(); }
};

// One transformer block: four sites and the norms between them.
struct BlockSpec {
  Index layer = 0;
  std::string name;  // "model.layers.3"
  std::vector<SiteSpec> sites;
  TensorSpec attn_norm;
  TensorSpec mlp_norm;
  std::vector<TensorSpec> q_norm;  // none or one, [head_dim]
  std::vector<TensorSpec> k_norm;
  Index window = 0;  // sliding attention window in tokens, 0: full

  const SiteSpec& site(SiteKind kind) const;
  std::vector<TensorSpec> tensors() const;  // every tensor, biases included
};

// Everything calque knows about one model, as data: no arithmetic, no files.
struct FamilySpec {
  std::string name;               // "llama"
  std::string gguf_architecture;  // "llama", "qwen2", "qwen3"
  ModelConfig config;
  TensorSpec embedding;
  std::vector<BlockSpec> blocks;
  TensorSpec final_norm;
  std::vector<TensorSpec> lm_head;  // none when tied to the embedding

  std::vector<TensorSpec> tensors() const;  // every tensor exactly once
  std::vector<LinearSpec> linears() const;  // of all blocks, in execution order
  // The tensor that makes logits: lm_head, or the embedding when tied.
  const TensorSpec& head() const { return lm_head.empty() ? embedding : lm_head.front(); }
  bool ignores(std::string_view tensor_name)
      const;  // tensors of old checkpoints that mean nothing (rotary inv_freq; lm_head when tied)
};

// The family of `config`, laid out for its sizes. An architecture that is not in the registry is
// Error(kInput) listing those that are.
FamilySpec family_of(const ModelConfig& config);

// The registry: one row a supported architecture.
struct FamilyInfo {
  std::string_view architecture;  // "LlamaForCausalLM"
  std::string_view name;          // "llama"
  FamilySpec (*make)(const ModelConfig&);
};
const std::vector<FamilyInfo>& families();

}  // namespace calque::model
