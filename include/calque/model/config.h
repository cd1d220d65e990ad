#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/io/json.h"
#include "calque/model/routing.h"

namespace calque::model {

// Rotary position embedding, and what else positions do to queries.
struct RopeSpec {
  enum class Scaling { kNone, kLinear, kLlama3, kLongRope, kYarn, kProportional };
  double theta = 10000.0;
  Index channels = 0;  // only this many channels of a head turn, its first ones; 0: all
  // Pairs are channels (2i, 2i + 1), not (i, i + turned / 2).
  bool adjacent = false;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;         // kLlama3
  double high_freq_factor = 4.0;        // kLlama3
  Index original_max_positions = 8192;  // kLlama3, kLongRope, kYarn; query_growth
  // kLongRope: divisors of each pair's frequency, for sequences of up to original_max_positions and
  // for longer ones; head_dim / 2 values each.
  std::vector<double> short_factors;
  std::vector<double> long_factors;
  // kLongRope, kYarn: turned queries and keys are multiplied by this.
  double attention_factor = 1.0;
  // kYarn: pairs that turn more than beta_fast times in original_max_positions keep their
  // frequency, pairs that turn less than beta_slow times have it divided by `factor`, and those
  // between a blend, over pairs counted whole if `truncate`.
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  // kProportional: this share of a head's pairs turn, the first ones, by the frequencies that they
  // have among all; the others stand still.
  double proportion = 1.0;
  // Turned queries of position p are multiplied by 1 + query_growth ln(1 + floor(p /
  // original_max_positions)).
  double query_growth = 0.0;

  Index turned(Index head_dim) const { return channels > 0 ? channels : head_dim; }
  double query_factor(Index position) const;

  // Inverse frequencies after scaling, one for each of the turned(head_dim) / 2 pairs, for
  // sequences of up to `positions`. They follow transformers' `_compute_llama3_parameters`,
  // `_compute_longrope_parameters` and `_compute_yarn_parameters`; src/formats/README.md, "RoPE",
  // gives the formulas.
  std::vector<double> inverse_frequencies(Index head_dim, Index positions = 0) const;

  bool operator==(const RopeSpec&) const = default;
};

// An MLP that joins gate and up by (up + 1) * gate * sigmoid(slope * gate), where gate is at most
// `limit` and up lies between -limit and limit. limit 0: no such rule.
struct ClampedGate {
  double limit = 0.0;
  double slope = 1.702;

  explicit operator bool() const { return limit > 0; }
  bool operator==(const ClampedGate&) const = default;
};

// Names of a language model in its checkpoint. A wrapper puts it below a name of its own.
struct TextNames {
  std::string model = "model";   // "model.layers.3", "model.embed_tokens.weight"
  std::string head = "lm_head";  // "lm_head.weight"

  bool operator==(const TextNames&) const = default;
};

// The layout of a tensor that holds one matrix of all experts E of a layer ("gate_up_proj" has the
// 2 I rows of gate and up, "down_proj" [H, I]).
enum class StackedExperts {
  kNone,                // experts one by one
  kRows,                // [E, 2 I, H] and [E, H, I]: gate's rows, then up's
  kColumns,             // [E, H, 2 I] and [E, I, H]: the same, transposed
  kAlternatingColumns,  // [E, H, 2 I]: rows of gate and up alternate; MXFP4: not transposed
};

// A gated delta net (linear attention): value heads in groups that share a key head.
struct DeltaNetSizes {
  Index key_heads = 0;
  Index value_heads = 0;
  Index key_dim = 0;  // one head's
  Index value_dim = 0;
  Index kernel = 4;  // tokens that the convolution sees, the own one included

  Index key_channels() const { return key_heads * key_dim; }
  Index value_channels() const { return value_heads * value_dim; }
  Index mixed_channels() const { return 2 * key_channels() + value_channels(); }  // q, k and v
  Index values_per_key() const { return value_heads / key_heads; }

