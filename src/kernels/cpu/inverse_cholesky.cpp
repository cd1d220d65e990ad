#define EIGEN_DONT_PARALLELIZE
#include "calque/kernels/inverse_cholesky.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "kernels/cpu/sgemm.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

template <typename T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// A pivot that overflowed or vanished passes Eigen's own test.
template <typename T>
bool has_positive_pivots(const RowMajor<T>& lower) {
  return lower.diagonal().allFinite() && lower.diagonal().minCoeff() > T(0);
}

// ---- In double

// With J the reversal: J H J = L L^T,  U = J L^-1 J.
bool invert_in_double(MatrixView<float> hessian_KK) {
  const Index size = hessian_KK.rows();
  RowMajor<double> lower = RowMajor<double>::Zero(size, size);
  for (Index i = 0; i < size; ++i)
    for (Index j = i; j < size; ++j) lower(size - 1 - i, size - 1 - j) = hessian_KK(i, j);
  if (!lower.allFinite()) return false;
  const Eigen::LLT<Eigen::Ref<RowMajor<double>>> llt(lower);
  if (llt.info() != Eigen::Success || !has_positive_pivots(lower)) return false;
  RowMajor<double> inverse = RowMajor<double>::Identity(size, size);
  lower.triangularView<Eigen::Lower>().solveInPlace(inverse);
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < size; ++j)
      hessian_KK(i, j) = static_cast<float>(j < i ? 0.0 : inverse(size - 1 - i, size - 1 - j));
  return true;
}

// ---- In fp32, large matrices

constexpr Index kTile = 256;
constexpr Index kChunk = 512;  // columns of one task: wide products are faster (see gram.cpp)

using Rows = RowMajor<float>;
using Block = Eigen::Map<Rows, 0, Eigen::OuterStride<>>;

Block block_of(MatrixView<float> m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.stride())};
}

// H = M^T M with M lower triangular, X = M^-1, U = X^T: all three take turns in the memory of H. M
// grows from the last row of tiles upwards in the lower triangle, while H is read from the upper
// one:
//   M_ii^T M_ij = H_ij - sum_{k > i} M_ki^T M_kj,  j <= i.
// X replaces M from the first row of tiles downwards:
//   X_ij = -X_ii sum_{j <= k < i} M_ik X_kj.
// Nearly all of the work is products with one long side, which oneDNN does; which there are depends
// on K alone.
class InPlace {
 public:
  InPlace(MatrixView<float> matrix_KK, const Workers& workers)
      : matrix_(matrix_KK),
        size_(matrix_KK.rows()),
        tiles_((size_ + kTile - 1) / kTile),
        workers_(workers) {}

  // M into the lower triangle; false if a pivot is not a positive number.
  bool factor() {
    for (Index i = tiles_ - 1; i >= 0; --i) {
      auto diagonal = Matrix<float>::uninitialized(width(i), width(i));
      const Index chunks = chunks_before(i);
      workers_.for_each(chunks + 1, [&](Index c) {
        if (c == chunks)
          start_diagonal(i, diagonal);
        else
          start_chunk(i, c);
      });
      if (!factor_diagonal(i, diagonal)) return false;
      workers_.for_each(chunks, [&](Index c) {
        Block chunk = block_of(row_of(i, c));
        block_of(tile(i, i)).triangularView<Eigen::Lower>().transpose().solveInPlace(chunk);
      });
    }
    return true;
  }

  // X in place of M. The upper triangle, where H was, becomes zero.
  void invert() {
    workers_.for_each(
        size_, [&](Index r) { std::fill(matrix_.row(r) + r + 1, matrix_.row(r) + size_, 0.0f); });
    auto factor_TK = Matrix<float>::uninitialized(kTile, size_);
    for (Index i = 0; i < tiles_; ++i) {
      Rows inverse = Rows::Identity(width(i), width(i));
      block_of(tile(i, i)).triangularView<Eigen::Lower>().solveInPlace(inverse);
      const MatrixView<float> factor = factor_TK.view().rows(0, width(i)).cols(0, begin(i));
      block_of(factor) = block_of(matrix_.rows(begin(i), width(i)).cols(0, begin(i)));
      workers_.for_each(chunks_before(i), [&](Index c) { invert_chunk(i, c, factor, inverse); });
      block_of(tile(i, i)) = inverse;
    }
  }

