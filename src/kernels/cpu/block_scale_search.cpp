#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cpu/group_fit.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/grid_storage.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

constexpr Index kRowsATask = 32;
// Least-squares scales for the codes found so far.
constexpr int kPolishRounds = 2;

struct Search : ScaleSearch {
  MatrixView<const float> hessian_KK;
  Matrix<float> diagonals_GB;  // the Hessian's: the importance of a group's weights
  Matrix<float> row_sums_GB;   // each group's block's, for the offsets of kMinimum
};

double dot(const float* a, const float* b, Index count) {
  Floats lanes = {};
  Index k = 0;
  for (; k + kLanes <= count; k += kLanes) lanes += load(a + k) * load(b + k);
  double total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += lanes[lane];
  for (; k < count; ++k) total += static_cast<double>(a[k]) * b[k];
  return total;
}

Matrix<float> row_sums(MatrixView<const float> hessian_KK, Index group_size) {
  Matrix<float> sums(hessian_KK.rows() / group_size, group_size);
  for (Index k = 0; k < hessian_KK.rows(); ++k) {
    const Index g = k / group_size;
    const float* row = hessian_KK.row(k) + g * group_size;
    sums(g, k - g * group_size) = static_cast<float>(std::accumulate(row, row + group_size, 0.0));
  }
  return sums;
}

Matrix<float> diagonals(MatrixView<const float> hessian_KK, Index group_size) {
  Matrix<float> entries(hessian_KK.rows() / group_size, group_size);
  for (Index k = 0; k < hessian_KK.rows(); ++k)
    entries(k / group_size, k % group_size) = hessian_KK(k, k);
  return entries;
}

// One group of some rows. Candidate c of row r is row c * rows + r of the product of all
// candidates' errors with the block.
class Block {
 public:
  Block(const Search& search, Index first, Index rows)
      : search_(search),
        first_(first),
        rows_(rows),
        fitter_(search.options, search.group_size),
        best_(static_cast<std::size_t>(rows)),
        losses_(static_cast<std::size_t>(rows)) {}

  void run(Index group) {
    group_ = group;
    const Index begin = group * search_.group_size;
    weight_RB_ = search_.weight_NK.rows(first_, rows_).cols(begin, search_.group_size);
    block_BB_ = search_.hessian_KK.rows(begin, search_.group_size).cols(begin, search_.group_size);
    list_candidates();
    measure();
    for (Index r = 0; r < rows_; ++r) keep_best(r, true);
    for (int round = 0; round < kPolishRounds; ++round) polish();
    for (Index r = 0; r < rows_; ++r) {
      search_.scales_NG(first_ + r, group) = best_[static_cast<std::size_t>(r)].scale;
      search_.offsets_NG(first_ + r, group) = best_[static_cast<std::size_t>(r)].offset;
    }
  }

 private:
  // The range of the weights first, so that it wins where nothing is better.
  void list_candidates() {
    candidates_.clear();
    std::vector<GroupRange> ranges;
    for (Index r = 0; r < rows_; ++r)
      ranges.push_back(range_of(weight_RB_.row(r), search_.group_size));
    list_shrunk(ranges, ScaleRule::kMinMax);
    if (search_.options.offset_kind == OffsetKind::kMiddleCode)
      list_shrunk(ranges, ScaleRule::kFullRange);
    for (Index r = 0; r < rows_; ++r)
      candidates_.push_back(fitter_.fit(weight_RB_.row(r), search_.diagonals_GB.row(group_)));
  }

  void list_shrunk(const std::vector<GroupRange>& ranges, ScaleRule rule) {
    for (int i = 0; i < kClippedRanges; ++i)
      for (const GroupRange& range : ranges)
        candidates_.push_back(covering_grid(range.times(1.0f - static_cast<float>(i) / 20.0f), rule,
                                            search_.options));
  }

  // losses of candidates_ = e H_gg e^T.
  void measure() {
    const Index count = static_cast<Index>(candidates_.size());
    resize(count);
    for (Index c = 0; c < count; ++c)
      write_error(weight_RB_.row(c % rows_), candidates_[static_cast<std::size_t>(c)],
                  errors_.row(c));
    sgemm(1.0f, errors_.view().rows(0, count), block_BB_, 0.0f, products_.view().rows(0, count));
    measured_.resize(static_cast<std::size_t>(count));
    for (Index c = 0; c < count; ++c)
      measured_[static_cast<std::size_t>(c)] =
          dot(errors_.row(c), products_.row(c), search_.group_size);
  }

  void resize(Index count) {
    if (errors_.rows() >= count) return;
    errors_ = Matrix<float>::uninitialized(count, search_.group_size);
    products_ = Matrix<float>::uninitialized(count, search_.group_size);
  }

