// The nearest code of every weight on its group's grid. Reference: cpu/round_to_grid.cpp, whose
// codes these are, bit for bit.

#include "calque/kernels/round_to_grid.h"
#include "kernels/cuda/arithmetic.cuh"
#include "kernels/cuda/device.h"
#include "kernels/kernel_table.h"

namespace calque::cuda {
namespace {

// ---- Kernels

constexpr int kThreads = 256;

struct Rounding {
  const float* weight_NK;
  const float* scales_NG;
  const float* offsets_NG;
  const std::int32_t* group_of_column_K;
  std::uint8_t* codes_NK;
  Index columns, groups;
  float max_code;
};

// A block a row.
__global__ void __launch_bounds__(kThreads) round_row(Rounding task) {
  const Index row = blockIdx.x;
  const float* weight = task.weight_NK + row * task.columns;
  const float* scales = task.scales_NG + row * task.groups;
  const float* offsets = task.offsets_NG + row * task.groups;
  std::uint8_t* codes = task.codes_NK + row * task.columns;
  for (Index k = threadIdx.x; k < task.columns; k += kThreads) {
    const std::int32_t group = task.group_of_column_K[k];
    const float position = position_on_grid(weight[k], scales[group], offsets[group]);
    codes[k] = static_cast<std::uint8_t>(nearest_code(position, 0.0f, task.max_code));
  }
}

// ---- Launchers

void round_rows(const Rounding& task, Index rows, cudaStream_t stream) {
  launch(round_row, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, stream, task);
}

}  // namespace

// ---- The operation

void round_to_grid(MatrixView<const float> weight_NK, const GridView& grid,
                   MatrixView<std::uint8_t> codes_NK, const Exec::Backend& backend) {
  if (weight_NK.empty()) return;
  const Session session(backend);
  const auto weight = DeviceMatrix<float>::from(weight_NK, session);
  const auto scales = DeviceMatrix<float>::from(grid.scales_NG, session);
  const auto offsets = DeviceMatrix<float>::from(grid.offsets_NG, session);
  const auto groups = upload(grid.group_of_column_K, session);
  DeviceMatrix<std::uint8_t> codes(weight.rows(), weight.cols());
  const Rounding task = {.weight_NK = weight.data(),
                         .scales_NG = scales.data(),
                         .offsets_NG = offsets.data(),
                         .group_of_column_K = groups.data(),
                         .codes_NK = codes.data(),
                         .columns = weight.cols(),
                         .groups = scales.cols(),
                         .max_code = static_cast<float>(grid.max_code)};
  round_rows(task, weight.rows(), session.stream());
  codes.download(codes_NK, session);
}

}  // namespace calque::cuda
