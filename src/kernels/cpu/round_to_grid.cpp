#include <algorithm>
#include <vector>

#include "kernels/cpu/float_codes.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

// Neighbouring columns of the same group.
struct Run {
  Index begin, end;
  std::int32_t group;
};

std::vector<Run> runs_of(std::span<const std::int32_t> group_of_column_K) {
  std::vector<Run> runs;
  for (Index k = 0; k < static_cast<Index>(group_of_column_K.size()); ++k) {
    const std::int32_t group = group_of_column_K[k];
    if (runs.empty() || runs.back().group != group) runs.push_back({k, k, group});
    runs.back().end = k + 1;
  }
  return runs;
}

void round_run(const float* weight, const Run& run, float scale, float offset, int max_code,
               std::uint8_t* codes) {
  if (scale == 0.0f) {
    std::fill(codes + run.begin, codes + run.end, std::uint8_t{0});
    return;
  }
  constexpr float kOnes = 0x1.8p23f;  // see round_even in calque/core/simd.h
  const float highest = static_cast<float>(max_code);
  for (Index k = run.begin; k < run.end; ++k) {
    float code = (weight[k] - offset) / scale;
    code = code > 0.0f ? code : 0.0f;
    code = code < highest ? code : highest;
    codes[k] = static_cast<std::uint8_t>(static_cast<int>((code + kOnes) - kOnes));
  }
}

void round_float_run(const float* weight, const Run& run, float scale, const FloatCodes& numbers,
                     std::uint8_t* codes) {
  if (scale == 0.0f) {
    std::fill(codes + run.begin, codes + run.end, std::uint8_t{0});
    return;
  }
  for (Index k = run.begin; k < run.end; k += kLanes) {
    const Index count = std::min<Index>(kLanes, run.end - k);
    const Floats code = numbers.nearest(load_part(weight + k, count, 0.0f) / scale).code;
    for (Index lane = 0; lane < count; ++lane)
      codes[k + lane] = static_cast<std::uint8_t>(static_cast<int>(code[lane]));
  }
}

}  // namespace

void round_to_grid(MatrixView<const float> weight_NK, const GridView& grid,
                   MatrixView<std::uint8_t> codes_NK, const Exec::Backend& backend) {
  const std::vector<Run> runs = runs_of(grid.group_of_column_K);
  if (grid.number) {
    const FloatCodes numbers(*grid.number);
    return backend.workers.for_each(weight_NK.rows(), [&](Index n) {
      for (const Run& run : runs)
        round_float_run(weight_NK.row(n), run, grid.scales_NG(n, run.group), numbers,
                        codes_NK.row(n));
    });
  }
  backend.workers.for_each(weight_NK.rows(), [&](Index n) {
    for (const Run& run : runs)
      round_run(weight_NK.row(n), run, grid.scales_NG(n, run.group), grid.offsets_NG(n, run.group),
                grid.max_code, codes_NK.row(n));
  });
}

}  // namespace calque::cpu
