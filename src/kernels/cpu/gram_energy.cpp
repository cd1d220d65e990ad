#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/cpu/simd.h"

namespace calque::cpu {
namespace {

constexpr Index kTileColumns = 128;
constexpr Index kPanelRows = 128;

// Diagonal tiles of the Gram matrix, one below the other, with the entries right of the diagonal
// doubled and those left of it zero: x^T G x = x^T tile x.
Matrix<float> doubled_diagonal_tiles(MatrixView<const float> gram_KK) {
  const Index size = gram_KK.rows();
  Matrix<float> tiles(size, kTileColumns);
  for (Index r = 0; r < size; ++r) {
    const Index begin = r / kTileColumns * kTileColumns;
    const Index end = std::min(size, begin + kTileColumns);
    tiles(r, r - begin) = gram_KK(r, r);
    for (Index c = r + 1; c < end; ++c) tiles(r, c - begin) = 2.0f * gram_KK(r, c);
  }
  return tiles;
}

double dot(MatrixView<const float> a, MatrixView<const float> b) {
  double total = 0;
  for (Index r = 0; r < a.rows(); ++r) total += dot_in_double(a.row(r), b.row(r), a.cols());
  return total;
}

double panel_energy(MatrixView<const float> rows_PK, MatrixView<const float> gram_KK,
                    MatrixView<const float> diagonal_tiles) {
  const Index size = gram_KK.rows();
  Matrix<float> product = Matrix<float>::uninitialized(rows_PK.rows(), kTileColumns);
  double energy = 0;
  for (Index begin = 0; begin < size; begin += kTileColumns) {
    const Index width = std::min(kTileColumns, size - begin);
    const MatrixView<const float> tile_rows = rows_PK.cols(begin, width);
    const MatrixView<float> out = product.view().cols(0, width);
    sgemm(1.0f, tile_rows, diagonal_tiles.rows(begin, width).cols(0, width), 0.0f, out);
    if (begin > 0)
      sgemm(2.0f, rows_PK.cols(0, begin), gram_KK.rows(0, begin).cols(begin, width), 1.0f, out);
    energy += dot(tile_rows, out);
  }
  return energy;
}

}  // namespace

double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec::Backend& backend) {
  const Matrix<float> diagonal_tiles = doubled_diagonal_tiles(gram_KK);
  const Index panels = (rows_NK.rows() + kPanelRows - 1) / kPanelRows;
  std::vector<double> energies(static_cast<std::size_t>(panels));
  backend.workers.for_each(panels, [&](Index p) {
    const Index first = p * kPanelRows;
    const Index count = std::min(kPanelRows, rows_NK.rows() - first);
    energies[static_cast<std::size_t>(p)] =
        panel_energy(rows_NK.rows(first, count), gram_KK, diagonal_tiles);
  });
  return std::accumulate(energies.begin(), energies.end(), 0.0);
}

}  // namespace calque::cpu
