#pragma once

#include <map>
#include <string>

#include "formats/plan_inputs.h"
#include "calque/io/gguf.h"

namespace calque::formats {

// The type that one tensor of a GGUF file should take, and the one it can.
struct GgufChoice {
  io::GgmlType wanted = io::GgmlType::kF32;
  io::GgmlType stored = io::GgmlType::kF32;  // another where rows are not whole blocks of `wanted`
};

// By name in the file; experts that are stacked in one tensor share its type.
using GgufChoices = std::map<std::string, GgufChoice, std::less<>>;

// What the request, its rules and the mix say, in the order of llama-quantize. Its names have been
// checked.
GgufChoices choose_gguf_types(const PlanInputs& inputs);

// Whether every rule matches a matrix; refusals: E151, with the nearest, and E152 for what is no
// pattern.
bool check_tensor_types(const PlanInputs& inputs, Refusals& refusals);

}  // namespace calque::formats
