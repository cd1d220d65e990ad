// Coordinate descent over the codes and least-squares refits of scales and offsets. Reference:
// cpu/refine_grid.cpp, whose steps these are, for all rows at a time. The descent inside a block of
// columns is the reference's arithmetic, operation by operation; products of matrices sum in an
// order of their own.

#include <algorithm>
#include <numeric>

#include "calque/kernels/refine_grid.h"
#include "kernels/cuda/arithmetic.cuh"
#include "kernels/cuda/device.h"
#include "kernels/cuda/warp.cuh"
#include "kernels/kernel_table.h"

namespace calque::cuda {
namespace {

// ---- Kernels: a warp a row

// Invariant between steps: values are the dequantized codes, and residual = (weight - values) H,
// the negative gradient of half the loss.
struct Refinement {
  const float* weight_NK;
  const float* hessian_KK;
  float* scales_NG;
  float* offsets_NG;
  std::uint8_t* codes_NK;
  float* values_NK;
  float* residual_NK;
  float* moved_NU;      // the current unit's: values before it, then how far they moved
  float* moves_NB;      // the current block's or group's
  float* direction_NB;  // the current group's
  float* curved_NB;     // direction * H_gg
  Index rows, columns, groups, group_size, unit;
  int max_code;
  OffsetKind offset_kind;
  Storage storage;

  __device__ float value_of_code(Index row, Index k) const {
    const Index grid = row * groups + k / group_size;
    return value_on_grid(codes_NK[row * columns + k], scales_NG[grid], offsets_NG[grid]);
  }
};

// Values, and the errors that make the residual.
__global__ void __launch_bounds__(kWarp* kWarpsABlock)
    dequantize_row(Refinement task, float* errors_NK) {
  const Index row = row_of_warp();
  if (row >= task.rows) return;
  for (Index k = lane_of_thread(); k < task.columns; k += kWarp) {
    const Index at = row * task.columns + k;
    const float value = task.value_of_code(row, k);
    task.values_NK[at] = value;
    errors_NK[at] = sub(task.weight_NK[at], value);
  }
}

// Moves the codes of the columns [begin, begin + width): see cpu/coordinate_descent.h.
__global__ void __launch_bounds__(kWarp* kWarpsABlock)
    move_codes(Refinement task, Index begin, int width, Index unit_begin) {
  float* hessian = dynamic_shared<float>();
  load_triangle(task.hessian_KK + begin * task.columns + begin, task.columns, width, hessian);
  __syncthreads();
  const Index row = row_of_warp();
  if (row >= task.rows) return;

  const int lane = lane_of_thread();
  const float max_code = static_cast<float>(task.max_code);
  float value[kSlots] = {}, residual[kSlots] = {}, code[kSlots] = {}, move[kSlots] = {};
  float scale[kSlots] = {}, offset[kSlots] = {};
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int c = slot * kWarp + lane;
    if (c >= width) continue;
    const Index at = row * task.columns + begin + c;
    const Index grid = row * task.groups + (begin + c) / task.group_size;
    value[slot] = task.values_NK[at];
    residual[slot] = task.residual_NK[at];
    code[slot] = task.codes_NK[at];
    scale[slot] = task.scales_NG[grid];
    offset[slot] = task.offsets_NG[grid];
    task.moved_NU[row * task.unit + begin + c - unit_begin] = value[slot];
  }
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int owners = min(kWarp, width - slot * kWarp);
    for (int owner = 0; owner < owners; ++owner) {
      const int column = slot * kWarp + owner;
      const float* hessian_row = hessian + triangle_diagonal(column, width) - column;
      const float curvature = hessian_row[column];
      const float best = add(value[slot], div(residual[slot], curvature));
      const float nearest =
          nearest_code(position_on_grid(best, scale[slot], offset[slot]), 0.0f, max_code);
      const float target = value_on_grid(nearest, scale[slot], offset[slot]);
      const float step = sub(target, value[slot]);
      const bool better =
          sub(mul(mul(2.0f, step), residual[slot]), mul(mul(step, step), curvature)) > 0.0f;
      const float taken = __shfl_sync(kAllLanes, better ? step : 0.0f, owner);
      if (taken == 0.0f) continue;
      if (lane == owner) {
        value[slot] = target;
        code[slot] = nearest;
        move[slot] = taken;
      }
#pragma unroll
      for (int later = slot; later < kSlots; ++later) {
        const int c = later * kWarp + lane;
        if (c > column && c < width)
          residual[later] = sub(residual[later], mul(taken, hessian_row[c]));
      }
    }
  }
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int c = slot * kWarp + lane;
    if (c >= width) continue;
    const Index at = row * task.columns + begin + c;
    task.values_NK[at] = value[slot];
    task.codes_NK[at] = static_cast<std::uint8_t>(code[slot]);
    task.moves_NB[row * width + c] = move[slot];
  }
}

