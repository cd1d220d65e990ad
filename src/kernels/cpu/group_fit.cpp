#include "kernels/cpu/group_fit.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/grid_storage.h"
#include "kernels/cpu/simd.h"
#include "kernels/search_candidates.h"

namespace calque::cpu {
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

GroupGrid GroupFitter::searched_grid() const {
  if (options_.offset_kind == OffsetKind::kMiddleCode) return searched_symmetric();
  if (options_.offset_kind == OffsetKind::kZeroPoint) return searched_zero_point();
  return searched_minimum();
}

// Both signs of the scale for every range.
GroupGrid GroupFitter::searched_symmetric() const {
  const float full_range = static_cast<float>(middle_) / range_.extreme;
  Candidate best;
  const auto consider = [&](float inverse_scale) {
    const Candidate candidate = through_zero(inverse_scale, middle_);
    if (candidate.gain > best.gain) best = candidate;
  };
  auto [range, ratio] = ranges_to_try(options_.bits, kSymmetricSteps);
  for (int step = 0; step < kSymmetricSteps; ++step, range *= ratio) {
    consider(-full_range / range);
    consider(full_range / range);
  }
  consider(-full_range);
  consider(full_range * static_cast<float>(middle_ - 1) / static_cast<float>(middle_));
  for (int round = 0; round < kPolishRounds; ++round) {
    const float before = best.gain;
    consider(1.0f / best.slope);
    if (best.gain <= before) break;
  }
  return grid_through_zero(best.slope, middle_, options_);
}

// A range narrower than the weights loses its lower end, its upper end, or some of both. Zero is
// always inside, since its code is the zero point.
GroupGrid GroupFitter::searched_zero_point() const {
  const float codes = static_cast<float>(max_code_);
  const float low = std::min(range_.lowest, 0.0f);
  const float high = std::max(range_.highest, 0.0f);
  Candidate best;
  int best_zero = options_.min_zero;
  const auto consider = [&](float inverse_scale, int zero) {
    const Candidate candidate = through_zero(inverse_scale, zero);
    if (candidate.gain <= best.gain) return;
    best = candidate;
    best_zero = zero;
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
  for (int round = 0; round < kPolishRounds; ++round) {
    const Candidate before = best;
    const int zero = best_zero;
    for (int z = std::max(zero - 1, options_.min_zero); z <= std::min(zero + 1, max_code_); ++z)
      consider(1.0f / before.slope, z);
    if (best.gain <= before.gain) break;
  }
  return grid_through_zero(best.slope, best_zero, options_);
}

// Every pair of a lower and an upper end of the range, then scale and offset by least squares.
GroupGrid GroupFitter::searched_minimum() const {
  const float range = range_.highest - range_.lowest;
  const float codes = static_cast<float>(max_code_);
  Candidate best;
  const auto consider = [&](float scale, float offset) {
    const Candidate candidate = with_minimum(scale, offset);
    if (candidate.gain > best.gain) best = candidate;
  };
  for (const float below : kTrim)
    for (const float above : kTrim)
      consider(range * (1.0f - below - above) / codes, range_.lowest + below * range);
  for (int round = 0; round < kPolishRounds && best.gain >= 0.0f; ++round) {
    const float before = best.gain;
    consider(best.slope, best.offset);
    if (best.gain <= before) break;
  }
  if (best.gain < 0.0f) return covering_grid(range_, options_.rule, options_);
  return {stored_scale(best.slope, options_.precision), stored(best.offset, options_.precision)};
}

GroupFitter::Candidate GroupFitter::through_zero(float inverse_scale, int zero) const {
  const Floats inverse = broadcast(inverse_scale);
  const Floats lowest = broadcast(static_cast<float>(-zero));
  const Floats highest = broadcast(static_cast<float>(max_code_ - zero));
  Floats sum_qx = {}, sum_qq = {};
  for (std::size_t k = 0; k < x_.size(); k += kLanes) {
    const Floats x = cpu::load(&x_[k]);
    const Floats q = nearest_code(x * inverse, lowest, highest);
    const Floats hq = cpu::load(&h_[k]) * q;
    sum_qx += hq * x;
    sum_qq += hq * q;
  }
  const float qx = sum(sum_qx);
  const float qq = sum(sum_qq);
  if (!(qq > 0.0f) || qx == 0.0f) return {};
  return {.slope = qx / qq, .gain = qx / qq * qx};
}

GroupFitter::Candidate GroupFitter::with_minimum(float scale, float offset) const {
  if (!(scale > 0.0f)) return {};
  const Floats inverse = broadcast(1.0f / scale);
  const Floats shift = broadcast(offset);
  const Floats highest = broadcast(static_cast<float>(max_code_));
  Floats sum_1 = {}, sum_c = {}, sum_cc = {}, sum_x = {}, sum_cx = {};
  for (std::size_t k = 0; k < x_.size(); k += kLanes) {
    const Floats x = cpu::load(&x_[k]) - shift;
    const Floats h = cpu::load(&h_[k]);
    const Floats c = nearest_code(x * inverse, Floats{}, highest);
    const Floats hc = h * c;
    sum_1 += h;
    sum_x += h * x;
    sum_c += hc;
    sum_cc += hc * c;
    sum_cx += hc * x;
  }
  const double total = sum(sum_1), c = sum(sum_c), x = sum(sum_x);
  const double variance = sum(sum_cc) - c * c / total;
  const double covariance = sum(sum_cx) - c * x / total;
  // Codes that are all the same say nothing about the scale.
  if (!(variance > 1e-6 * sum(sum_cc)) || !(covariance > 0)) return {};
  const double slope = covariance / variance;
  const double mean = (x - slope * c) / total;
  return {.slope = static_cast<float>(slope),
          .offset = offset + static_cast<float>(mean),
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

}  // namespace calque::cpu
