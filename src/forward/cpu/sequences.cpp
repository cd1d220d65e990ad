#include "forward/cpu/sequences.h"

#include <algorithm>

namespace calque::forward {
namespace {

std::vector<Index> running_sum(std::span<const Index> lengths) {
  std::vector<Index> result{0};
  for (const Index length : lengths) result.push_back(result.back() + length);
  return result;
}

Index longest(std::span<const Index> lengths) {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

}  // namespace

CpuStates::CpuStates(const model::ModelConfig& config, Index hidden_size,
                     std::span<const Index> lengths, io::ScratchSpace& space)
    : rows_TH_(space, running_sum(lengths), hidden_size),
      rotary_(config.rope, config.head_dim, longest(lengths)),
      local_rotary_(config.local_rope, config.head_dim, longest(lengths)) {}

}  // namespace calque::forward
