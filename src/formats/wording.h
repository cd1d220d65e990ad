#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/model/family.h"

namespace calque::formats {

// "2^6·3^2·5" for 2880.
std::string factorisation(Index n);

// "[14336, 4096]"
std::string shape_text(const std::vector<Index>& shape);

// "a, b or c"
std::string alternatives(const std::vector<std::string>& items);

// "model.layers.*.self_attn.{q,k,v}_proj": modules that differ in layer and role only, in one.
std::string module_pattern(const std::vector<const model::LinearSpec*>& linears);

}  // namespace calque::formats
