#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kernels/cpu/float_codes.h"
#include "kernels/cpu/lanes.h"
#include "kernels/grid_storage.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

// The first candidate is the scale that covers the weights.
constexpr int kCandidates = 1 + kFloatScales;
using Losses = std::array<double, kCandidates>;

// Multiples of the covering scale, in equal ratios. Beyond twice, the grid repeats itself but for
// subnormal numbers; below 0.75 what is clipped outweighs what is gained.
float factor_of(int candidate, ScalePrecision precision) {
  constexpr double kLowest = 0.75;
  constexpr double kHighest = 2.0;
  if (candidate == 0) return 1.0f;
  if (precision == ScalePrecision::kE8M0) return candidate == 1 ? 0.5f : 2.0f;
  return static_cast<float>(
      kLowest * std::pow(kHighest / kLowest, (candidate - 1) / double{kFloatScales - 1}));
}

float peak_of(const float* weights, Index count) {
  float peak = 0;
  for (Index k = 0; k < count; ++k) peak = std::max(peak, std::abs(weights[k]));
  return peak;
}

// Rows with one scale for each group of their columns, or some of these rows.
struct Part {
  Index first, count;
};

std::vector<Part> parts_of(Index rows, Index size) {
  std::vector<Part> parts;
  for (Index first = 0; first < rows; first += size)
    parts.push_back({first, std::min(size, rows - first)});
  return parts;
}

class Search {
 public:
  Search(const FloatScaleSearch& task, std::span<const float> importance_K, const Workers& workers)
      : task_(task),
        importance_K_(importance_K),
        workers_(workers),
        numbers_(task.number),
        groups_(task.scales_NG.cols()) {
    for (const MatrixView<const float> weight_NK : task.weights)
      for (Index n = 0; n < weight_NK.rows(); ++n) rows_N_.push_back(weight_NK.row(n));
    for (int c = 0; c < kCandidates; ++c)
      factors_[static_cast<std::size_t>(c)] = factor_of(c, task.precision);
  }

  void run() const {
    // A thread takes the rows of one scale, or if they are many, a part of them at a time.
    constexpr Index kPartRows = 128;
    const std::vector<Part> cells = parts_of(task_.scales_NG.rows(), task_.scale_rows);
    if (task_.scale_rows <= kPartRows) {
      workers_.for_each(static_cast<Index>(cells.size()), [&](Index i) {
        const Part& cell = cells[static_cast<std::size_t>(i)];
        const std::vector<float> covering_G = scales_for(peaks(cell));
        finish(cell, covering_G, searches() ? losses(cell, covering_G) : std::vector<Losses>());
      });
      return;
    }
    for (const Part& cell : cells) run_in_parts(cell, parts_of(cell.count, kPartRows));
  }

 private:
  const float* row(Index n) const { return rows_N_[static_cast<std::size_t>(n)]; }
  bool searches() const {
    return task_.rule == ScaleRule::kSearch || task_.rule == ScaleRule::kBlockSearch;
  }

  void run_in_parts(const Part& cell, const std::vector<Part>& parts) const {
    const auto count = static_cast<Index>(parts.size());
    const auto rows = [&](Index i) {
      const Part& part = parts[static_cast<std::size_t>(i)];
      return Part{cell.first + part.first, part.count};
    };
    std::vector<std::vector<float>> found(parts.size());
    workers_.for_each(count, [&](Index i) { found[static_cast<std::size_t>(i)] = peaks(rows(i)); });
    std::vector<float> peaks_G = found.front();
    for (const std::vector<float>& part_G : found)
      for (std::size_t g = 0; g < peaks_G.size(); ++g) peaks_G[g] = std::max(peaks_G[g], part_G[g]);
    const std::vector<float> covering_G = scales_for(std::move(peaks_G));
    if (!searches()) return finish(cell, covering_G, {});
    std::vector<std::vector<Losses>> measured(parts.size());
    workers_.for_each(count, [&](Index i) {
      measured[static_cast<std::size_t>(i)] = losses(rows(i), covering_G);
    });
    std::vector<Losses> sums_G = measured.front();
    for (std::size_t i = 1; i < measured.size(); ++i)
      for (std::size_t g = 0; g < sums_G.size(); ++g)
        for (std::size_t c = 0; c < kCandidates; ++c) sums_G[g][c] += measured[i][g][c];
    finish(cell, covering_G, sums_G);
  }