__device__ float zero_point(const Refinement& task, float scale, float offset) {
  if (task.offset_kind == OffsetKind::kMinimum || scale == 0.0f) return 0.0f;
  return rintf(div(-offset, scale));
}

// The part that a refit moves, and the direction in which that moves the values of a group.
enum class Along { kScale, kOffset };

template <Along kAlong>
__global__ void __launch_bounds__(kWarp* kWarpsABlock) direction_row(Refinement task, Index group) {
  const Index row = row_of_warp();
  if (row >= task.rows) return;
  const Index grid = row * task.groups + group;
  const float zero = zero_point(task, task.scales_NG[grid], task.offsets_NG[grid]);
  const std::uint8_t* codes = task.codes_NK + row * task.columns + group * task.group_size;
  float* direction = task.direction_NB + row * task.group_size;
  for (Index k = lane_of_thread(); k < task.group_size; k += kWarp)
    direction[k] = kAlong == Along::kScale ? sub(codes[k], zero) : 1.0f;
}

struct GridOfRow {
  float scale, offset;
};

__device__ GridOfRow with_scale(const Refinement& task, const GridOfRow& old, float scale) {
  // Crossing zero would put every code on the wrong side.
  if (mul(scale, old.scale) <= 0.0f) return old;
  const float stored = stored_scale(scale, task.storage);
  if (task.offset_kind == OffsetKind::kMinimum) return {stored, old.offset};
  return {stored, mul(-stored, zero_point(task, old.scale, old.offset))};
}

template <Along kAlong>
__device__ GridOfRow moved_grid(const Refinement& task, const GridOfRow& old, float step) {
  if constexpr (kAlong == Along::kScale) return with_scale(task, old, add(old.scale, step));
  return {old.scale, stored(add(old.offset, step), task.storage)};
}

__device__ double dot(const float* a, const float* b, Index count) {
  double sum = 0;
  for (Index k = lane_of_thread(); k < count; k += kWarp)
    sum = add(sum, mul(static_cast<double>(a[k]), static_cast<double>(b[k])));
  return warp_sum(sum);
}

// Moves a group's values along their direction d by (d . R) / (d . H d), as far as
// that can be stored, where it lowers the loss.
template <Along kAlong>
__global__ void __launch_bounds__(kWarp* kWarpsABlock) move_along(Refinement task, Index group) {
  const Index row = row_of_warp();
  if (row >= task.rows) return;
  const Index first = row * task.columns + group * task.group_size;
  const float* direction = task.direction_NB + row * task.group_size;
  const double slope = dot(direction, task.residual_NK + first, task.group_size);
  const double curvature = dot(direction, task.curved_NB + row * task.group_size, task.group_size);

  const Index at = row * task.groups + group;
  const GridOfRow old = {task.scales_NG[at], task.offsets_NG[at]};
  GridOfRow grid = old;
  if (curvature > 0)
    grid = moved_grid<kAlong>(task, old, static_cast<float>(div(slope, curvature)));
  const double step = kAlong == Along::kScale
                          ? sub(static_cast<double>(grid.scale), static_cast<double>(old.scale))
                          : sub(static_cast<double>(grid.offset), static_cast<double>(old.offset));
  const bool better = sub(mul(mul(2.0, step), slope), mul(mul(step, step), curvature)) > 0.0;
  float* moves = task.moves_NB + row * task.group_size;
  for (Index k = lane_of_thread(); k < task.group_size; k += kWarp) {
    float move = 0.0f;
    if (better) {
      float& value = task.values_NK[first + k];
      const float moved = value_on_grid(task.codes_NK[first + k], grid.scale, grid.offset);
      move = sub(moved, value);
      value = moved;
    }
    moves[k] = move;
  }
  __syncwarp();  // every lane has read the old grid
  if (better && lane_of_thread() == 0) {
    task.scales_NG[at] = grid.scale;
    task.offsets_NG[at] = grid.offset;
  }
}

