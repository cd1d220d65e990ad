#include "kernels/cpu/gram_product.h"

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "kernels/cpu/sgemm.h"

namespace calque::cpu {
namespace {

// The columns of a block in stripes; stripe s begins at column s * stripe width.
template <typename T>
using Stripes = std::vector<MatrixView<const T>>;

// A tile of the Gram matrix: a band of columns of one stripe against columns of the same stripe, no
// further left than the band, or of a later one. Low bands waste little below the diagonal.
struct Tile {
  std::size_t left, right;  // stripes
  Index left_begin, left_size, right_begin, right_size;

  bool on_diagonal() const { return left == right; }
  Index size() const { return left_size * right_size; }
};

// Largest first, so that threads finish together.
template <typename T>
std::vector<Tile> upper_tiles(const Stripes<T>& stripes, Index band) {
  std::vector<Tile> tiles;
  for (std::size_t left = 0; left < stripes.size(); ++left)
    for (std::size_t right = left; right < stripes.size(); ++right)
      for (Index begin = 0; begin < stripes[left].cols(); begin += band) {
        const Index skipped = left == right ? begin : 0;
        tiles.push_back({left, right, begin, std::min(band, stripes[left].cols() - begin), skipped,
                         stripes[right].cols() - skipped});
      }
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const Tile& a, const Tile& b) { return a.size() > b.size(); });
  return tiles;
}

// product = left^T right, in steps of few enough rows that the operands stay in the second-level
// cache.
void multiply(MatrixView<const float> left, MatrixView<const float> right,
              MatrixView<float> product) {
  constexpr Index kRows = 512;
  for (Index t = 0; t < left.rows(); t += kRows) {
    const Index rows = std::min(kRows, left.rows() - t);
    sgemm_transposed(1.0f, left.rows(t, rows), right.rows(t, rows), t == 0 ? 0.0f : 1.0f, product);
  }
}

// oneDNN keeps what it generated for a shape, so that asking again takes 3 us.
void multiply(MatrixView<const BFloat16> left, MatrixView<const BFloat16> right,
              MatrixView<float> product) {
  using dnnl::memory;
  const memory::desc a({left.cols(), left.rows()}, memory::data_type::bf16,
                       memory::dims{1, left.stride()});
  const memory::desc b({right.rows(), right.cols()}, memory::data_type::bf16,
                       memory::dims{right.stride(), 1});
  const memory::desc c({product.rows(), product.cols()}, memory::data_type::f32,
                       memory::dims{product.stride(), 1});
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const dnnl::matmul multiplication({dnnl::matmul::desc(a, b, c), engine});
  // oneDNN's handles are mutable; it reads these two.
  const auto handle = [](MatrixView<const BFloat16> m) { return const_cast<BFloat16*>(m.data()); };
  dnnl::stream stream(engine);
  multiplication.execute(stream, {{DNNL_ARG_SRC, memory(a, engine, handle(left))},
                                  {DNNL_ARG_WEIGHTS, memory(b, engine, handle(right))},
                                  {DNNL_ARG_DST, memory(c, engine, product.data())}});
  stream.wait();
}

void add_tile(const Tile& tile, MatrixView<const float> product, MatrixView<float> target) {
  for (Index r = 0; r < product.rows(); ++r) {
    float* sums = target.row(r);
    const float* added = product.row(r);
    for (Index c = tile.on_diagonal() ? r : 0; c < product.cols(); ++c) sums[c] += added[c];
  }
}

template <typename T>
void add_products(const Stripes<T>& stripes, Index band, MatrixView<float> gram_KK,
                  const Workers& workers) {
  const std::vector<Tile> tiles = upper_tiles(stripes, band);
  const Index width = stripes.front().cols();
  workers.for_each(static_cast<Index>(tiles.size()), [&](Index i) {
    const Tile& tile = tiles[static_cast<std::size_t>(i)];
    auto product = Matrix<float>::uninitialized(tile.left_size, tile.right_size);
    multiply(stripes[tile.left].cols(tile.left_begin, tile.left_size),
             stripes[tile.right].cols(tile.right_begin, tile.right_size), product);
    const Index row = static_cast<Index>(tile.left) * width + tile.left_begin;
    const Index column = static_cast<Index>(tile.right) * width + tile.right_begin;
    add_tile(tile, product, gram_KK.rows(row, tile.left_size).cols(column, tile.right_size));
  });
}

// Views of the block itself.
template <typename T>
Stripes<T> stripes_of(MatrixView<const T> block_TK, Index width) {
  Stripes<T> stripes;
  for (Index k = 0; k < block_TK.cols(); k += width)
    stripes.push_back(block_TK.cols(k, std::min(width, block_TK.cols() - k)));
  return stripes;
}

// Copies with the rows of a stripe one after the other. Rows of a wide block are a page or more
// apart: products that read a few columns of each run at 60 to 70 % of their rate.
std::vector<Matrix<float>> packed(const Stripes<float>& stripes, const Workers& workers) {
  std::vector<Matrix<float>> copies;
  for (const auto& stripe : stripes)
    copies.push_back(Matrix<float>::uninitialized(stripe.rows(), stripe.cols()));
  constexpr Index kRowsATask = 128;
  const Index rows = stripes.front().rows();
  workers.for_each((rows + kRowsATask - 1) / kRowsATask, [&](Index task) {
    const Index end = std::min(rows, (task + 1) * kRowsATask);
    for (std::size_t s = 0; s < stripes.size(); ++s)
      for (Index t = task * kRowsATask; t < end; ++t)
        std::copy_n(stripes[s].row(t), stripes[s].cols(), copies[s].row(t));
  });
  return copies;
}

}  // namespace

void add_gram(MatrixView<const float> block_TK, MatrixView<float> gram_KK, const Workers& workers) {
  if (block_TK.empty()) return;
  constexpr Index kNarrow = 768;
  if (block_TK.cols() <= kNarrow)
    return add_products(stripes_of(block_TK, kNarrow), 48, gram_KK, workers);
  const std::vector<Matrix<float>> copies = packed(stripes_of(block_TK, 384), workers);
  add_products(Stripes<float>(copies.begin(), copies.end()), 96, gram_KK, workers);
}

void add_gram(MatrixView<const BFloat16> block_TK, MatrixView<float> gram_KK,
              const Workers& workers) {
  if (block_TK.empty()) return;
  add_products(stripes_of(block_TK, 768), 192, gram_KK, workers);
}

}  // namespace calque::cpu
