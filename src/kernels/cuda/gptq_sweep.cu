// GPTQ's column loop. Reference: cpu/gptq_sweep.cpp. Inside a block of columns the arithmetic is
// the reference's, operation by operation, so codes are the same bits there; the product that
// updates the columns after a block sums in an order of its own.

#include <algorithm>
#include <numeric>
#include <vector>

#include "calque/kernels/gptq_sweep.h"
#include "kernels/cuda/arithmetic.cuh"
#include "kernels/cuda/device.h"
#include "kernels/cuda/warp.cuh"
#include "kernels/kernel_table.h"

namespace calque::cuda {
namespace {

// ---- Kernels

struct Sweep {
  float* weight_NK;
  const float* factor_KK;
  const float* scales_NG;
  const float* offsets_NG;
  const std::int32_t* group_of_column_K;
  const float* table;  // max_code + 1 levels; null: codes stand for themselves
  std::uint8_t* codes_NK;
  float* errors_NB;
  double* losses_N;
  Index rows, columns, groups, error_stride;
  int max_code;
};

// A lane's columns of its warp's row.
struct Columns {
  float weight[kSlots], scale[kSlots], offset[kSlots], code[kSlots], error[kSlots];
};

__device__ Columns load_columns(const Sweep& sweep, Index row, Index begin, int width) {
  Columns columns;
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int c = slot * kWarp + lane_of_thread();
    columns.weight[slot] = columns.scale[slot] = columns.offset[slot] = 0.0f;
    columns.code[slot] = columns.error[slot] = 0.0f;
    if (c >= width) continue;
    const Index grid = row * sweep.groups + sweep.group_of_column_K[begin + c];
    columns.weight[slot] = sweep.weight_NK[row * sweep.columns + begin + c];
    columns.scale[slot] = sweep.scales_NG[grid];
    columns.offset[slot] = sweep.offsets_NG[grid];
  }
  return columns;
}

__device__ void store_columns(const Columns& columns, const Sweep& sweep, Index row, Index begin,
                              int width) {
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int c = slot * kWarp + lane_of_thread();
    if (c >= width) continue;
    const Index at = row * sweep.columns + begin + c;
    sweep.weight_NK[at] = columns.weight[slot];
    sweep.codes_NK[at] = static_cast<std::uint8_t>(columns.code[slot]);
    sweep.errors_NB[row * sweep.error_stride + c] = columns.error[slot];
  }
}

// The grids' levels in shared memory, and the middles between them: bounds[i] below level i.
struct Levels {
  float* levels;
  float* bounds;
  int count;
};

__device__ void load_levels(const Sweep& sweep, Levels levels) {
  for (int i = static_cast<int>(threadIdx.x); i < levels.count; i += kWarp * kWarpsABlock) {
    levels.levels[i] = sweep.table[i];
    levels.bounds[i] = i == 0 ? 0.0f : mul(0.5f, add(sweep.table[i - 1], sweep.table[i]));
  }
}

// In the middle between two levels the upper one wins.
__device__ int nearest_level(float position, Levels levels) {
  int code = 0;
  for (int step = 128; step > 0; step /= 2)
    if (code + step < levels.count && position >= levels.bounds[code + step]) code += step;
  return code;
}

struct Rounded {
  float code, value;
};

template <bool kTable>
__device__ Rounded nearest(float weight, float scale, float offset, int max_code, Levels levels) {
  const float position = position_on_grid(weight, scale, offset);
  if constexpr (kTable) {
    const int code = nearest_level(position, levels);
    return {static_cast<float>(code), value_on_grid(levels.levels[code], scale, offset)};
  } else {
    const float code = nearest_code(position, 0.0f, static_cast<float>(max_code));
    return {code, value_on_grid(code, scale, offset)};
  }
}

