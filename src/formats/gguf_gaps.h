#pragma once

#include <string>
#include <vector>

#include "calque/model/family.h"

namespace calque::formats {

// What of this model a GGUF file cannot say, or its loaders refuse. They take much of a model from
// the name of its architecture: activation, which layers have windows or experts, how attention is
// scaled (formats_gguf.md section 5.2). Empty: nothing, or the family has no GGUF at all.
//
// Not a gap: the windows of Mistral, Phi-3 and Qwen. Loaders give those models full attention,
// which is the same for contexts that fit the window.
std::vector<std::string> gguf_gaps(const model::FamilySpec& family);

// Layer i of architecture `arch` sees a window when the file has one: all but every n-th layer.
// 0: all or none do.
Index gguf_window_period(const std::string& arch);

// What attention scores are multiplied by; loaders decide it from the layer count.
double gguf_query_scale(const std::string& arch, const model::ModelConfig& config);

// Experts of `arch` weigh their outputs by probabilities that are scaled to sum 1.
bool gguf_normalizes_experts(const std::string& arch);

}  // namespace calque::formats
