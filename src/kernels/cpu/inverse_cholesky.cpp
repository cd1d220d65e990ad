#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "kernels/cpu/kernels.h"

// H is reversed in both axes, where U's mirror image is plain lower triangular:
//   J H J = L L^T,  U = J L^-1 J,  J the reversal.
// L and L^-1 are computed tile by tile. Eigen does the arithmetic inside a tile, in one thread;
// which tiles exist and in which order each is summed depends on K alone.

namespace calque::cpu {
namespace {

constexpr Index kTile = 256;

// Double up to here, where it costs nothing; larger matrices in fp32 and in place, where double
// would take more than twice the time and four times the memory. The loss of a sweep is the same
// within 0.5 % either way, for damping from 5 % down to 1e-9 of the mean diagonal.
constexpr Index kLargestInDouble = 256;

template <typename T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <typename T>
using Block = Eigen::Map<RowMajor<T>, 0, Eigen::OuterStride<>>;

template <typename T>
class TiledCholesky {
 public:
  TiledCholesky(MatrixView<const float> hessian_KK, const Workers& workers)
      : size_(hessian_KK.rows()),
        tiles_((size_ + kTile - 1) / kTile),
        workers_(workers),
        lower_(reversed_lower(hessian_KK)) {}

  // L into the lower triangle; false if a pivot is not a positive number.
  bool factor() {
    for (Index p = 0; p < tiles_; ++p) {
      if (!factor_diagonal(p)) return false;
      workers_.for_each(tiles_ - p - 1, [&](Index i) { solve_below(p + 1 + i, p); });
      const Index rest = tiles_ - p - 1;
      workers_.for_each(rest * rest, [&](Index task) {
        const Index i = p + 1 + task / rest;
        const Index j = p + 1 + task % rest;
        if (j <= i)
          tile(lower_, i, j).noalias() -= tile(lower_, i, p) * tile(lower_, j, p).transpose();
      });
    }
    return true;
  }

  // L^-1 by columns of tiles: X_jj = L_jj^-1, X_ij = -L_ii^-1 sum_{j <= k < i} L_ik X_kj.
  Matrix<T> inverse() {
    Matrix<T> inverse_KK(size_, size_);
    workers_.for_each(tiles_, [&](Index i) { invert_diagonal(i, inverse_KK); });
    workers_.for_each(tiles_, [&](Index j) {
      for (Index i = j + 1; i < tiles_; ++i) invert_tile(i, j, inverse_KK);
    });
    return inverse_KK;
  }

 private:
  static Matrix<T> reversed_lower(MatrixView<const float> hessian_KK) {
    const Index size = hessian_KK.rows();
    Matrix<T> lower(size, size);
    for (Index i = 0; i < size; ++i)
      for (Index j = i; j < size; ++j) lower(size - 1 - i, size - 1 - j) = hessian_KK(i, j);
    return lower;
  }

  Index begin(Index tile) const { return tile * kTile; }
  Index width(Index tile) const { return std::min(kTile, size_ - begin(tile)); }

  Block<T> block(Matrix<T>& m, Index row, Index col, Index rows, Index cols) const {
    return {m.row(row) + col, rows, cols, Eigen::OuterStride<>(size_)};
  }
  Block<T> tile(Matrix<T>& m, Index i, Index j) const {
    return block(m, begin(i), begin(j), width(i), width(j));
  }

  bool factor_diagonal(Index p) {
    Block<T> diagonal = tile(lower_, p, p);
    if (!diagonal.template triangularView<Eigen::Lower>().toDenseMatrix().allFinite()) return false;
    const Eigen::LLT<Eigen::Ref<RowMajor<T>, 0, Eigen::OuterStride<>>> llt(diagonal);
    // A pivot that overflowed or vanished in fp32 passes Eigen's own test.
    return llt.info() == Eigen::Success && diagonal.diagonal().allFinite() &&
           diagonal.diagonal().minCoeff() > T(0);
  }

  void solve_below(Index i, Index p) {
    Block<T> below = tile(lower_, i, p);
    tile(lower_, p, p)
        .template triangularView<Eigen::Lower>()
        .transpose()
        .template solveInPlace<Eigen::OnTheRight>(below);
  }

  void invert_diagonal(Index i, Matrix<T>& inverse_KK) {
    Block<T> inverse = tile(inverse_KK, i, i);
    inverse.setIdentity();
    tile(lower_, i, i).template triangularView<Eigen::Lower>().solveInPlace(inverse);
  }

  void invert_tile(Index i, Index j, Matrix<T>& inverse_KK) {
    const Index above = begin(i) - begin(j);
    const RowMajor<T> total = block(lower_, begin(i), begin(j), width(i), above) *
                              block(inverse_KK, begin(j), begin(j), above, width(j));
    tile(inverse_KK, i, j).noalias() -= tile(inverse_KK, i, i) * total;
  }

  Index size_;
  Index tiles_;
  const Workers& workers_;
  Matrix<T> lower_;
};

bool inverse_cholesky_f64(MatrixView<float> hessian_KK, const Workers& workers) {
  TiledCholesky<double> cholesky(hessian_KK, workers);
  if (!cholesky.factor()) return false;
  const Matrix<double> inverse_KK = cholesky.inverse();
  const Index size = hessian_KK.rows();
  bool finite = true;
  for (Index i = 0; i < size; ++i) {
    float* row = hessian_KK.row(i);
    std::fill(row, row + i, 0.0f);
    for (Index j = i; j < size; ++j)
      row[j] = static_cast<float>(inverse_KK(size - 1 - i, size - 1 - j));
    finite &= std::isfinite(row[i]) && row[i] > 0.0f;
  }
  return finite;
}

}  // namespace

bool inverse_cholesky_in_place(MatrixView<float> hessian_KK, const Exec::Backend& backend) {
  return hessian_KK.rows() > kLargestInDouble ? inverse_cholesky_f32(hessian_KK, backend.workers)
                                              : inverse_cholesky_f64(hessian_KK, backend.workers);
}

std::optional<Matrix<float>> inverse_cholesky(MatrixView<const float> hessian_KK,
                                              const Exec::Backend& backend) {
  Matrix<float> factor_KK = Matrix<float>::copy_of(hessian_KK);
  if (!inverse_cholesky_in_place(factor_KK, backend)) return std::nullopt;
  return factor_KK;
}

}  // namespace calque::cpu
