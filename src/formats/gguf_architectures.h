#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/io/gguf.h"
#include "calque/model/family.h"

// What loaders of GGUF files take from the name of a file's architecture, because no key says it:
// activation, which layers have windows or experts, how attention is scaled.
namespace calque::formats {

struct GgufArchitecture {
  std::string_view gguf;
  std::string_view hugging_face;
  std::string_view model_type;
};

// The one that a file's keys name ("llama" with experts is Mixtral); Error(kInput) for one that
// calque does not read.
const GgufArchitecture& gguf_architecture_of(const io::GgufFile& file);

// Layer i of architecture `arch` sees a window when the file has one: all but every n-th layer.
// 0: all or none do.
Index gguf_window_period(const std::string& arch);

// What attention scores are multiplied by; loaders decide it from the layer count.
double gguf_query_scale(const std::string& arch, const model::ModelConfig& config);

// Experts of `arch` weigh their outputs by probabilities that are scaled to sum 1.
bool gguf_normalizes_experts(const std::string& arch);

// What of this model a GGUF file cannot say, or its loaders refuse. Empty: nothing, or the family
// has no GGUF at all.
//
// Not among them: the windows of Mistral, Phi-3 and Qwen. Loaders give those models full attention,
// which is the same for contexts that fit the window.
std::vector<std::string> gguf_unsupported(const model::FamilySpec& family);

[[noreturn]] void refuse_gguf(const io::GgufFile& file, const std::string& reason);

}  // namespace calque::formats
