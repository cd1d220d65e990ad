#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "calque/core/matrix.h"

namespace calque::test {

// Independent standard normal entries, times `scale`.
inline Matrix<float> normal_matrix(Index rows, Index cols, std::uint64_t seed, float scale = 1.0f) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal;
  Matrix<float> m(rows, cols);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = scale * normal(generator);
  return m;
}

// Rows whose channels are strongly correlated and of very different size, as activations are:
// each is a mixture of `factors` common signals plus noise.
inline Matrix<float> correlated_inputs(Index rows, Index cols, Index factors, std::uint64_t seed) {
  const Matrix<float> signals = normal_matrix(rows, factors, seed);
  const Matrix<float> loadings = normal_matrix(factors, cols, seed + 1);
  const Matrix<float> sizes = normal_matrix(1, cols, seed + 2);
  Matrix<float> inputs = normal_matrix(rows, cols, seed + 3);
  for (Index t = 0; t < rows; ++t)
    for (Index k = 0; k < cols; ++k) {
      for (Index f = 0; f < factors; ++f) inputs(t, k) += signals(t, f) * loadings(f, k);
      inputs(t, k) *= std::exp(0.7f * sizes(0, k));
    }
  return inputs;
}

// X^T X by the definition, in double.
inline Matrix<double> gram_in_double(const Matrix<float>& inputs_TK) {
  Matrix<double> gram(inputs_TK.cols(), inputs_TK.cols());
  for (Index t = 0; t < inputs_TK.rows(); ++t) {
    const float* row = inputs_TK.row(t);
    for (Index i = 0; i < inputs_TK.cols(); ++i) {
      double* sums = gram.row(i);
      for (Index j = 0; j < inputs_TK.cols(); ++j) sums[j] += static_cast<double>(row[i]) * row[j];
    }
  }
  return gram;
}

// X^T X / rows + damping * mean diagonal, both triangles.
inline Matrix<float> damped_hessian(const Matrix<float>& inputs_TK, double damping) {
  const Matrix<double> gram = gram_in_double(inputs_TK);
  double mean = 0;
  for (Index i = 0; i < gram.rows(); ++i) mean += gram(i, i) / static_cast<double>(gram.rows());
  Matrix<float> hessian(gram.rows(), gram.cols());
  for (Index i = 0; i < gram.rows(); ++i)
    for (Index j = 0; j < gram.cols(); ++j)
      hessian(i, j) = static_cast<float>((gram(i, j) + (i == j ? damping * mean : 0.0)) /
                                         static_cast<double>(inputs_TK.rows()));
  return hessian;
}

// tr(E H E^T) in double.
inline double quadratic_form(const Matrix<float>& error_NK, const Matrix<float>& hessian_KK) {
  double total = 0;
  for (Index n = 0; n < error_NK.rows(); ++n) {
    const float* error = error_NK.row(n);
    for (Index i = 0; i < error_NK.cols(); ++i) {
      const float* row = hessian_KK.row(i);
      double product = 0;
      for (Index j = 0; j < error_NK.cols(); ++j) product += static_cast<double>(row[j]) * error[j];
      total += error[i] * product;
    }
  }
  return total;
}

template <typename T>
bool same_bytes(const Matrix<T>& a, const Matrix<T>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
}

inline std::vector<std::int32_t> groups_of(Index columns, Index group_size) {
  std::vector<std::int32_t> groups;
  for (Index k = 0; k < columns; ++k) groups.push_back(static_cast<std::int32_t>(k / group_size));
  return groups;
}

}  // namespace calque::test
