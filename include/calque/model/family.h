#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/model/block.h"
#include "calque/model/config.h"

namespace calque::model {

// An embedding that every layer has of every token. The first block finds rows of all layers side
// by side, [tokens, layers * width], kept under kName:
//   (norm(projection x) + sqrt(width) * table[token]) / sqrt(2)
// of the token's own embedding x, before ModelConfig::embedding_scale; the norm is over a layer's
// channels.
struct LayerEmbeddings {
  static constexpr std::string_view kName = "layer_embeddings";
  Index width = 0;
  TensorSpec table;       // [vocabulary, layers * width]
  TensorSpec projection;  // [layers * width, hidden]
  NormSpec norm;          // [width]
};

// Everything calque knows about one model, as data: no arithmetic, no files.
struct FamilySpec {
  std::string name;               // "llama"
  std::string gguf_architecture;  // "llama", "qwen2", "qwen3"; "": calque cannot write it as GGUF
  ModelConfig config;
  TensorSpec embedding;
  std::optional<LayerEmbeddings> layer_embeddings;
  std::vector<BlockSpec> blocks;
  TensorSpec final_norm;
  std::vector<TensorSpec> lm_head;  // empty if tied to the embedding
  // Tensors of the checkpoint that the language model does not read: a vision tower, layers that
  // predict further tokens. Folders keep them as they are. Filled by carry_others
  // (weight_source.h).
  std::vector<TensorSpec> carried;

  std::vector<TensorSpec> tensors() const;  // every tensor exactly once, without those carried
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

// The part of a model of several parts that a tensor belongs to, as a component of its name:
// "visual", "vision_tower", "mtp"; "layers.46" in one of the language model's layers.
std::string part_of(std::string_view tensor_name);
// Parts of `family.carried`, each once.
std::vector<std::string> carried_parts(const FamilySpec& family);

// The norm that `config` describes, without a weight.
NormSpec norm_of(const ModelConfig& config);

// The family for `config`, with all shapes filled in. Error(kInput) for an architecture that is not
// in the registry; the message lists those that are.
FamilySpec family_of(const ModelConfig& config);

// The registry: one row per supported language model.
struct FamilyInfo {
  std::string_view architecture;  // "LlamaForCausalLM"
  std::string_view name;          // "llama"
  std::string_view model_type;    // "llama": the class in transformers, as config.json names it
  FamilySpec (*make)(const ModelConfig&);
};
const std::vector<FamilyInfo>& families();
const FamilyInfo* find_family(std::string_view architecture);        // null: not supported
const FamilyInfo* find_family_of_type(std::string_view model_type);  // null: not supported

// Classes of several parts whose language model is one of the families, which text_config names.
struct WrapperInfo {
  std::string_view architecture;  // "Qwen3VLForConditionalGeneration"
  std::string_view model_type;    // "qwen3_vl"
  std::string_view text_type;     // model_type of the language model if nothing names it
  bool ties_head = false;         // if no key says so
};
const WrapperInfo* find_wrapper(std::string_view architecture);  // null: not supported
// Error(kInput, "E161") with the nearest architecture and all that are supported, and `more`.
[[noreturn]] void refuse_architecture(const std::string& architecture, const std::string& more);

}  // namespace calque::model
