#include "calque/quant/column_order.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace calque::quant {
namespace {

template <typename T>
void reorder(std::vector<T>& values_K, std::span<const Index> order_K) {
  if (values_K.empty()) return;
  const std::vector<T> before = values_K;
  for (std::size_t k = 0; k < order_K.size(); ++k)
    values_K[k] = before[static_cast<std::size_t>(order_K[k])];
}

}  // namespace

Matrix<float> reordered(Matrix<float> values_NK, std::span<const Index> order_K) {
  std::vector<float> row(order_K.size());
  for (Index n = 0; n < values_NK.rows() && !row.empty(); ++n) {
    const std::span<float> values = values_NK.view().row_span(n);
    std::copy(values.begin(), values.end(), row.begin());
    for (std::size_t k = 0; k < row.size(); ++k)
      values[k] = row[static_cast<std::size_t>(order_K[k])];
  }
  return values_NK;
}

Matrix<float> in_own_order(Matrix<float> values_NK, std::span<const Index> order_K) {
  std::vector<float> row(order_K.size());
  for (Index n = 0; n < values_NK.rows() && !row.empty(); ++n) {
    const std::span<float> values = values_NK.view().row_span(n);
    std::copy(values.begin(), values.end(), row.begin());
    for (std::size_t k = 0; k < row.size(); ++k)
      values[static_cast<std::size_t>(order_K[k])] = row[k];
  }
  return values_NK;
}

// Only the upper triangle of a Gram matrix is known.
InputStats reordered(InputStats stats, std::span<const Index> order_K) {
  if (order_K.empty()) return stats;
  reorder(stats.magnitude_K, order_K);
  reorder(stats.largest_K, order_K);
  reorder(stats.given_mean_square_K, order_K);
  if (stats.gram_KK.empty()) return stats;
  const Index size = stats.features();
  auto gram_KK = Matrix<float>::uninitialized(size, size);
  for (Index i = 0; i < size; ++i)
    for (Index j = i; j < size; ++j) {
      const auto [first, second] =
          std::minmax(order_K[static_cast<std::size_t>(i)], order_K[static_cast<std::size_t>(j)]);
      gram_KK(i, j) = stats.gram_KK(first, second);
    }
  stats.gram_KK = std::move(gram_KK);
  return stats;
}

}  // namespace calque::quant