  bool operator==(const DeltaNetSizes&) const = default;
};

// The settings of a decoder-only transformer from config.json or GGUF, as the file states them: for
// all layers at once. Families (family.h) turn them into layers with their own shapes, norms,
// window and rotary settings (block.h). Code that works on a layer should read those.
struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"
  std::string model_type;    // "llama"
  // Class of a model of several parts (images, sound) of which this is the language model, as its
  // config.json names it: "Gemma3ForConditionalGeneration". "": none.
  std::string wrapper;
  TextNames names;  // those of the files once settle_names (weight_source.h) has seen them
  Index hidden_size = 0;
  Index intermediate_size = 0;
  Index num_layers = 0;
  Index num_heads = 0;
  Index num_kv_heads = 0;
  Index head_dim = 0;
  Index vocab_size = 0;
  Index max_positions = 0;
  double rms_norm_eps = 1e-6;
  RopeSpec rope;
  std::vector<Index>
      window_of_layer;  // sliding window in tokens, 0: full attention; num_layers entries
  // Heads of the layers without a window, where those differ (Gemma 4); 0: they do not.
  Index full_head_dim = 0;
  Index full_kv_heads = 0;
  bool full_values_are_keys = false;  // those layers have no v_proj: values are what k_proj makes
  // So many layers, the last ones, make no keys and values: they use those of the last layer before
  // them that has the same kind of attention. Their dense MLPs have a width of their own; 0: the
  // same.
  Index shared_kv_layers = 0;
  Index shared_kv_intermediate_size = 0;
  // Channels of the embedding that every layer has of every token (Gemma 4 E2B, E4B); 0: none.
  Index layer_embedding_size = 0;
  std::vector<bool> turned_layers;  // layers with rotary positions, num_layers entries; empty: all
  // Layers with a delta net in the place of attention, num_layers entries; empty: none.
  std::vector<bool> delta_net_layers;
  DeltaNetSizes delta_net;
  bool tie_word_embeddings = false;
  bool attention_bias = false;      // q, k, v (and o, see the family)
  bool attention_out_bias = false;  // o, where a key of its own says so (Seed-OSS)
  bool mlp_bias = false;
  bool qk_norm = false;             // norms of q and k, where a key of its own says so (GLM 4.5)
  std::string hidden_act = "silu";  // "silu" or "gelu_pytorch_tanh"
  ClampedGate clamped_gate;         // in the place of hidden_act (gpt-oss)
  // Frequencies that rotate by a token's time, height and width in an image (mrope_section); these
  // are equal in text. Only GGUF states them. Empty: none.
  std::vector<Index> rope_sections;
  Index deepstack_layers = 0;      // layers to which a vision tower adds its features; for GGUF
  RopeSpec local_rope;             // RoPE of the sliding-window layers, if it differs
  bool norm_plus_one = false;      // norms multiply by 1 + weight (Gemma)
  double embedding_scale = 1.0;    // factor on the embeddings that start the hidden states (Gemma)
  double query_scale = 0.0;        // factor on attention scores; 0: 1 / sqrt(head_dim)
  double attention_softcap = 0.0;  // scores become cap * tanh(score / cap); 0: no cap
  double logit_softcap = 0.0;
  // Mixture of experts; num_experts 0: none.
  Index num_experts = 0;
  Routing routing;
  Index expert_intermediate_size = 0;
  Index shared_intermediate_size = 0;  // 0: no shared expert
  StackedExperts stacked_experts = StackedExperts::kNone;
  std::vector<bool> experts_in_layer;  // num_layers entries if num_experts > 0
  std::string dtype;  // "float16", "bfloat16", "float32" from the config; "" if absent
  std::optional<std::int64_t> bos_token_id;
  std::optional<std::int64_t> eos_token_id;
  // Settings that stand in two places with different values: which one is in use.
  std::vector<std::string> remarks;

  bool has_window(Index layer) const {
    return window_of_layer[static_cast<std::size_t>(layer)] > 0;
  }
  Index head_dim_of(Index layer) const {
    return full_head_dim > 0 && !has_window(layer) ? full_head_dim : head_dim;
  }
  Index kv_heads_of(Index layer) const {
    return full_kv_heads > 0 && !has_window(layer) ? full_kv_heads : num_kv_heads;
  }
  bool shares_keys_values(Index layer) const { return layer >= num_layers - shared_kv_layers; }
  Index intermediate_size_of(Index layer) const {
    return shared_kv_intermediate_size > 0 && shares_keys_values(layer)
               ? shared_kv_intermediate_size
               : intermediate_size;
  }

  bool operator==(const ModelConfig&) const = default;
};

// The first layer with experts; num_layers if there is none.
Index first_expert_layer(const ModelConfig& config);
// The smallest n such that every n-th layer has experts, from the first one that has them on; 0:
// there is no such n.
Index expert_layer_step(const ModelConfig& config);

// Reads config.json in a Hugging Face folder, with both spellings of RoPE (rope_theta +
// rope_scaling; rope_parameters) and of the dtype (torch_dtype; dtype). Error(kInput) names the
// file, the key, and what is missing or unsupported (an unknown rope_type or activation); "E161" an
// architecture that is not supported. The language model of a wrapper (text_config) is read if its
// class is. Where two settings say the same thing with different values,
// the one that transformers uses is read (src/model/README.md has the list). A quantization_config
// is no error here: the artifact readers handle it.
ModelConfig load_config(const std::filesystem::path& folder);

// True if config.json says that the output head is the embedding, or its class says so by default.
// A wrapper's own key comes before that of its text_config, as in transformers.
bool ties_head(const io::Json& config_json);

// Parses the text of a config.json; `where` names the file in messages.
ModelConfig parse_config(const std::string& json_text, const std::string& where);

}  // namespace calque::model
