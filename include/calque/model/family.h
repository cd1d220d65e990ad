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
  bool gguf_plus_one = false;  // GGUF stores 1 + weight (Gemma's norms)
  // >= 0: slab of the stacked tensor `gguf_name` [experts, out, in] that GGUF keeps it in.
  Index gguf_expert = -1;
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

// The places in a block where one activation feeds one or more linears.
enum class SiteKind { kAttnIn, kAttnOut, kMlpIn, kMlpOut, kExpertIn, kExpertOut };
std::string_view name_of(SiteKind kind);  // "attn_in", ...

struct SiteSpec {
  SiteKind kind = SiteKind::kAttnIn;
  Index expert = -1;   // of kExpertIn and kExpertOut
  Index channels = 0;  // width of the activation
  // kAttnIn: q, k, v (or qkv); kAttnOut: o; kMlpIn: gate, up (or gate_up) of the dense MLP or of
  // the shared expert, none if there is neither; kMlpOut: its down; kExpertIn, kExpertOut: one
  // expert's.
  std::vector<LinearSpec> readers;

  Index features() const { return channels; }
};

// Channels whose scale can move without changing what the block computes (formats_gptq_awq.md,
// section 6): channel k of an activation is divided by s_k where it is made (the absorber) and
// multiplied again in column k of every linear that reads it (the consumers).
struct FoldSpec {
  enum class Absorber {
    kNorm,         // weight_k /= s_k
    kNormPlusOne,  // the norm multiplies by 1 + weight: weight_k = (1 + weight_k) / s_k - 1
    kRows,         // rows of a linear and of its bias
  };
  SiteKind site = SiteKind::kAttnIn;  // the site whose inputs are rescaled; kMlpIn of a block with
                                      // experts stands for the inputs of all of them, too
  Index expert = -1;                  // of kExpertOut
  Absorber kind = Absorber::kNorm;
  TensorSpec absorber;                // a norm's weight, or the linear before
  std::vector<TensorSpec> bias;       // kRows: none or one
  std::vector<TensorSpec> consumers;  // weights; every reader of the activation, the router too
  // kRows: channel k is made by row first_row + k, unless `shared_by` query heads of `head_dim`
  // channels read one K/V head: then they are made by the same rows, and must share their scales.
  Index first_row = 0;
  Index head_dim = 1;
  Index shared_by = 1;

  // The absorber's row (norms: element) that makes channel k.
  Index source_of(Index k) const {
    return first_row + k / (head_dim * shared_by) * head_dim + k % head_dim;
  }
};

// The experts of a block: a router sends every token to `used` of `count` experts.
struct ExpertsSpec {
  Index count = 0;
  Index used = 0;
  bool normalize = false;  // the probabilities of the chosen experts are scaled to sum 1
  TensorSpec router;       // [count, hidden]; never quantized
  std::vector<TensorSpec>
      shared_gate;  // none or one, [1, hidden]: sigmoid weight of the shared expert
};

// One transformer block: its input sites in execution order, and the norms between them.
// With experts: attn_in, attn_out, mlp_in (all tokens, even without readers), expert_in of every
// expert, expert_out of every expert, mlp_out if there is a shared expert.
struct BlockSpec {
  Index layer = 0;
  std::string name;  // "model.layers.3"
  std::vector<SiteSpec> sites;
  std::vector<FoldSpec> folds;  // at most one a site
  TensorSpec attn_norm;
  TensorSpec mlp_norm;  // before the MLP
  std::vector<TensorSpec>
      attn_post_norm;  // none or one: of the attention's output, before it is added
  std::vector<TensorSpec> mlp_post_norm;  // none or one: of the MLP's output
  std::vector<TensorSpec> q_norm;         // none or one, [head_dim]
  std::vector<TensorSpec> k_norm;
  std::vector<ExpertsSpec> experts;  // none or one
  Index window = 0;                  // sliding attention window in tokens, 0: full
  bool local_rope = false;  // positions turn by ModelConfig::local_rope (Gemma 3's sliding layers)

  const SiteSpec& site(SiteKind kind, Index expert = -1) const;
  bool has_site(SiteKind kind) const;
  const FoldSpec* fold_of(const SiteSpec& site) const;  // null: none
  std::vector<TensorSpec> tensors() const;              // every tensor, biases included
};

// Everything calque knows about one model, as data: no arithmetic, no files.
struct FamilySpec {
  std::string name;               // "llama"
  std::string gguf_architecture;  // "llama", "qwen2", "qwen3"; "": calque writes no GGUF of it
  ModelConfig config;
  TensorSpec embedding;
  std::vector<BlockSpec> blocks;
  TensorSpec final_norm;
  std::vector<TensorSpec> lm_head;  // none when tied to the embedding

  std::vector<TensorSpec> tensors() const;  // every tensor exactly once
  std::vector<LinearSpec> linears() const;  // of all blocks, in execution order
  // The tensor that makes logits: lm_head, or the embedding when tied.
  const TensorSpec& head() const { return lm_head.empty() ? embedding : lm_head.front(); }
  bool is_last(const BlockSpec& block) const { return block.layer == blocks.back().layer; }
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
