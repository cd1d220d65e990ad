#include <algorithm>
#include <bit>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/sgemm.h"

namespace calque::cpu {
namespace {

// Inputs enter the sums in blocks of this many rows, counted from the first row of a call.
constexpr Index kBlockRows = 2048;
constexpr Index kStripeColumns = 128;

bool is_finite(float value) {
  return (std::bit_cast<std::uint32_t>(value) & 0x7f800000u) != 0x7f800000u;
}
bool is_finite(BFloat16 value) { return (value.bits & 0x7f80u) != 0x7f80u; }

template <typename T>
bool is_finite(const T* row, Index count) {
  bool all = true;
  for (Index k = 0; k < count; ++k) all &= is_finite(row[k]);
  return all;
}

// Rows of `inputs_TK` without NaN and infinity.
template <typename T>
std::vector<Index> finite_rows(MatrixView<const T> inputs_TK, const Workers& workers) {
  constexpr Index kRowsATask = 64;
  std::vector<char> finite(static_cast<std::size_t>(inputs_TK.rows()));
  workers.for_each((inputs_TK.rows() + kRowsATask - 1) / kRowsATask, [&](Index task) {
    const Index end = std::min(inputs_TK.rows(), (task + 1) * kRowsATask);
    for (Index t = task * kRowsATask; t < end; ++t)
      finite[t] = is_finite(inputs_TK.row(t), inputs_TK.cols());
  });
  std::vector<Index> rows;
  for (Index t = 0; t < inputs_TK.rows(); ++t)
    if (finite[t]) rows.push_back(t);
  return rows;
}

template <typename T>
Matrix<T> selected_rows(MatrixView<const T> source, const std::vector<Index>& rows) {
  Matrix<T> selection = Matrix<T>::uninitialized(static_cast<Index>(rows.size()), source.cols());
  for (std::size_t r = 0; r < rows.size(); ++r)
    std::copy_n(source.row(rows[r]), source.cols(), selection.row(static_cast<Index>(r)));
  return selection;
}

float widened(float value) { return value; }
float widened(BFloat16 value) { return to_float(value); }

template <typename T>
void add_magnitudes(MatrixView<const T> inputs_TK, std::span<double> magnitude_K,
                    const Workers& workers) {
  const Index columns = inputs_TK.cols();
  workers.for_each((columns + kStripeColumns - 1) / kStripeColumns, [&](Index stripe) {
    const Index begin = stripe * kStripeColumns;
    const Index end = std::min(columns, begin + kStripeColumns);
    for (Index t = 0; t < inputs_TK.rows(); ++t) {
      const T* row = inputs_TK.row(t);
      for (Index k = begin; k < end; ++k) magnitude_K[k] += std::abs(widened(row[k]));
    }
  });
}

// Tile width: narrow matrices need many tiles to skip most of the lower triangle and to share them
// out, wide ones run best with wide products (115 to 160 GFLOP/s a core from 128 to 1024 columns).
Index tile_width(Index columns) {
  if (columns <= 1024) return 192;
  return columns <= 2048 ? 256 : 512;
}

struct Tile {
  Index row, col, rows, cols;  // of the Gram matrix
  bool on_diagonal() const { return row == col; }
};

std::vector<Tile> upper_tiles(Index columns) {
  const Index width = tile_width(columns);
  std::vector<Tile> tiles;
  for (Index i = 0; i < columns; i += width)
    for (Index j = i; j < columns; j += width)
      tiles.push_back({i, j, std::min(width, columns - i), std::min(width, columns - j)});
  return tiles;
}

void add_tile(const Tile& tile, MatrixView<const float> product, MatrixView<float> gram_KK) {
  for (Index r = 0; r < tile.rows; ++r) {
    float* target = gram_KK.row(tile.row + r) + tile.col;
    const float* source = product.row(r);
    for (Index c = tile.on_diagonal() ? r : 0; c < tile.cols; ++c) target[c] += source[c];
  }
}

// In steps of few enough rows that the operands stay in the second-level cache (8 % faster).
void tile_product(MatrixView<const float> inputs_TK, const Tile& tile, MatrixView<float> product) {
  constexpr Index kRows = 512;
  for (Index t = 0; t < inputs_TK.rows(); t += kRows) {
    const MatrixView<const float> rows = inputs_TK.rows(t, std::min(kRows, inputs_TK.rows() - t));
    sgemm_transposed(1.0f, rows.cols(tile.row, tile.rows), rows.cols(tile.col, tile.cols),
                     t == 0 ? 0.0f : 1.0f, product);
  }
}

// bf16 x bf16 with fp32 sums.
void tile_product(MatrixView<const BFloat16> inputs_TK, const Tile& tile,
                  MatrixView<float> product) {
  using dnnl::memory;
  const memory::dim rows = inputs_TK.rows();
  const memory::dim stride = inputs_TK.stride();
  const memory::desc left({tile.rows, rows}, memory::data_type::bf16, memory::dims{1, stride});
  const memory::desc right({rows, tile.cols}, memory::data_type::bf16, memory::dims{stride, 1});
  const memory::desc result({tile.rows, tile.cols}, memory::data_type::f32,
                            memory::dims{product.stride(), 1});
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const dnnl::matmul multiply({dnnl::matmul::desc(left, right, result), engine});
  // oneDNN's handles are mutable; it reads these two.
  auto* inputs = const_cast<BFloat16*>(inputs_TK.data());
  dnnl::stream stream(engine);
  multiply.execute(stream, {{DNNL_ARG_SRC, memory(left, engine, inputs + tile.row)},
                            {DNNL_ARG_WEIGHTS, memory(right, engine, inputs + tile.col)},
                            {DNNL_ARG_DST, memory(result, engine, product.data())}});
  stream.wait();
}

template <typename T>
void add_products(MatrixView<const T> inputs_TK, MatrixView<float> gram_KK,
                  const Workers& workers) {
  if (inputs_TK.empty()) return;
  const std::vector<Tile> tiles = upper_tiles(gram_KK.cols());
  workers.for_each(static_cast<Index>(tiles.size()), [&](Index i) {
    const Tile& tile = tiles[static_cast<std::size_t>(i)];
    Matrix<float> product = Matrix<float>::uninitialized(tile.rows, tile.cols);
    tile_product(inputs_TK, tile, product);
    add_tile(tile, product, gram_KK);
  });
}

Matrix<float> widened(MatrixView<const BFloat16> inputs_TK, const Workers& workers) {
  auto wide_TK = Matrix<float>::uninitialized(inputs_TK.rows(), inputs_TK.cols());
  workers.for_each(inputs_TK.rows(), [&](Index t) {
    const BFloat16* source = inputs_TK.row(t);
    float* target = wide_TK.row(t);
    for (Index k = 0; k < inputs_TK.cols(); ++k) target[k] = to_float(source[k]);
  });
  return wide_TK;
}

// Whether bf16 products are worth it. AMX: yes. AVX512_BF16 alone: twice fp32 on AMD (Zen 4: 205
// against 88 GFLOP/s a core), half of it on Intel (87 against 156). Both ways the products are
// exact and the sums fp32.
bool multiplies_bf16_fast() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  if (isa == dnnl::cpu_isa::avx512_core_amx) return true;
  return isa == dnnl::cpu_isa::avx512_core_bf16 && __builtin_cpu_is("amd");
}

template <typename T, typename AddProducts>
GramCount accumulate(MatrixView<const T> inputs_TK, std::span<double> magnitude_K,
                     const Workers& workers, const AddProducts& add) {
  GramCount count;
  for (Index begin = 0; begin < inputs_TK.rows(); begin += kBlockRows) {
    MatrixView<const T> block =
        inputs_TK.rows(begin, std::min(kBlockRows, inputs_TK.rows() - begin));
    const std::vector<Index> finite = finite_rows(block, workers);
    const Index rows = static_cast<Index>(finite.size());
    count.rows += rows;
    count.nonfinite_rows += block.rows() - rows;
    Matrix<T> selection;
    if (rows < block.rows()) {
      selection = selected_rows(block, finite);
      block = selection;
    }
    add_magnitudes(block, magnitude_K, workers);
    add(block);
  }
  return count;
}

}  // namespace

GramCount accumulate_gram_f32(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                              std::span<double> magnitude_K, const Exec::Backend& backend) {
  const Workers& workers = backend.workers;
  return accumulate(inputs_TK, magnitude_K, workers,
                    [&](MatrixView<const float> block) { add_products(block, gram_KK, workers); });
}

GramCount accumulate_gram_bf16(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                               std::span<double> magnitude_K, const Exec::Backend& backend) {
  const Workers& workers = backend.workers;
  return accumulate(inputs_TK, magnitude_K, workers, [&](MatrixView<const BFloat16> block) {
    if (multiplies_bf16_fast()) return add_products(block, gram_KK, workers);
    const Matrix<float> wide = widened(block, workers);
    add_products(wide.view(), gram_KK, workers);
  });
}

}  // namespace calque::cpu
