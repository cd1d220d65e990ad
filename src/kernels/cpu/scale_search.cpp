#include "calque/kernels/scale_search.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/group_fit.h"
#include "kernels/cpu/transpose.h"
#include "kernels/grid_storage.h"
#include "kernels/kernel_table.h"
#include "kernels/search_candidates.h"

namespace calque::cpu {

// ---- Grids that cover a range

GroupRange range_of(const float* weights, Index size) {
  Floats low = broadcast(weights[0]);
  Floats high = low;
  Index k = 0;
  for (; k + kLanes <= size; k += kLanes) {
    low = at_most(load(weights + k), low);
    high = at_least(load(weights + k), high);
  }
  float lowest = weights[0], highest = weights[0];
  for (int lane = 0; lane < kLanes; ++lane) {
    lowest = std::min(lowest, low[lane]);
    highest = std::max(highest, high[lane]);
  }
  for (; k < size; ++k) {
    lowest = std::min(lowest, weights[k]);
    highest = std::max(highest, weights[k]);
  }
  if (highest != -lowest) return {lowest, highest, highest > -lowest ? highest : lowest};
  return {lowest, highest,
          *std::find_if(weights, weights + size, [&](float w) { return std::abs(w) == highest; })};
}

int bounded_zero(float zero, const ScaleSearchOptions& options) {
  const float lowest = static_cast<float>(options.min_zero);
  const float highest = static_cast<float>((1 << options.bits) - 1);
  return static_cast<int>(std::rint(std::clamp(zero, lowest, highest)));
}

GroupGrid grid_through_zero(float scale, int zero, const ScaleSearchOptions& options) {
  const float rounded = stored_scale(scale, options.precision);
  return {rounded, -rounded * static_cast<float>(zero)};
}

GroupGrid covering_grid(const GroupRange& range, ScaleRule rule,
                        const ScaleSearchOptions& options) {
  const int middle = 1 << (options.bits - 1);
  const float codes = static_cast<float>((1 << options.bits) - 1);
  const float low = std::min(range.lowest, 0.0f);
  const float high = std::max(range.highest, 0.0f);
  const float range_scale = high / codes - low / codes;  // cannot overflow
  switch (options.offset_kind) {
    case OffsetKind::kMiddleCode:
      if (rule == ScaleRule::kMinMax)
        return grid_through_zero(2.0f * (std::abs(range.extreme) / codes), middle, options);
      return grid_through_zero(-range.extreme / static_cast<float>(middle), middle, options);
    case OffsetKind::kZeroPoint: {
      const float scale = stored_scale(range_scale, options.precision);
      return grid_through_zero(scale, bounded_zero(-low / scale, options), options);
    }
    case OffsetKind::kMinimum:
      break;
  }
  return {stored_scale(range_scale, options.precision), stored(low, options.precision)};
}

// ---- The best grid of a group

GroupFitter::GroupFitter(const ScaleSearchOptions& options, Index group_size)
    : options_(options),
      size_(group_size),
      max_code_((1 << options.bits) - 1),
      middle_(1 << (options.bits - 1)) {
  const auto padded = static_cast<std::size_t>((group_size + kLanes - 1) / kLanes * kLanes);
  x_.resize(padded, 0.0f);
  h_.resize(padded, 0.0f);
}

GroupGrid GroupFitter::fit(const float* weights, const float* importance) {
  load(weights, importance);
  const GroupGrid start = covering_grid(range_, options_.rule, options_);
  const bool searches =
      options_.rule == ScaleRule::kSearch || options_.rule == ScaleRule::kBlockSearch;
  if (!searches || range_.extreme == 0.0f) return start;
  const GroupGrid searched = searched_grid();
  // Rounding a scale to its precision may undo what the search found.
  return error(searched) < error(start) ? searched : start;
}

void GroupFitter::load(const float* weights, const float* importance) {
  std::copy_n(weights, size_, x_.begin());
  std::fill(x_.begin() + size_, x_.end(), weights[0]);
  if (importance != nullptr)
    std::copy_n(importance, size_, h_.begin());
  else
    std::fill_n(h_.begin(), size_, 1.0f);
  range_ = range_of(weights, size_);
}

GroupGrid GroupFitter::searched_grid() {
  if (options_.offset_kind == OffsetKind::kMiddleCode) return searched_symmetric();
  if (options_.offset_kind == OffsetKind::kZeroPoint) return searched_zero_point();
  return searched_minimum();
}

// Both signs of the scale for every range.
GroupGrid GroupFitter::searched_symmetric() {
  const float full_range = static_cast<float>(middle_) / range_.extreme;
  const auto consider = [&](float inverse_scale) {
    trials_.push_back({.scale = inverse_scale, .zero = middle_});
  };
  auto [range, ratio] = ranges_to_try(options_.bits, kSymmetricSteps);
  for (int step = 0; step < kSymmetricSteps; ++step, range *= ratio) {
    consider(-full_range / range);
    consider(full_range / range);
  }
  consider(-full_range);
  consider(full_range * static_cast<float>(middle_ - 1) / static_cast<float>(middle_));
  Candidate best = best_through_zero({});
  for (int round = 0; round < kPolishRounds; ++round) {
    const float before = best.gain;
    consider(1.0f / best.slope);
    best = best_through_zero(best);
    if (best.gain <= before) break;
  }
  return grid_through_zero(best.slope, middle_, options_);
}

// A range narrower than the weights loses its lower end, its upper end, or some of both. Zero is
// always inside, since its code is the zero point.
GroupGrid GroupFitter::searched_zero_point() {
  const float codes = static_cast<float>(max_code_);
  const float low = std::min(range_.lowest, 0.0f);
  const float high = std::max(range_.highest, 0.0f);
  const auto consider = [&](float inverse_scale, int zero) {
    trials_.push_back({.scale = inverse_scale, .zero = zero});
  };
  const auto [widest, ratio] = ranges_to_try(options_.bits, kZeroPointSteps);
  float scale = widest * (high / codes - low / codes);
  for (int step = 0; step < kZeroPointSteps; ++step, scale *= ratio) {
    const float keeps_low = -low / scale;
    const float keeps_high = codes - high / scale;
    int previous = -1;
    for (int place = 0; place < kZeroPointPlaces; ++place) {
      const float share = static_cast<float>(place) / (kZeroPointPlaces - 1);
      const int zero = bounded_zero(keeps_low + share * (keeps_high - keeps_low), options_);
      if (zero != previous) consider(1.0f / scale, zero);
      previous = zero;
    }
  }
  Candidate best = best_through_zero({.zero = options_.min_zero});
  for (int round = 0; round < kPolishRounds; ++round) {
    const Candidate before = best;
    const int lowest = std::max(before.zero - 1, options_.min_zero);
    const int highest = std::min(before.zero + 1, max_code_);
    for (int zero = lowest; zero <= highest; ++zero) consider(1.0f / before.slope, zero);
    best = best_through_zero(best);
    if (best.gain <= before.gain) break;
  }
  return grid_through_zero(best.slope, best.zero, options_);
}

// Every pair of a lower and an upper end of the range, then scale and offset by least squares.
GroupGrid GroupFitter::searched_minimum() {
  const float range = range_.highest - range_.lowest;
  const float codes = static_cast<float>(max_code_);
  for (const float below : kTrim)
    for (const float above : kTrim)
      trials_.push_back({.scale = range * (1.0f - below - above) / codes,
                         .offset = range_.lowest + below * range});
  Candidate best = best_with_minimum({});
  for (int round = 0; round < kPolishRounds && best.gain >= 0.0f; ++round) {
    const float before = best.gain;
    trials_.push_back({.scale = best.slope, .offset = best.offset});
    best = best_with_minimum(best);
    if (best.gain <= before) break;
  }
  if (best.gain < 0.0f) return covering_grid(range_, options_.rule, options_);
  return {stored_scale(best.slope, options_.precision), stored(best.offset, options_.precision)};
}

// Sums across lanes cost as much as a group's arithmetic, so they are taken of sixteen trials at a
// time.
GroupFitter::Candidate GroupFitter::best_through_zero(Candidate best) {
  std::array<Floats, kLanes> parts_qx{}, parts_qq{};
  for (std::size_t begin = 0; begin < trials_.size(); begin += kLanes) {
    const std::size_t count = std::min<std::size_t>(kLanes, trials_.size() - begin);
    for (std::size_t i = 0; i < count; ++i) {
      const ZeroSums sums = sums_through_zero(trials_[begin + i]);
      parts_qx[i] = sums.qx;
      parts_qq[i] = sums.qq;
    }
    const Floats all_qx = sums_of(parts_qx, count), all_qq = sums_of(parts_qq, count);
    for (std::size_t i = 0; i < count; ++i) {
      const float qx = all_qx[i], qq = all_qq[i];
      const float gain = qx / qq * qx;
      if (!(qq > 0.0f) || qx == 0.0f || !(gain > best.gain)) continue;
      best = {.slope = qx / qq, .gain = gain, .zero = trials_[begin + i].zero};
    }
  }
  trials_.clear();
  return best;
}

GroupFitter::ZeroSums GroupFitter::sums_through_zero(const Trial& trial) const {
  const Floats inverse = broadcast(trial.scale);
  const Floats lowest = broadcast(static_cast<float>(-trial.zero));
  const Floats highest = broadcast(static_cast<float>(max_code_ - trial.zero));
  ZeroSums sums;
  for (std::size_t k = 0; k < x_.size(); k += kLanes) {
    const Floats x = cpu::load(&x_[k]);
    const Floats q = nearest_code(x * inverse, lowest, highest);
    const Floats hq = cpu::load(&h_[k]) * q;
    sums.qx += hq * x;
    sums.qq += hq * q;
  }
  return sums;
}

GroupFitter::Candidate GroupFitter::best_with_minimum(Candidate best) {
  std::array<Floats, kLanes> parts_one{}, parts_c{}, parts_cc{}, parts_x{}, parts_cx{};
  for (std::size_t begin = 0; begin < trials_.size(); begin += kLanes) {
    const std::size_t count = std::min<std::size_t>(kLanes, trials_.size() - begin);
    for (std::size_t i = 0; i < count; ++i) {
      const MinimumSums sums = sums_with_minimum(trials_[begin + i]);
      parts_one[i] = sums.one;
      parts_c[i] = sums.c;
      parts_cc[i] = sums.cc;
      parts_x[i] = sums.x;
      parts_cx[i] = sums.cx;
    }
    const Floats one = sums_of(parts_one, count), c = sums_of(parts_c, count),
                 cc = sums_of(parts_cc, count);
    const Floats x = sums_of(parts_x, count), cx = sums_of(parts_cx, count);
    for (std::size_t i = 0; i < count; ++i) {
      const Trial& trial = trials_[begin + i];
      const Candidate candidate = fitted_line(trial, one[i], c[i], cc[i], x[i], cx[i]);
      if (trial.scale > 0.0f && candidate.gain > best.gain) best = candidate;
    }
  }
  trials_.clear();
  return best;
}

GroupFitter::MinimumSums GroupFitter::sums_with_minimum(const Trial& trial) const {
  const Floats inverse = broadcast(1.0f / trial.scale);
  const Floats shift = broadcast(trial.offset);
  const Floats highest = broadcast(static_cast<float>(max_code_));
  MinimumSums sums;
  for (std::size_t k = 0; k < x_.size(); k += kLanes) {
    const Floats x = cpu::load(&x_[k]) - shift;
    const Floats h = cpu::load(&h_[k]);
    const Floats c = nearest_code(x * inverse, Floats{}, highest);
    const Floats hc = h * c;
    sums.one += h;
    sums.x += h * x;
    sums.c += hc;
    sums.cc += hc * c;
    sums.cx += hc * x;
  }
  return sums;
}

// The best scale and offset for codes c with these sums of h, h c, h c^2, h x, h c x, where x is
// what the trial's offset leaves.
GroupFitter::Candidate GroupFitter::fitted_line(const Trial& trial, double total, double c,
                                                double cc, double x, double cx) {
  const double variance = cc - c * c / total;
  const double covariance = cx - c * x / total;
  // Codes that are all the same say nothing about the scale.
  if (!(variance > 1e-6 * cc) || !(covariance > 0)) return {};
  const double slope = covariance / variance;
  const double mean = (x - slope * c) / total;
  return {.slope = static_cast<float>(slope),
          .offset = trial.offset + static_cast<float>(mean),
          .gain = static_cast<float>(covariance * slope)};
}

float GroupFitter::error(const GroupGrid& grid) const {
  const Floats scale = broadcast(grid.scale);
  const Floats offset = broadcast(grid.offset);
  const Floats highest = broadcast(static_cast<float>(max_code_));
  Floats total = {};
  for (std::size_t k = 0; k < x_.size(); k += kLanes) {
    const Floats x = cpu::load(&x_[k]);
    const Floats code = nearest_code((x - offset) / scale, Floats{}, highest);
    const Floats difference = x - (scale * code + offset);
    total += cpu::load(&h_[k]) * difference * difference;
  }
  return sum(total);
}

// ---- The operation

void scale_search(const ScaleSearch& search, std::span<const float> importance_K,
                  const Exec::Backend& backend) {
  constexpr Index kRowsATask = 8;
  const Index rows = search.weight_NK.rows();
  const Index group_size = search.group_size;
  backend.workers.for_each((rows + kRowsATask - 1) / kRowsATask, [&](Index task) {
    GroupFitter fitter(search.options, group_size);
    const Index end = std::min(rows, (task + 1) * kRowsATask);
    for (Index n = task * kRowsATask; n < end; ++n)
      for (Index g = 0; g < search.scales_NG.cols(); ++g) {
        const Index begin = g * group_size;
        const float* importance = importance_K.empty() ? nullptr : importance_K.data() + begin;
        const GroupGrid grid = fitter.fit(search.weight_NK.row(n) + begin, importance);
        search.scales_NG(n, g) = grid.scale;
        search.offsets_NG(n, g) = grid.offset;
      }
  });
}

}  // namespace calque::cpu
