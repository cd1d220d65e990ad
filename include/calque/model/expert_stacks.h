#pragma once

#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"

namespace calque::model {

// One projection of all experts of a layer, in one tensor: the reverse of what a source takes
// apart.
struct ExpertStack {
  std::string name;          // "model.layers.3.mlp.experts.gate_up_proj_bias"
  std::vector<Index> shape;  // [E, in, out], [E, out]
  // For each expert gate's tensor, then up's; or down's.
  std::vector<std::vector<std::string>> parts;
};

// The stacks that make up the experts of `family` in a class that transformers reads in no other
// way. It stacks the experts of classes with kRows itself: none for them.
std::vector<ExpertStack> expert_stacks(const FamilySpec& family, StackedExperts layout);

// Expert `e` of a stack, [in, out] or [1, out].
Matrix<float> stacked_expert(const ExpertStack& stack, Index e, StackedExperts layout,
                             const WeightSource& source);

}  // namespace calque::model
