// Scale and offset of every group: min-max, full range, or the best of many candidates. Reference:
// cpu/scale_search.cpp and cpu/group_fit.cpp, whose results these are, bit for bit: sums go by 16
// lanes as there, and of equally good candidates the first one wins.

#include <algorithm>

#include "calque/kernels/scale_search.h"
#include "kernels/cuda/arithmetic.cuh"
#include "kernels/cuda/device.h"
#include "kernels/cuda/groups.cuh"
#include "kernels/kernel_table.h"
#include "kernels/search_candidates.h"

namespace calque::cuda {
namespace {

// ---- Kernels

constexpr int kWarps = 4;  // a block; a warp a group

struct Search {
  const float* weight_NK;
  const float* importance_K;
  float* scales_NG;
  float* offsets_NG;
  Index grids, columns, groups;
  int group_size;
  ScaleRule rule;
  GridOptions options;
  Ranges ranges;
  float trim[kTrims];
};

// See cpu/group_fit.h. Candidates of one search have an order: of equals the first is taken.
struct Candidate {
  float slope = 0;
  float offset = 0;
  float gain = -1;
  int zero = 0;
  int order = -1;
};

__device__ float sum_of_lanes(const float (&lanes)[kLanes]) {
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kLanes; ++i) total = add(total, lanes[i]);
  return total;
}

__device__ Candidate through_zero(StagedGroup& group, float inverse_scale, int zero, int max_code) {
  const float lowest = static_cast<float>(-zero);
  const float highest = static_cast<float>(max_code - zero);
  float sum_qx[kLanes] = {}, sum_qq[kLanes] = {};
  group.for_each([&](int lane, float x, float h) {
    const float q = nearest_code(mul(x, inverse_scale), lowest, highest);
    const float hq = mul(h, q);
    sum_qx[lane] = add(sum_qx[lane], mul(hq, x));
    sum_qq[lane] = add(sum_qq[lane], mul(hq, q));
  });
  const float qx = sum_of_lanes(sum_qx);
  const float qq = sum_of_lanes(sum_qq);
  if (!(qq > 0.0f) || qx == 0.0f) return {};
  return {.slope = div(qx, qq), .gain = mul(div(qx, qq), qx), .zero = zero};
}

__device__ Candidate with_minimum(StagedGroup& group, float scale, float offset, int max_code) {
  const float inverse = div(1.0f, scale);
  const float highest = static_cast<float>(max_code);
  float sum_1[kLanes] = {}, sum_c[kLanes] = {}, sum_cc[kLanes] = {}, sum_x[kLanes] = {},
        sum_cx[kLanes] = {};
  group.for_each([&](int lane, float weight, float h) {
    const float x_ = sub(weight, offset);
    const float c_ = nearest_code(mul(x_, inverse), 0.0f, highest);
    const float hc = mul(h, c_);
    sum_1[lane] = add(sum_1[lane], h);
    sum_x[lane] = add(sum_x[lane], mul(h, x_));
    sum_c[lane] = add(sum_c[lane], hc);
    sum_cc[lane] = add(sum_cc[lane], mul(hc, c_));
    sum_cx[lane] = add(sum_cx[lane], mul(hc, x_));
  });
  const double total = sum_of_lanes(sum_1), c = sum_of_lanes(sum_c), x = sum_of_lanes(sum_x);
  const double cc = sum_of_lanes(sum_cc), cx = sum_of_lanes(sum_cx);
  const double variance = sub(cc, div(mul(c, c), total));
  const double covariance = sub(cx, div(mul(c, x), total));
  // Codes that are all the same say nothing about the scale.
  if (!(scale > 0.0f) || !(variance > mul(1e-6, cc)) || !(covariance > 0)) return {};
  const double slope = div(covariance, variance);
  const double mean = div(sub(x, mul(slope, c)), total);
  return {.slope = static_cast<float>(slope),
          .offset = add(offset, static_cast<float>(mean)),
          .gain = static_cast<float>(mul(covariance, slope))};
}

__device__ float error_of(StagedGroup& group, const GroupGrid& grid, int max_code) {
  const float highest = static_cast<float>(max_code);
  float total[kLanes] = {};
  group.for_each([&](int lane, float x, float h) {
    const float code = nearest_code(div(sub(x, grid.offset), grid.scale), 0.0f, highest);
    const float difference = sub(x, value_on_grid(code, grid.scale, grid.offset));
    total[lane] = add(total[lane], mul(mul(h, difference), difference));
  });
  return sum_of_lanes(total);
}

// The best of the warp's lanes, in every lane.
__device__ Candidate best_of_warp(Candidate mine) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Candidate other = {.slope = __shfl_xor_sync(kAllLanes, mine.slope, distance),
                             .offset = __shfl_xor_sync(kAllLanes, mine.offset, distance),
                             .gain = __shfl_xor_sync(kAllLanes, mine.gain, distance),
                             .zero = __shfl_xor_sync(kAllLanes, mine.zero, distance),
                             .order = __shfl_xor_sync(kAllLanes, mine.order, distance)};
    if (other.gain > mine.gain || (other.gain == mine.gain && other.order < mine.order))
      mine = other;
  }
  return mine;
}

