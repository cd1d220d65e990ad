#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "calque/io/gguf.h"
#include "calque/model/family.h"

// Properties that GGUF loaders derive from the architecture's name because no key states them:
// activation, layers with windows or experts, scale of attention.
namespace calque::formats {

struct GgufArchitecture {
  std::string_view gguf;
  std::string_view hugging_face;
};

// The architecture named by the file's keys ("llama" with experts is Mixtral). Error(kInput) for
// one that calque does not read.
const GgufArchitecture& gguf_architecture_of(const io::GgufFile& file);

// n if in architecture `arch`, given a window, every n-th layer sees everything and the others only
// the window; 0 if all layers or none have the window.
Index gguf_window_period(const std::string& arch, Index layers);

// A tokenizer of pieces that loaders of an architecture join by merges, where other architectures'
// join them by scores.
struct GgufPieces {
  std::string_view model;                  // tokenizer.ggml.model
  std::vector<std::string_view> readable;  // special tokens that are written as text, for parsers
};
// Null if loaders of `arch` join pieces by scores.
const GgufPieces* gguf_pieces_by_merges(const std::string& arch);

// True if a list of the file says which layers have a window.
bool gguf_lists_windows(const std::string& arch);

// The factor on attention scores; loaders derive it from the number of layers.
double gguf_query_scale(const std::string& arch, const model::ModelConfig& config);

// ModelConfig::turned_layers as loaders of `arch` assume it.
std::vector<bool> gguf_turned_layers(const std::string& arch, Index layers);

// True if loaders of `arch` require ModelConfig::rope_sections.
bool gguf_has_sections(const std::string& arch);

// True for architectures of ModelConfig::delta_net.
bool gguf_has_delta_nets(const std::string& arch);
// n if the n-th layer is the first with attention; loaders expect it in every n-th.
Index gguf_attention_interval(const model::ModelConfig& config);

// ModelConfig::clamped_gate as loaders of `arch` assume it.
model::ClampedGate gguf_clamped_gate(const std::string& arch);

// Loaders multiply yarn's cosines and sines by 1 + ln(factor) / 10.
double gguf_yarn_factor(const model::RopeSpec& rope);

// Values of the key expert_gating_func.
constexpr std::int64_t kGgufSoftmax = 1;
constexpr std::int64_t kGgufSigmoid = 2;

// Loaders' knowledge of an architecture's experts: the facts no key states, and the keys they read.
struct GgufExperts {
  enum class Dense {
    kNone,   // every layer has experts
    kFirst,  // leading_dense_block_count layers have none
    kSteps,  // nor have all others, but for every interleave_moe_layer_step-th
    kAny,    // loaders see it from the tensors
  };
  bool any = false;           // there can be experts
  model::Routing routing;     // for what no key says
  bool scores_key = false;    // expert_gating_func
  bool weight_keys = false;   // expert_weights_norm, expert_weights_scale
  bool shared_count = false;  // expert_shared_count
  bool in_mxfp4 = false;      // MXFP4 is what they were published in
  Dense dense = Dense::kNone;
};
GgufExperts gguf_experts(const std::string& arch);

// Reasons that a GGUF file cannot describe this model, or that its loaders would refuse it. Empty
// if there are none, or if the family has no GGUF at all.
//
// The windows of Mistral, Phi-3 and Qwen are not among them. Loaders give those models full
// attention, which is the same for contexts that fit the window.
std::vector<std::string> gguf_unsupported(const model::FamilySpec& family);

// Loaders compute these things a little otherwise than the model. Facts worth knowing.
std::vector<std::string> gguf_differences(const model::FamilySpec& family);

[[noreturn]] void refuse_gguf(const io::GgufFile& file, const std::string& reason);

}  // namespace calque::formats
