// Stands in for cuBLAS and cuSOLVER: the definitions, in plain loops.

#include "kernels/cuda/libraries.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "calque/core/error.h"

namespace calque::cuda {
namespace {

float element(DType dtype, const void* data, Index index) {
  float value = 0;
  const auto* const bytes = static_cast<const std::byte*>(data);
  convert_to_float(bytes + static_cast<std::size_t>(index) * size_of(dtype), dtype, 1, &value);
  return value;
}

std::vector<float> widened(DType dtype, DeviceView<const void> view) {
  std::vector<float> values;
  for (Index r = 0; r < view.rows; ++r)
    for (Index c = 0; c < view.cols; ++c)
      values.push_back(element(dtype, view.data, r * view.stride + c));
  return values;
}

}  // namespace

struct Libraries::Handles {};

Libraries::Libraries(cudaStream_t) {}
Libraries::~Libraries() = default;

void Libraries::multiply(float alpha, DeviceView<const float> a_MK, DeviceView<const float> b_KN,
                         float beta, DeviceView<float> c_MN) {
  for (Index m = 0; m < c_MN.rows; ++m) {
    std::vector<float> sums(static_cast<std::size_t>(c_MN.cols));
    for (Index k = 0; k < a_MK.cols; ++k) {
      const float factor = a_MK.data[m * a_MK.stride + k];
      const float* const row = b_KN.data + k * b_KN.stride;
      for (Index n = 0; n < c_MN.cols; ++n) sums[n] = std::fma(factor, row[n], sums[n]);
    }
    float* const result = c_MN.data + m * c_MN.stride;
    for (Index n = 0; n < c_MN.cols; ++n)  // as BLAS: with beta = 0 what is there is not read
      result[n] = beta == 0.0f ? alpha * sums[n] : std::fma(beta, result[n], alpha * sums[n]);
  }
}

void Libraries::add_transposed_product(DType dtype, DeviceView<const void> a_TM,
                                       DeviceView<const void> b_TN, DeviceView<float> c_MN) {
  const std::vector<float> a = widened(dtype, a_TM), b = widened(dtype, b_TN);
  std::vector<float> sums(static_cast<std::size_t>(c_MN.cols));
  for (Index m = 0; m < c_MN.rows; ++m) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (Index t = 0; t < a_TM.rows; ++t) {
      const float factor = a[t * a_TM.cols + m];
      const float* const row = b.data() + t * b_TN.cols;
      for (Index n = 0; n < c_MN.cols; ++n) sums[n] = std::fma(factor, row[n], sums[n]);
    }
    for (Index n = 0; n < c_MN.cols; ++n) c_MN.data[m * c_MN.stride + n] += sums[n];
  }
}

bool Libraries::factor_lower(DeviceView<float> a_KK) {
  const auto at = [&](Index i, Index j) -> float& { return a_KK.data[i * a_KK.stride + j]; };
  for (Index j = 0; j < a_KK.rows; ++j) {
    for (Index i = j; i < a_KK.rows; ++i)
      for (Index k = 0; k < j; ++k) at(i, j) -= at(i, k) * at(j, k);
    if (!(at(j, j) > 0.0f)) return false;
    const float pivot = std::sqrt(at(j, j));
    for (Index i = j; i < a_KK.rows; ++i) at(i, j) /= pivot;
  }
  return true;
}

// Row i of X = L^-1: X_i = (e_i - sum_{k<i} L_ik X_k) / L_ii, where the rows above are already X.
void Libraries::invert_lower(DeviceView<float> l_KK) {
  for (Index i = 0; i < l_KK.rows; ++i) {
    float* const row = l_KK.data + i * l_KK.stride;
    std::vector<float> sums(static_cast<std::size_t>(i));
    for (Index k = 0; k < i; ++k)
      for (Index j = 0; j <= k; ++j)
        sums[j] = std::fma(row[k], l_KK.data[k * l_KK.stride + j], sums[j]);
    for (Index j = 0; j < i; ++j) row[j] = -sums[j] / row[i];
    row[i] = 1.0f / row[i];
  }
}

}  // namespace calque::cuda
