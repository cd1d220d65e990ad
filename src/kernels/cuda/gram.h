#pragma once

#include "kernels/cuda/device.h"

namespace calque::cuda {

// The parts of a Gram matrix's sums, queued on the session's stream. T: float, BFloat16 or Half.

// A copy without gaps, in which rows with an element that is not finite are zeros: they add nothing
// to any sum. Such rows are counted. `target_TK` may be the source if that has no gaps.
template <typename T>
void copy_finite_rows(DeviceView<const T> source_TK, T* target_TK,
                      unsigned long long* nonfinite_rows, const Session& session);

// Adds sum |x| of each column, in double.
template <typename T>
void add_magnitudes(DeviceView<const T> rows_TK, double* magnitude_K, const Session& session);

// Adds rows^T rows to the upper triangle of `gram_KK` (no gaps), with fp32 sums over the rows; what
// is below the diagonal is undefined afterwards.
template <typename T>
void add_products(DeviceView<const T> rows_TK, DeviceView<float> gram_KK, const Session& session);

// Zeros below the diagonal.
void clear_lower(DeviceView<float> gram_KK, const Session& session);

}  // namespace calque::cuda
