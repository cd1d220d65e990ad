#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calque/core/input_grid.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "calque/quant/grid.h"

namespace calque::formats {

// Settings for the modules that `match` names; later rules patch earlier ones, field by field.
struct ModuleRule {
  // An exact module name ("model.layers.3.mlp.down_proj"), a glob ("*.down_proj"; * and ? match any
  // characters), or a regular expression after "re:" (anchored at the start, as in
  // compressed-tensors).
  std::string match;
  std::optional<int> bits;
  std::optional<Index> group_size;
  std::optional<bool> sym;
  // True: left as it is. lm_head, and linears with LinearSpec::rounded false, are skipped unless a
  // rule says false.
  std::optional<bool> skip;
  bool allow_no_match = false;  // a rule that matches nothing is E151 otherwise
};

// Quantization of the blocks' linears, for formats that leave it open (all safetensors folders).
// GGUF types decide by themselves.
struct QuantizationRequest {
  int bits = 4;
  Index group_size = 128;
  bool sym = true;
  // Set from the export's scheme (scheme.h); as in quant::Grid.
  std::optional<SmallFloat> number = std::nullopt;
  Index scale_rows = 1;
  std::optional<ScalePrecision> coded_scales = std::nullopt;  // as in quant::Grid
  std::optional<InputGrid> inputs = std::nullopt;             // roundings of the linears' inputs
  std::vector<ModuleRule> rules;
  bool rescales_channels = false;  // weights that stay unquantized may change, too
  bool calibrated = false;  // the rounding knows its inputs; GGUF's IQ4 mixes spend less then
  // GGUF's older types: rounded by llama.cpp's rules (method rtn), or onto their grids by calque's.
  bool reference_rounding = false;
};

// Runtimes that must be able to load the artifact; plans they cannot load are refused (E141 to
// E146).
struct Requirements {
  bool vllm = false;
  std::vector<Index> tensor_parallel;  // sizes, each must work; 1 always counts when vllm is set
  bool transformers = false;
  bool wants_vllm() const { return vllm || !tensor_parallel.empty(); }
  bool any() const { return transformers || wants_vllm(); }
  bool operator==(const Requirements&) const = default;
};

// A GGUF type for matrices by their name in the file ("blk.0.ffn_down.weight"). `match` is a
// regular expression that is searched for anywhere in the name, as in llama-quantize's
// --tensor-type.
struct TensorTypeRule {
  std::string match;
  std::string type;  // "Q6_K"
  bool operator==(const TensorTypeRule&) const = default;
};

// One export to write.
struct ExportRequest {
  std::string format;          // the name of a row (format.h): "gptq"
  std::filesystem::path path;  // output folder; gguf: output file
  bool overwrite = false;
  // folders
  std::uint64_t max_shard_bytes = 5'000'000'000;
  // The numbers that scales may be: "float16"; "bfloat16" (gptq and awq then store numbers that are
  // exact in both, as F16); "auto": float16, compressed-tensors and mlx the model's dtype.
  std::string scale_dtype = "auto";
  Requirements require;
  // compressed-tensors
  std::string scheme;  // a row of schemes() (scheme.h): "FP8_DYNAMIC"; "": as bits and so on say
  std::string activations = "auto";  // a row of activations() (scheme.h); "auto": the scheme's
  // Scales of an FP8 key/value cache: "none", "fp8" (one for a layer's keys and one for its values)
  // or "fp8_head" (one a key/value head).
  std::string kv_cache = "none";
  // gptq
  std::string checkpoint_format =
      "auto";  // "gptq" (v1), "gptq_v2", "auto": v1 when every zero point is fixed, else v2
  bool desc_act = false;  // activation-ordered groups with g_idx
  // gguf
  std::string type = "Q4_0";  // one type or one of llama.cpp's mixes ("Q4_K_M")
  // Ignored if `type` is F16, BF16 or F32. "auto" follows llama.cpp's mix. A tied embedding takes
  // the output's type unless it is given one of its own.
  std::string embedding_type = "auto";
  std::string output_type = "auto";
  // For rows that are not whole blocks: "refuse", or "allow" the type that llama.cpp falls back to.
  std::string on_shape_fallback = "refuse";
  std::vector<TensorTypeRule> tensor_types;  // the first rule that matches decides, before the mix
  bool pure = false;  // no mix: every matrix takes the type's base, except for the keys above
  std::uint64_t split_max_bytes = 0;  // > 0: shards of at most this (split.*); 0: one file
  std::string pre;                    // overrides tokenizer.ggml.pre

  bool stores_kv_scales() const { return kv_cache != "none"; }
  bool has_scale_a_head() const { return kv_cache == "fp8_head"; }
};

// The decision for one tensor of the checkpoint.
struct TensorPlan {
  model::TensorSpec tensor;
  bool in_block_linear = false;     // the weight of a linear with an input site
  std::optional<quant::Grid> grid;  // rounded onto this; nullopt: copied
  std::optional<InputGrid> inputs;  // a server rounds the linear's inputs so; nullopt: it does not
  std::string stored_as;            // "Q4_0", "F16", "GPTQ 4 bit g128"
  std::uint64_t bytes = 0;          // tensor data in the artifact, exact
  // Experts that the file stores in one tensor, and that all stay as they are: the name of that
  // tensor, which is copied. It has an entry of its own, with `holds_parts`.
  std::string kept_in;
  bool holds_parts = false;

  bool is_written() const { return kept_in.empty(); }
  // Column c of what is stored is column column_order[c] of the tensor, and rounding takes columns
  // in this order; empty: the same order.
  std::vector<Index> column_order;
};

struct ExportPlan {
  ExportRequest request;
  // Every tensor of the family once, in family order; then, in folders, those it carries, and those
  // that hold experts which stay as they are.
  std::vector<TensorPlan> tensors;
  std::uint64_t tensor_bytes = 0;  // sum
  double bits_per_weight =
      0;  // 8 * tensor_bytes / elements of all tensors: embeddings, head and scales included
  // Facts worth knowing that are no reason to refuse: types forced by other shapes, sizes of tensor
  // parallelism that would not work.
  std::vector<std::string> remarks;

  const TensorPlan& at(const std::string& tensor_name) const;
  std::size_t index_of(const std::string& tensor_name) const;
  void make_index();  // lets `at` find tensors of a long plan at once; after a change of `tensors`

 private:
  std::map<std::string, std::size_t, std::less<>> index_;
};

// Decides everything for one export, from headers alone. Collects all reasons for refusal before it
// throws one Error(kConfig): a group size that does not divide a module's inputs (E131, with the
// sizes that would fit all), shapes the container cannot pack (E132), bits the format has no room
// for (E121), an unknown GGUF type (with the nearest name), rows that are not whole blocks of the
// type (E132), a rule that matches nothing (E151, with the nearest module) or is not a valid
// pattern (E152), a quantized lm_head that is tied to the embedding (E124), and whatever `require`
// rules out (E141 to E146).
ExportPlan plan_export(const model::FamilySpec& family, const model::ModelSource& source,
                       const QuantizationRequest& quantization, const ExportRequest& request);

}  // namespace calque::formats
