#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/model/block.h"
#include "calque/model/config.h"

namespace calque::model {

// Everything calque knows about one model, as data: no arithmetic, no files.
struct FamilySpec {
  std::string name;               // "llama"
  std::string gguf_architecture;  // "llama", "qwen2", "qwen3"; "": calque cannot write it as GGUF
  ModelConfig config;
  TensorSpec embedding;
  std::vector<BlockSpec> blocks;
  TensorSpec final_norm;
  std::vector<TensorSpec> lm_head;  // empty if tied to the embedding

  std::vector<TensorSpec> tensors() const;  // every tensor exactly once
  std::vector<LinearSpec> linears() const;  // all blocks, in execution order
  // The tensor that makes logits: lm_head, or the embedding when tied.
  const TensorSpec& head() const { return lm_head.empty() ? embedding : lm_head.front(); }
  // The head as a block of one site, "head_in", which is measured and rounded like any other: its
  // reader is lm_head. None if the head is the embedding, whose rows are inputs as well.
  std::optional<BlockSpec> head_block() const;
  bool is_last(const BlockSpec& block) const { return block.layer == blocks.back().layer; }
  bool ignores(std::string_view tensor_name)
      const;  // tensors of old checkpoints that mean nothing (rotary inv_freq; lm_head when tied)
};

// The norm that `config` describes, without a weight.
NormSpec norm_of(const ModelConfig& config);

// The family for `config`, with all shapes filled in. Error(kInput) for an architecture that is not
// in the registry; the message lists those that are.
FamilySpec family_of(const ModelConfig& config);

// The registry: one row per supported architecture.
struct FamilyInfo {
  std::string_view architecture;  // "LlamaForCausalLM"
  std::string_view name;          // "llama"
  std::string_view model_type;    // "llama": the class in transformers, as config.json names it
  FamilySpec (*make)(const ModelConfig&);
};
const std::vector<FamilyInfo>& families();
const FamilyInfo* find_family(std::string_view architecture);  // null: not supported
// Error(kInput, "E161") with the architectures that are supported, and `more`.
[[noreturn]] void refuse_architecture(const std::string& architecture, const std::string& more);

}  // namespace calque::model
