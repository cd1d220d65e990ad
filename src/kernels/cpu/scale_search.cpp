#include <algorithm>

#include "kernels/cpu/group_fit.h"
#include "kernels/cpu/kernels.h"

namespace calque::cpu {

void scale_search(MatrixView<const float> weight_NK, std::span<const float> importance_K,
                  Index group_size, const ScaleSearchOptions& options, MatrixView<float> scales_NG,
                  MatrixView<float> offsets_NG, const Exec::Backend& backend) {
  constexpr Index kRowsATask = 8;
  const Index rows = weight_NK.rows();
  backend.workers.for_each((rows + kRowsATask - 1) / kRowsATask, [&](Index task) {
    GroupFitter fitter(options, group_size);
    const Index end = std::min(rows, (task + 1) * kRowsATask);
    for (Index n = task * kRowsATask; n < end; ++n) {
      for (Index g = 0; g < scales_NG.cols(); ++g) {
        const Index begin = g * group_size;
        const float* importance = importance_K.empty() ? nullptr : importance_K.data() + begin;
        const GroupGrid grid = fitter.fit(weight_NK.row(n) + begin, importance);
        scales_NG(n, g) = grid.scale;
        offsets_NG(n, g) = grid.offset;
      }
    }
  });
}

}  // namespace calque::cpu
