#include "forward/cpu/states.h"

#include <algorithm>

namespace calque::forward {
namespace {

std::vector<Index> running_sum(std::span<const Index> lengths) {
  std::vector<Index> result{0};
  for (const Index length : lengths) result.push_back(result.back() + length);
  return result;
}

}  // namespace

CpuStates::CpuStates(Index hidden_size, std::span<const Index> lengths, io::ScratchSpace& space)
    : space_(space), rows_TH_(space, running_sum(lengths), hidden_size) {}

SequenceRows<float>& CpuStates::kept(const model::KeptRows& rows) {
  return kept_.try_emplace(rows.name, space_, firsts_B(), rows.width).first->second;
}

const Rotary& CpuStates::rotary(const model::RopeSpec& rope, Index head_dim) const {
  const std::lock_guard lock(mutex_);
  for (const Angles& angles : angles_)
    if (angles.head_dim == head_dim && angles.rope == rope) return angles.rotary;
  Index longest = 0;
  for (Index b = 0; b < sequences(); ++b) longest = std::max(longest, length(b));
  return angles_.emplace_back(Angles{rope, head_dim, Rotary(rope, head_dim, longest)}).rotary;
}

}  // namespace calque::forward