// A warp a row. The lane that holds a column rounds it; its error then moves the columns after it.
template <bool kTable>
__global__ void __launch_bounds__(kWarp* kWarpsABlock)
    sweep_block(Sweep sweep, Index begin, int width) {
  float* factor = dynamic_shared<float>();
  const int levels_at = triangle_diagonal(width, width);
  const Levels levels = {factor + levels_at, factor + levels_at + sweep.max_code + 1,
                         sweep.max_code + 1};
  load_triangle(sweep.factor_KK + begin * sweep.columns + begin, sweep.columns, width, factor);
  if constexpr (kTable) load_levels(sweep, levels);
  __syncthreads();
  const Index row = row_of_warp();
  if (row >= sweep.rows) return;

  const int lane = lane_of_thread();
  Columns columns = load_columns(sweep, row, begin, width);
  float squares = 0.0f;
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int owners = min(kWarp, width - slot * kWarp);
    for (int owner = 0; owner < owners; ++owner) {
      const int column = slot * kWarp + owner;
      const float* factor_row = factor + triangle_diagonal(column, width) - column;
      const Rounded rounded = nearest<kTable>(columns.weight[slot], columns.scale[slot],
                                              columns.offset[slot], sweep.max_code, levels);
      const float error = __shfl_sync(
          kAllLanes, div(sub(columns.weight[slot], rounded.value), factor_row[column]), owner);
      squares = add(squares, mul(error, error));
      if (lane == owner) {
        columns.weight[slot] = rounded.value;
        columns.code[slot] = rounded.code;
        columns.error[slot] = error;
      }
#pragma unroll
      for (int later = slot; later < kSlots; ++later) {
        const int c = later * kWarp + lane;
        if (c > column && c < width)
          columns.weight[later] = sub(columns.weight[later], mul(error, factor_row[c]));
      }
    }
  }
  store_columns(columns, sweep, row, begin, width);
  if (lane == 0) sweep.losses_N[row] = add(sweep.losses_N[row], static_cast<double>(squares));
}

// ---- Launchers

void sweep_columns(const Sweep& sweep, Index begin, int width, cudaStream_t stream) {
  const std::size_t levels = sweep.table == nullptr ? 0 : 2 * sizeof(float) * (sweep.max_code + 1);
  const auto kernel = sweep.table == nullptr ? sweep_block<false> : sweep_block<true>;
  launch(kernel, blocks_for_rows(sweep.rows), dim3(kWarp * kWarpsABlock),
         triangle_bytes(width) + levels, stream, sweep, begin, width);
}

// weight[:, end..] -= errors * factor[begin..end, end..].
void update_rest(const Sweep& sweep, Index begin, Index width, Libraries& libraries) {
  const Index end = begin + width;
  const Index rest = sweep.columns - end;
  if (rest == 0) return;
  libraries.multiply(-1.0f, {sweep.errors_NB, sweep.rows, width, sweep.error_stride},
                     {sweep.factor_KK + begin * sweep.columns + end, width, rest, sweep.columns},
                     1.0f, {sweep.weight_NK + end, sweep.rows, rest, sweep.columns});
}

}  // namespace

// ---- The operation

double gptq_sweep(const GptqSweep& task, const Exec::Backend& backend) {
  if (task.weight_NK.empty()) return 0;
  const Index rows = task.weight_NK.rows();
  const Index columns = task.weight_NK.cols();
  const Index block = std::min<Index>(task.block_size, kBlockColumns);
  const Session session(backend);
  auto weight = DeviceMatrix<float>::from(task.weight_NK, session);
  const auto factor = DeviceMatrix<float>::from(task.inverse_factor_KK, session);
  const auto scales = DeviceMatrix<float>::from(task.grid.scales_NG, session);
  const auto offsets = DeviceMatrix<float>::from(task.grid.offsets_NG, session);
  const auto groups = upload(task.grid.group_of_column_K, session);
  const auto levels = upload(task.grid.table, session);
  DeviceMatrix<std::uint8_t> codes(rows, columns);
  DeviceMatrix<float> errors(rows, block);
  DeviceMatrix<double> losses(1, rows);
  losses.fill_zero(session);
  const Sweep sweep = {.weight_NK = weight.data(),
                       .factor_KK = factor.data(),
                       .scales_NG = scales.data(),
                       .offsets_NG = offsets.data(),
                       .group_of_column_K = groups.data(),
                       .table = task.grid.table.empty() ? nullptr : levels.data(),
                       .codes_NK = codes.data(),
                       .errors_NB = errors.data(),
                       .losses_N = losses.data(),
                       .rows = rows,
                       .columns = columns,
                       .groups = scales.cols(),
                       .error_stride = block,
                       .max_code = task.grid.max_code};
  for (Index begin = 0; begin < columns; begin += block) {
    const Index width = std::min(block, columns - begin);
    sweep_columns(sweep, begin, static_cast<int>(width), session.stream());
    update_rest(sweep, begin, width, session.libraries());
  }
  weight.download(task.weight_NK, session);
  codes.download(task.codes_NK, session);
  Matrix<double> row_losses(1, rows);
  losses.download(row_losses, session);
  return std::accumulate(row_losses.data(), row_losses.data() + rows, 0.0);
}

}  // namespace calque::cuda