  // U in place of X.
  void transpose() {
    workers_.for_each(tiles_ * tiles_, [&](Index task) {
      const Index i = task / tiles_;
      const Index j = task % tiles_;
      if (j > i) return;
      const Rows lower = block_of(tile(i, j));
      block_of(tile(i, j)).setZero();
      block_of(tile(j, i)) = lower.transpose();
    });
  }

 private:
  Index begin(Index tile) const { return tile * kTile; }
  Index width(Index tile) const { return std::min(kTile, size_ - begin(tile)); }
  Index chunks_before(Index tile) const { return (begin(tile) + kChunk - 1) / kChunk; }

  MatrixView<float> tile(Index i, Index j) const {
    return matrix_.rows(begin(i), width(i)).cols(begin(j), width(j));
  }
  // Columns of chunk c, left of the diagonal of tile row i.
  MatrixView<float> chunk_of(MatrixView<float> rows, Index i, Index c) const {
    return rows.cols(c * kChunk, std::min(kChunk, begin(i) - c * kChunk));
  }
  MatrixView<float> row_of(Index i, Index c) const {
    return chunk_of(matrix_.rows(begin(i), width(i)), i, c);
  }
  // Rows of M that are done when tile row i is reached.
  MatrixView<float> below(Index i) const {
    const Index end = begin(i) + width(i);
    return matrix_.rows(end, size_ - end);
  }
  MatrixView<const float> column_below(Index i) const { return below(i).cols(begin(i), width(i)); }

  void start_diagonal(Index i, Matrix<float>& diagonal) const {
    const MatrixView<float> hessian = tile(i, i);
    for (Index r = 0; r < diagonal.rows(); ++r)
      for (Index c = r; c < diagonal.cols(); ++c) diagonal(r, c) = diagonal(c, r) = hessian(r, c);
    if (below(i).rows() == 0) return;
    sgemm_transposed(-1.0f, column_below(i), column_below(i), 1.0f, diagonal);
  }

  void start_chunk(Index i, Index c) const {
    const MatrixView<float> row = row_of(i, c);
    block_of(row) =
        block_of(matrix_.rows(c * kChunk, row.cols()).cols(begin(i), width(i))).transpose();
    if (below(i).rows() == 0) return;
    sgemm_transposed(-1.0f, column_below(i), chunk_of(below(i), i, c), 1.0f, row);
  }

  // Turned by half a circle this is Cholesky's L L^T.
  bool factor_diagonal(Index i, Matrix<float>& diagonal) const {
    const Rows turned = block_of(diagonal).reverse();
    if (!turned.allFinite()) return false;
    const Eigen::LLT<Rows> llt(turned);
    const Rows lower = llt.matrixL();
    if (llt.info() != Eigen::Success || !has_positive_pivots(lower)) return false;
    block_of(tile(i, i)).triangularView<Eigen::Lower>() = lower.transpose().reverse();
    return true;
  }

  void invert_chunk(Index i, Index c, MatrixView<const float> factor, Rows& inverse) const {
    const MatrixView<float> row = row_of(i, c);
    const Index first = c * kChunk;
    auto total = Matrix<float>::uninitialized(row.rows(), row.cols());
    sgemm(1.0f, factor.cols(first, begin(i) - first),
          chunk_of(matrix_.rows(first, begin(i) - first), i, c), 0.0f, total);
    sgemm(-1.0f, MatrixView<const float>(inverse.data(), inverse.rows(), inverse.cols()), total,
          0.0f, row);
  }

  MatrixView<float> matrix_;
  Index size_;
  Index tiles_;
  const Workers& workers_;
};

bool invert_in_place(MatrixView<float> hessian_KK, const Workers& workers) {
  InPlace matrix(hessian_KK, workers);
  if (!matrix.factor()) return false;
  matrix.invert();
  matrix.transpose();
  return true;
}

bool has_positive_diagonal(MatrixView<const float> matrix_KK) {
  for (Index k = 0; k < matrix_KK.rows(); ++k)
    if (!std::isfinite(matrix_KK(k, k)) || !(matrix_KK(k, k) > 0)) return false;
  return true;
}

}  // namespace

bool inverse_cholesky(MatrixView<float> hessian_KK, const Exec::Backend& backend) {
  if (hessian_KK.empty()) return true;
  const bool inverted = hessian_KK.rows() > kLargestInDouble
                            ? invert_in_place(hessian_KK, backend.workers)
                            : invert_in_double(hessian_KK);
  return inverted && has_positive_diagonal(hessian_KK);
}

}  // namespace calque::cpu
