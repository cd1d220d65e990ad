#include "calque/eval/reference_states.h"

#include <algorithm>
#include <utility>

namespace calque::eval {

bool ReferenceStates::Entry::fits(const text::TokenBlocks& rows,
                                  const forward::RunnerOptions& options) const {
  return dtype == options.dtype && device == options.device && lengths_B == rows.lengths_B &&
         ids_BS.rows() == rows.rows() && ids_BS.cols() == rows.seqlen() &&
         std::equal(ids_BS.data(), ids_BS.data() + ids_BS.size(), rows.ids_BS.data());
}

std::shared_ptr<const forward::HiddenStates> ReferenceStates::find(
    const text::TokenBlocks& rows, const forward::RunnerOptions& options) const {
  for (const Entry& entry : entries_)
    if (entry.fits(rows, options)) {
      ++hits_;
      spared_seconds_ += entry.seconds;
      return entry.hidden;
    }
  return nullptr;
}

void ReferenceStates::keep(const text::TokenBlocks& rows, const forward::RunnerOptions& options,
                           std::shared_ptr<const forward::HiddenStates> hidden, double seconds) {
  entries_.push_back({Matrix<std::int32_t>::copy_of(rows.ids_BS.view()), rows.lengths_B,
                      options.dtype, options.device, std::move(hidden), seconds});
}

}  // namespace calque::eval