// Computes the way that the unit's columns moved since they were remembered.
__global__ void __launch_bounds__(kWarp* kWarpsABlock)
    measure_moves(Refinement task, Index begin, Index width) {
  const Index row = row_of_warp();
  if (row >= task.rows) return;
  float* moved = task.moved_NU + row * task.unit;
  const float* values = task.values_NK + row * task.columns + begin;
  for (Index k = lane_of_thread(); k < width; k += kWarp) moved[k] = sub(values[k], moved[k]);
}

__global__ void __launch_bounds__(kWarp* kWarpsABlock)
    loss_of_row(Refinement task, double* losses) {
  const Index row = row_of_warp();
  if (row >= task.rows) return;
  double sum = 0;
  for (Index k = lane_of_thread(); k < task.columns; k += kWarp) {
    const Index at = row * task.columns + k;
    const float error = sub(task.weight_NK[at], task.values_NK[at]);
    sum = add(sum, mul(static_cast<double>(error), static_cast<double>(task.residual_NK[at])));
  }
  sum = warp_sum(sum);
  if (lane_of_thread() == 0) losses[row] = sum;
}

// ---- Launchers

class Passes {
 public:
  Passes(const Refinement& task, const Session& session)
      : task_(task), stream_(session.stream()), libraries_(session.libraries()) {}

  // errors_NK: room for N * K numbers.
  void start(float* errors_NK) {
    launch_rows(dequantize_row, 0, errors_NK);
    libraries_.multiply(1.0f, {errors_NK, task_.rows, task_.columns, task_.columns},
                        hessian(0, task_.columns, 0, task_.columns), 0.0f,
                        residual(0, task_.columns));
  }

  // A unit is as many whole groups as fill a block, or one large group. While it is worked on, the
  // residual is kept up to date inside it only; the rest follows in one product.
  void run() {
    for (Index begin = 0; begin < task_.columns; begin += task_.unit)
      visit_unit(begin, std::min(task_.columns, begin + task_.unit));
  }

  void losses(double* losses_N) { launch_rows(loss_of_row, 0, losses_N); }

 private:
  void visit_unit(Index begin, Index end) {
    for (Index b = begin; b < end; b += kBlockColumns)
      visit_block(b, std::min<Index>(end, b + kBlockColumns), begin, end);
    for (Index g = begin / task_.group_size; g < end / task_.group_size; ++g) {
      refit(g, direction_row<Along::kScale>, move_along<Along::kScale>, begin, end);
      if (task_.offset_kind == OffsetKind::kMinimum)
        refit(g, direction_row<Along::kOffset>, move_along<Along::kOffset>, begin, end);
    }
    launch_rows(measure_moves, 0, begin, end - begin);
    const DeviceView<const float> moved = {task_.moved_NU, task_.rows, end - begin, task_.unit};
    subtract(moved, begin, 0, begin);
    subtract(moved, begin, end, task_.columns);
  }

  void visit_block(Index begin, Index end, Index unit_begin, Index unit_end) {
    const int width = static_cast<int>(end - begin);
    launch_rows(move_codes, triangle_bytes(width), begin, width, unit_begin);
    subtract({task_.moves_NB, task_.rows, width, width}, begin, unit_begin, unit_end);
  }