  float code_of(float weight, const GroupGrid& grid) const {
    constexpr float kOnes = 0x1.8p23f;  // see round_even in calque/core/simd.h
    const float highest = static_cast<float>((1 << search_.options.bits) - 1);
    float code = (weight - grid.offset) / grid.scale;
    code = code > 0.0f ? code : 0.0f;
    code = code < highest ? code : highest;
    return (code + kOnes) - kOnes;
  }

  void write_error(const float* weight, const GroupGrid& grid, float* error) const {
    for (Index k = 0; k < search_.group_size; ++k)
      error[k] = weight[k] - (grid.scale * code_of(weight[k], grid) + grid.offset);
  }

  void keep_best(Index r, bool starting) {
    const auto at = static_cast<std::size_t>(r);
    for (std::size_t c = at; c < candidates_.size(); c += static_cast<std::size_t>(rows_)) {
      const bool first = starting && c == at;
      if (!first && !(measured_[c] < losses_[at])) continue;
      best_[at] = candidates_[c];
      losses_[at] = measured_[c];
    }
  }

  void polish() {
    const bool minimum = search_.options.offset_kind == OffsetKind::kMinimum;
    for (Index r = 0; r < rows_; ++r) {
      const GroupGrid& grid = best_[static_cast<std::size_t>(r)];
      const float zero = minimum ? 0.0f : std::rint(-grid.offset / grid.scale);
      for (Index k = 0; k < search_.group_size; ++k)
        errors_(r, k) = code_of(weight_RB_(r, k), grid) - zero;
    }
    sgemm(1.0f, errors_.view().rows(0, rows_), block_BB_, 0.0f, products_.view().rows(0, rows_));
    candidates_.clear();
    for (Index r = 0; r < rows_; ++r) candidates_.push_back(minimum ? line(r) : slope(r));
    measure();
    for (Index r = 0; r < rows_; ++r) keep_best(r, false);
  }

  // The best scale for the codes: (q H w) / (q H q).
  GroupGrid slope(Index r) const {
    const GroupGrid& grid = best_[static_cast<std::size_t>(r)];
    const double qq = dot(errors_.row(r), products_.row(r), search_.group_size);
    const double qw = dot(weight_RB_.row(r), products_.row(r), search_.group_size);
    const double scale = qw / qq;
    if (!(qq > 0) || !(scale * grid.scale > 0)) return grid;
    const int zero = static_cast<int>(std::rint(-grid.offset / grid.scale));
    return grid_through_zero(static_cast<float>(scale), zero, search_.options);
  }

  // The best scale and offset for the codes.
  GroupGrid line(Index r) const {
    const GroupGrid& grid = best_[static_cast<std::size_t>(r)];
    const Index size = search_.group_size;
    const float* sums = search_.row_sums_GB.row(group_);
    const double qq = dot(errors_.row(r), products_.row(r), size);
    const double qw = dot(weight_RB_.row(r), products_.row(r), size);
    const double q1 = dot(errors_.row(r), sums, size);
    const double w1 = dot(weight_RB_.row(r), sums, size);
    const double one = std::accumulate(sums, sums + size, 0.0);
    const double determinant = qq * one - q1 * q1;
    const double scale = (qw * one - q1 * w1) / determinant;
    if (!(determinant > 1e-6 * qq * one) || !(scale > 0)) return grid;
    const double offset = (w1 - scale * q1) / one;
    return {stored_scale(static_cast<float>(scale), search_.options.precision),
            stored(static_cast<float>(offset), search_.options.precision)};
  }

  const Search& search_;
  Index first_, rows_, group_ = 0;
  GroupFitter fitter_;
  MatrixView<const float> weight_RB_, block_BB_;
  std::vector<GroupGrid> candidates_, best_;
  std::vector<double> measured_, losses_;
  Matrix<float> errors_, products_;
};

}  // namespace

void block_scale_search(const ScaleSearch& search, MatrixView<const float> hessian_KK,
                        const Exec::Backend& backend) {
  const Search task = {search, hessian_KK, diagonals(hessian_KK, search.group_size),
                       search.options.offset_kind == OffsetKind::kMinimum
                           ? row_sums(hessian_KK, search.group_size)
                           : Matrix<float>()};
  const Index rows = search.weight_NK.rows();
  backend.workers.for_each((rows + kRowsATask - 1) / kRowsATask, [&](Index part) {
    const Index first = part * kRowsATask;
    Block block(task, first, std::min(kRowsATask, rows - first));
    for (Index g = 0; g < search.scales_NG.cols(); ++g) block.run(g);
  });
}

}  // namespace calque::cpu