// `best` or what beats it among evaluate(0), ..., evaluate(count - 1): a candidate a lane. Lanes
// without one repeat the last, since evaluating takes the whole warp.
template <typename Evaluate>
__device__ Candidate best_of(int count, Candidate best, Evaluate evaluate) {
  best.order = -1;
  for (int first = 0; first < count; first += kWarp) {
    const int order = min(first + lane_of_thread(), count - 1);
    Candidate candidate = evaluate(order);
    candidate.order = order;
    if (candidate.gain > best.gain) best = candidate;
  }
  return best_of_warp(best);
}

__device__ float nth_of_series(float first, float ratio, int n) {
  for (int i = 0; i < n; ++i) first = mul(first, ratio);
  return first;
}

// Both signs of the scale for every range, then full range of both signs.
__device__ float symmetric_inverse_scale(float full_range, int middle, const Ranges& ranges,
                                         int order) {
  if (order < 2 * kSymmetricSteps) {
    const float inverse = div(full_range, nth_of_series(ranges.widest, ranges.ratio, order / 2));
    return order % 2 == 0 ? -inverse : inverse;
  }
  if (order == 2 * kSymmetricSteps) return -full_range;
  return div(mul(full_range, static_cast<float>(middle - 1)), static_cast<float>(middle));
}

__device__ GroupGrid searched_symmetric(StagedGroup& group, const GroupRange& range,
                                        const Search& search) {
  const int middle = 1 << (search.options.bits - 1);
  const int max_code = 2 * middle - 1;
  const float full_range = div(static_cast<float>(middle), range.extreme);
  Candidate best = best_of(2 * kSymmetricSteps + 2, {}, [&](int order) {
    return through_zero(group, symmetric_inverse_scale(full_range, middle, search.ranges, order),
                        middle, max_code);
  });
  for (int round = 0; round < kPolishRounds; ++round) {
    const Candidate refitted = through_zero(group, div(1.0f, best.slope), middle, max_code);
    if (!(refitted.gain > best.gain)) break;
    best = refitted;
  }
  return grid_through_zero(best.slope, middle, search.options);
}

// A range narrower than the weights loses its lower end, its upper end, or some of both. Zero is
// always inside, since its code is the zero point.
__device__ GroupGrid searched_zero_point(StagedGroup& group, const GroupRange& range,
                                         const Search& search) {
  const GridOptions& options = search.options;
  const int max_code = (1 << options.bits) - 1;
  const float codes = static_cast<float>(max_code);
  const float low = smaller(range.lowest, 0.0f);
  const float high = larger(range.highest, 0.0f);
  const float widest = mul(search.ranges.widest, sub(div(high, codes), div(low, codes)));
  Candidate best =
      best_of(kZeroPointSteps * kZeroPointPlaces, {.zero = options.min_zero}, [&](int order) {
        const float scale = nth_of_series(widest, search.ranges.ratio, order / kZeroPointPlaces);
        const float keeps_low = div(-low, scale);
        const float keeps_high = sub(codes, div(high, scale));
        const float share =
            div(static_cast<float>(order % kZeroPointPlaces), float{kZeroPointPlaces - 1});
        const float zero = add(keeps_low, mul(share, sub(keeps_high, keeps_low)));
        return through_zero(group, div(1.0f, scale), bounded_zero(zero, options), max_code);
      });
  for (int round = 0; round < kPolishRounds; ++round) {
    const int first = max(best.zero - 1, options.min_zero);
    const int last = min(best.zero + 1, max_code);
    const Candidate refitted = best_of(last - first + 1, best, [&](int order) {
      return through_zero(group, div(1.0f, best.slope), first + order, max_code);
    });
    if (!(refitted.gain > best.gain)) break;
    best = refitted;
  }
  return grid_through_zero(best.slope, best.zero, options);
}

// search.trim[i] without an address, which would move a copy of it to local memory.
__device__ float trim_of(const Search& search, int i) {
  float trim = 0.0f;
#pragma unroll
  for (int k = 0; k < kTrims; ++k)
    if (k == i) trim = search.trim[k];
  return trim;
}

// Every pair of a lower and an upper end of the range, then scale and offset by least squares.
__device__ GroupGrid searched_minimum(StagedGroup& group, const GroupRange& range,
                                      const Search& search) {
  const int max_code = (1 << search.options.bits) - 1;
  const float codes = static_cast<float>(max_code);
  const float width = sub(range.highest, range.lowest);
  Candidate best = best_of(kTrims * kTrims, {}, [&](int order) {
    const float below = trim_of(search, order / kTrims);
    const float above = trim_of(search, order % kTrims);
    return with_minimum(group, div(mul(width, sub(sub(1.0f, below), above)), codes),
                        add(range.lowest, mul(below, width)), max_code);
  });
  for (int round = 0; round < kPolishRounds && best.gain >= 0.0f; ++round) {
    const Candidate refitted = with_minimum(group, best.slope, best.offset, max_code);
    if (!(refitted.gain > best.gain)) break;
    best = refitted;
  }
  if (best.gain < 0.0f) return covering_grid(range, search.rule, search.options);
  return {stored_scale(best.slope, search.options.storage),
          stored(best.offset, search.options.storage)};
}