  std::vector<float> peaks(const Part& rows) const {
    std::vector<float> peaks_G(static_cast<std::size_t>(groups_), 0.0f);
    for (Index n = rows.first; n < rows.first + rows.count; ++n)
      for (Index g = 0; g < groups_; ++g) {
        float& peak = peaks_G[static_cast<std::size_t>(g)];
        peak = std::max(peak, peak_of(row(n) + g * task_.group_size, task_.group_size));
      }
    return peaks_G;
  }

  std::vector<float> scales_for(std::vector<float> peaks_G) const {
    for (float& peak : peaks_G)
      peak = task_.precision == ScalePrecision::kE8M0 ? power_of_two_scale(task_.number, peak)
                                                      : peak / info_of(task_.number).largest;
    return peaks_G;
  }

  float candidate(float covering, std::size_t c) const {
    return stored_scale(covering * factors_[c], task_.precision, task_.divisor);
  }

  // The losses of every group with every candidate.
  std::vector<Losses> losses(const Part& rows, const std::vector<float>& covering_G) const {
    std::vector<Losses> losses_G(static_cast<std::size_t>(groups_), Losses{});
    for (Index n = rows.first; n < rows.first + rows.count; ++n)
      for (Index g = 0; g < groups_; ++g) {
        const Index begin = g * task_.group_size;
        const auto at = static_cast<std::size_t>(g);
        // Neighbours that are stored as the same scale are measured once.
        float measured = 0;
        double its_loss = 0;
        for (std::size_t c = 0; c < kCandidates; ++c) {
          const float scale = candidate(covering_G[at], c);
          if (c == 0 || scale != measured)
            its_loss =
                loss(row(n) + begin, importance_K_.empty() ? nullptr : importance_K_.data() + begin,
                     measured = scale);
          losses_G[at][c] += its_loss;
        }
      }
    return losses_G;
  }

  double loss(const float* weights, const float* importance, float scale) const {
    const Floats divisor = broadcast(scale);
    Floats total = {};
    for (Index k = 0; k < task_.group_size; k += kLanes) {
      const Index count = std::min<Index>(kLanes, task_.group_size - k);
      const Floats weight = load_part(weights + k, count, 0.0f);
      const Floats error = weight - divisor * numbers_.rounded(weight / divisor);
      total += importance == nullptr ? error * error
                                     : load_part(importance + k, count, 0.0f) * error * error;
    }
    return sum(total);
  }

  // The first of the best candidates; without losses the first.
  void finish(const Part& cell, const std::vector<float>& covering_G,
              const std::vector<Losses>& losses_G) const {
    for (Index g = 0; g < groups_; ++g) {
      const auto at = static_cast<std::size_t>(g);
      std::size_t best = 0;
      if (!losses_G.empty())
        best = static_cast<std::size_t>(std::min_element(losses_G[at].begin(), losses_G[at].end()) -
                                        losses_G[at].begin());
      const float scale = candidate(covering_G[at], best);
      for (Index n = cell.first; n < cell.first + cell.count; ++n) task_.scales_NG(n, g) = scale;
    }
  }

  const FloatScaleSearch& task_;
  std::span<const float> importance_K_;
  const Workers& workers_;
  FloatCodes numbers_;
  Index groups_;
  std::vector<const float*> rows_N_;
  std::array<float, kCandidates> factors_{};
};

}  // namespace

void float_scale_search(const FloatScaleSearch& search, std::span<const float> importance_K,
                        const Exec::Backend& backend) {
  Search(search, importance_K, backend.workers).run();
}

}  // namespace calque::cpu
