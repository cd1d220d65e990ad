#include "quant/column_order.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace calque::quant {

Order stored_order(std::size_t columns) {
  Order order(columns);
  std::iota(order.begin(), order.end(), Index{0});
  return order;
}

Order falling_order(const std::vector<float>& diagonal_K) {
  Order order = stored_order(diagonal_K.size());
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return diagonal_K[static_cast<std::size_t>(a)] > diagonal_K[static_cast<std::size_t>(b)];
  });
  return order;
}

Matrix<float> columns_in_order(MatrixView<const float> weight_NK, const Order& order) {
  auto ordered = Matrix<float>::uninitialized(weight_NK.rows(), weight_NK.cols());
  for (Index n = 0; n < weight_NK.rows(); ++n) {
    const float* source = weight_NK.row(n);
    float* target = ordered.row(n);
    for (std::size_t i = 0; i < order.size(); ++i) target[i] = source[order[i]];
  }
  return ordered;
}

std::vector<float> in_order(const std::vector<float>& values_K, const Order& order) {
  std::vector<float> ordered;
  if (values_K.empty()) return ordered;
  for (const Index k : order) ordered.push_back(values_K[static_cast<std::size_t>(k)]);
  return ordered;
}

void put_square_in_order(MatrixView<float> matrix_KK, const Order& order) {
  const Index size = matrix_KK.rows();
  std::vector<float> kept(static_cast<std::size_t>(size));
  for (Index i = 0; i < size; ++i) {
    float* row = matrix_KK.row(i);
    std::copy_n(row, size, kept.begin());
    for (std::size_t j = 0; j < order.size(); ++j)
      row[j] = kept[static_cast<std::size_t>(order[j])];
  }
  // Row i becomes row order[i], round each cycle of the permutation.
  std::vector<char> done(order.size());
  for (Index start = 0; start < size; ++start) {
    if (done[static_cast<std::size_t>(start)]) continue;
    std::copy_n(matrix_KK.row(start), size, kept.begin());
    Index i = start;
    for (Index next = order[i]; next != start; i = next, next = order[i]) {
      std::copy_n(matrix_KK.row(next), size, matrix_KK.row(i));
      done[static_cast<std::size_t>(i)] = 1;
    }
    std::copy_n(kept.begin(), size, matrix_KK.row(i));
    done[static_cast<std::size_t>(i)] = 1;
  }
}

Matrix<float> upper_in_order(MatrixView<const float> matrix_KK, const Order& order, float scale) {
  const Index size = matrix_KK.rows();
  auto ordered_KK = Matrix<float>::uninitialized(size, size);
  for (Index i = 0; i < size; ++i) {
    const float* source = matrix_KK.row(order[static_cast<std::size_t>(i)]);
    float* target = ordered_KK.row(i);
    for (Index j = i; j < size; ++j) target[j] = scale * source[order[static_cast<std::size_t>(j)]];
  }
  return ordered_KK;
}

void restore_order(const Matrix<std::uint8_t>& ordered, const Order& order,
                   Matrix<std::uint8_t>& codes_NK) {
  for (Index n = 0; n < ordered.rows(); ++n) {
    const std::uint8_t* source = ordered.row(n);
    std::uint8_t* target = codes_NK.row(n);
    for (std::size_t i = 0; i < order.size(); ++i) target[order[i]] = source[i];
  }
}

void restore_order(QuantizedMatrix& q, const Order& order) {
  const Matrix<std::uint8_t> ordered =
      std::exchange(q.codes_NK, Matrix<std::uint8_t>(q.out_features(), q.in_features()));
  restore_order(ordered, order, q.codes_NK);
  const Index group_size = q.grid.group_size_for(q.in_features());
  q.group_of_column_K.resize(order.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    q.group_of_column_K[static_cast<std::size_t>(order[i])] =
        static_cast<std::int32_t>(static_cast<Index>(i) / group_size);
}

}  // namespace calque::quant