// Rounding a scale to its precision may undo what the search found.
__device__ GroupGrid better_of(StagedGroup& group, GroupGrid searched, GroupGrid start,
                               int max_code) {
  const bool odd = lane_of_thread() % 2 == 1;
  const GroupGrid mine = {odd ? start.scale : searched.scale, odd ? start.offset : searched.offset};
  const float error = error_of(group, mine, max_code);
  const float searched_error = __shfl_sync(kAllLanes, error, 0);
  const float start_error = __shfl_sync(kAllLanes, error, 1);
  return searched_error < start_error ? searched : start;
}

template <OffsetKind kKind>
__global__ void __launch_bounds__(kWarp* kWarps) search_grids(Search search) {
  const Index grid_at = static_cast<Index>(blockIdx.x) * kWarps + warp_of_thread();
  if (grid_at >= search.grids) return;
  const Index first = grid_at % search.groups * search.group_size;
  const float* weights = search.weight_NK + grid_at / search.groups * search.columns + first;
  const GroupRange range = range_of(weights, search.group_size);
  GroupGrid grid = covering_grid(range, search.rule, search.options);
  const bool searches = search.rule == ScaleRule::kSearch || search.rule == ScaleRule::kBlockSearch;
  if (searches && range.extreme != 0.0f) {
    StagedGroup group(
        weights, search.importance_K == nullptr ? nullptr : search.importance_K + first,
        search.group_size, dynamic_shared<float>() + warp_of_thread() * StagedGroup::kSharedFloats);
    GroupGrid searched;
    if constexpr (kKind == OffsetKind::kMiddleCode)
      searched = searched_symmetric(group, range, search);
    else if constexpr (kKind == OffsetKind::kZeroPoint)
      searched = searched_zero_point(group, range, search);
    else
      searched = searched_minimum(group, range, search);
    grid = better_of(group, searched, grid, (1 << search.options.bits) - 1);
  }
  if (lane_of_thread() > 0) return;
  search.scales_NG[grid_at] = grid.scale;
  search.offsets_NG[grid_at] = grid.offset;
}

// ---- Launchers

using Kernel = void (*)(Search);

Kernel kernel_for(OffsetKind kind) {
  if (kind == OffsetKind::kMiddleCode) return search_grids<OffsetKind::kMiddleCode>;
  if (kind == OffsetKind::kZeroPoint) return search_grids<OffsetKind::kZeroPoint>;
  return search_grids<OffsetKind::kMinimum>;
}

void search_all(const Search& search, cudaStream_t stream) {
  const Index blocks = (search.grids + kWarps - 1) / kWarps;
  launch(kernel_for(search.options.offset_kind), dim3(static_cast<unsigned>(blocks)),
         dim3(kWarp * kWarps), kWarps * StagedGroup::kSharedFloats * sizeof(float), stream, search);
}

Ranges ranges_for(const ScaleSearchOptions& options) {
  const bool symmetric = options.offset_kind == OffsetKind::kMiddleCode;
  return ranges_to_try(options.bits, symmetric ? kSymmetricSteps : kZeroPointSteps);
}

}  // namespace

// ---- The operation

void scale_search(const ScaleSearch& task, std::span<const float> importance_K,
                  const Exec::Backend& backend) {
  if (task.weight_NK.empty()) return;
  const Session session(backend);
  const auto weight = DeviceMatrix<float>::from(task.weight_NK, session);
  const auto importance = upload(importance_K, session);
  DeviceMatrix<float> scales(task.scales_NG.rows(), task.scales_NG.cols());
  DeviceMatrix<float> offsets(scales.rows(), scales.cols());
  Search search = {.weight_NK = weight.data(),
                   .importance_K = importance_K.empty() ? nullptr : importance.data(),
                   .scales_NG = scales.data(),
                   .offsets_NG = offsets.data(),
                   .grids = scales.size(),
                   .columns = weight.cols(),
                   .groups = scales.cols(),
                   .group_size = static_cast<int>(task.group_size),
                   .rule = task.options.rule,
                   .options = {.bits = task.options.bits,
                               .min_zero = task.options.min_zero,
                               .offset_kind = task.options.offset_kind,
                               .storage = storage_of(task.options.precision)},
                   .ranges = ranges_for(task.options),
                   .trim = {}};
  std::copy(std::begin(kTrim), std::end(kTrim), search.trim);
  search_all(search, session.stream());
  scales.download(task.scales_NG, session);
  offsets.download(task.offsets_NG, session);
}

}  // namespace calque::cuda