  using Kernel = void (*)(Refinement, Index);
  void refit(Index group, Kernel find_direction, Kernel move, Index unit_begin, Index unit_end) {
    const Index begin = group * task_.group_size;
    const Index size = task_.group_size;
    launch_rows(find_direction, 0, group);
    libraries_.multiply(1.0f, {task_.direction_NB, task_.rows, size, size},
                        hessian(begin, begin + size, begin, begin + size), 0.0f,
                        {task_.curved_NB, task_.rows, size, size});
    launch_rows(move, 0, group);
    subtract({task_.moves_NB, task_.rows, size, size}, begin, unit_begin, unit_end);
  }

  // residual[:, first..last) -= moves H[begin.., first..last).
  void subtract(DeviceView<const float> moves, Index begin, Index first, Index last) {
    if (first == last) return;
    libraries_.multiply(-1.0f, moves, hessian(begin, begin + moves.cols, first, last), 1.0f,
                        residual(first, last));
  }

  DeviceView<const float> hessian(Index row, Index row_end, Index col, Index col_end) const {
    return {task_.hessian_KK + row * task_.columns + col, row_end - row, col_end - col,
            task_.columns};
  }
  DeviceView<float> residual(Index first, Index last) const {
    return {task_.residual_NK + first, task_.rows, last - first, task_.columns};
  }
  template <typename Kernel, typename... Arguments>
  void launch_rows(Kernel kernel, std::size_t shared_bytes, Arguments... arguments) {
    launch(kernel, blocks_for_rows(task_.rows), dim3(kWarp * kWarpsABlock), shared_bytes, stream_,
           task_, arguments...);
  }

  Refinement task_;
  cudaStream_t stream_;
  Libraries& libraries_;
};

}  // namespace

// ---- The operation

double refine_grid(const RefineGrid& task, const Exec::Backend& backend) {
  if (task.weight_NK.empty()) return 0;
  const Index rows = task.weight_NK.rows();
  const Index columns = task.weight_NK.cols();
  const Index group_size = task.group_size;
  const Index unit = std::max<Index>(group_size, kBlockColumns / group_size * group_size);
  const Index widest = std::max<Index>(group_size, kBlockColumns);
  const Session session(backend);
  const auto weight = DeviceMatrix<float>::from(task.weight_NK, session);
  const auto hessian = DeviceMatrix<float>::from(task.hessian_KK, session);
  auto scales = DeviceMatrix<float>::from(task.scales_NG, session);
  auto offsets = DeviceMatrix<float>::from(task.offsets_NG, session);
  auto codes = DeviceMatrix<std::uint8_t>::from(task.codes_NK, session);
  DeviceMatrix<float> values(rows, columns), residual(rows, columns), moved(rows, unit);
  DeviceMatrix<float> moves(rows, widest), direction(rows, group_size), curved(rows, group_size);
  DeviceMatrix<double> losses(1, rows);
  Passes passes({.weight_NK = weight.data(),
                 .hessian_KK = hessian.data(),
                 .scales_NG = scales.data(),
                 .offsets_NG = offsets.data(),
                 .codes_NK = codes.data(),
                 .values_NK = values.data(),
                 .residual_NK = residual.data(),
                 .moved_NU = moved.data(),
                 .moves_NB = moves.data(),
                 .direction_NB = direction.data(),
                 .curved_NB = curved.data(),
                 .rows = rows,
                 .columns = columns,
                 .groups = scales.cols(),
                 .group_size = group_size,
                 .unit = unit,
                 .max_code = task.options.max_code,
                 .offset_kind = task.options.offset_kind,
                 .storage = storage_of(task.options.precision)},
                session);
  {
    DeviceMatrix<float> errors(rows, columns);
    passes.start(errors.data());
  }
  for (int pass = 0; pass < task.options.passes; ++pass) passes.run();
  passes.losses(losses.data());
  scales.download(task.scales_NG, session);
  offsets.download(task.offsets_NG, session);
  codes.download(task.codes_NK, session);
  Matrix<double> row_losses(1, rows);
  losses.download(row_losses, session);
  return std::accumulate(row_losses.data(), row_losses.data() + rows, 0.0);
}

}  // namespace calque::cuda
