#include "calque/kernels/gram.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/core/onednn.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

// ---- Products of one block

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
void multiply_transposed(MatrixView<const float> left, MatrixView<const float> right,
                         MatrixView<float> product) {
  constexpr Index kRows = 512;
  for (Index t = 0; t < left.rows(); t += kRows) {
    const Index rows = std::min(kRows, left.rows() - t);
    sgemm_transposed(1.0f, left.rows(t, rows), right.rows(t, rows), t == 0 ? 0.0f : 1.0f, product);
  }
}

// oneDNN keeps what it generated for a shape, so that asking again takes 3 us.
void multiply_transposed(MatrixView<const BFloat16> left, MatrixView<const BFloat16> right,
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
    multiply_transposed(stripes[tile.left].cols(tile.left_begin, tile.left_size),
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
// apart: products that read a few columns of each run at 50 to 70 % of their rate.
template <typename T>
std::vector<Matrix<T>> packed(const Stripes<T>& stripes, const Workers& workers) {
  std::vector<Matrix<T>> copies;
  for (const auto& stripe : stripes)
    copies.push_back(Matrix<T>::uninitialized(stripe.rows(), stripe.cols()));
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

// gram_KK += block^T block, upper triangle only, for the rows of one block, all of them finite: the
// products of the block are summed in fp32 by themselves and added to `gram_KK` at the end. bf16:
// each product is exact.
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
  // 2,048 channels are slower by way of copies (684 and 491 GFLOP/s), 4,096 about equal (749, 799).
  constexpr Index kStripe = 768, kBand = 192, kNarrow = 4096;
  const Stripes<BFloat16> stripes = stripes_of(block_TK, kStripe);
  if (block_TK.cols() <= kNarrow) return add_products(stripes, kBand, gram_KK, workers);
  const std::vector<Matrix<BFloat16>> copies = packed(stripes, workers);
  add_products(Stripes<BFloat16>(copies.begin(), copies.end()), kBand, gram_KK, workers);
}

// ---- Sums over blocks

constexpr Index kStripeColumns = 64;

// Rows of `inputs_TK` without NaN and infinity.
template <typename T>
std::vector<Index> finite_rows(MatrixView<const T> inputs_TK, const Workers& workers) {
  constexpr Index kRowsATask = 64;
  std::vector<char> finite(static_cast<std::size_t>(inputs_TK.rows()));
  workers.for_each((inputs_TK.rows() + kRowsATask - 1) / kRowsATask, [&](Index task) {
    const Index end = std::min(inputs_TK.rows(), (task + 1) * kRowsATask);
    for (Index t = task * kRowsATask; t < end; ++t)
      finite[t] = all_finite<T>(inputs_TK.row_span(t));
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

using Doubles = double __attribute__((vector_size(8 * sizeof(double))));
using Halves = float __attribute__((vector_size(8 * sizeof(float))));
using Words = std::uint32_t __attribute__((vector_size(8 * sizeof(float))));

Halves load_eight(const float* values) {
  Halves result;
  std::memcpy(&result, values, sizeof(result));
  return result;
}
Halves load_eight(const BFloat16* values) {
  std::uint16_t __attribute__((vector_size(8 * sizeof(BFloat16)))) bits;
  std::memcpy(&bits, values, sizeof(bits));
  return std::bit_cast<Halves>(__builtin_convertvector(bits, Words) << 16);
}

// sums += |row| of `kVectors` times eight columns, row by row; the sums stay in registers, where a
// loop of single additions would load and store them for every row.
template <Index kVectors, typename T>
void add_magnitudes(MatrixView<const T> rows_TK, double* sums) {
  std::array<Doubles, kVectors> totals;
  std::memcpy(totals.data(), sums, sizeof(totals));
  for (Index t = 0; t < rows_TK.rows(); ++t)
    for (std::size_t v = 0; v < kVectors; ++v) {
      const Words bits = std::bit_cast<Words>(load_eight(rows_TK.row(t) + 8 * v));
      const Halves magnitudes = std::bit_cast<Halves>(bits & 0x7fffffffu);
      totals[v] += __builtin_convertvector(magnitudes, Doubles);
    }
  std::memcpy(sums, totals.data(), sizeof(totals));
}

// magnitude_K plus those of the block.
template <typename T>
std::vector<double> added_magnitudes(std::span<const double> magnitude_K,
                                     MatrixView<const T> block_TK, const Workers& workers) {
  std::vector<double> sums_K(magnitude_K.begin(), magnitude_K.end());
  const Index columns = block_TK.cols();
  workers.for_each((columns + kStripeColumns - 1) / kStripeColumns, [&](Index stripe) {
    const Index begin = stripe * kStripeColumns;
    const Index width = std::min(kStripeColumns, columns - begin);
    double* sums = sums_K.data() + begin;
    const MatrixView<const T> columns_TK = block_TK.cols(begin, width);
    if (width == kStripeColumns) return add_magnitudes<kStripeColumns / 8>(columns_TK, sums);
    for (Index t = 0; t < block_TK.rows(); ++t)
      for (Index k = 0; k < width; ++k) sums[k] += std::abs(widened(columns_TK(t, k)));
  });
  return sums_K;
}

Matrix<float> widened_rows(MatrixView<const BFloat16> inputs_TK, const Workers& workers) {
  auto wide_TK = Matrix<float>::uninitialized(inputs_TK.rows(), inputs_TK.cols());
  workers.for_each(inputs_TK.rows(), [&](Index t) {
    const BFloat16* source = inputs_TK.row(t);
    float* target = wide_TK.row(t);
    for (Index k = 0; k < inputs_TK.cols(); ++k) target[k] = to_float(source[k]);
  });
  return wide_TK;
}

// True where bf16 products are worth it. AMX: yes. AVX512_BF16 alone: twice fp32 on AMD (Zen 4: 205
// against 88 GFLOP/s a core), half of it on Intel (87 against 156). Both ways the products are
// exact and the sums fp32.
bool multiplies_bf16_fast() {
  limit_onednn();
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  if (isa == dnnl::cpu_isa::avx512_core_amx) return true;
  return isa == dnnl::cpu_isa::avx512_core_bf16 && __builtin_cpu_is("amd");
}

template <typename T>
class Accumulation {
 public:
  Accumulation(std::span<double> magnitude_K, const Workers& workers)
      : magnitude_K_(magnitude_K), workers_(workers) {}

  // Calls add(rows) with the finite rows of each block.
  template <typename AddProducts>
  GramCount run(MatrixView<const T> inputs_TK, const AddProducts& add) {
    for (Index begin = 0; begin < inputs_TK.rows(); begin += kGramRows) {
      const auto block = inputs_TK.rows(begin, std::min(kGramRows, inputs_TK.rows() - begin));
      if (add_magnitudes(block))
        add(block);
      else
        add(finite_part(block, begin).view());
    }
    count_.rows = inputs_TK.rows() - count_.nonfinite_rows;
    return count_;
  }

 private:
  // A sum of magnitudes is finite if and only if all of them are: floats cannot overflow a double.
  bool add_magnitudes(MatrixView<const T> block_TK) {
    const std::vector<double> sums_K = added_magnitudes<T>(magnitude_K_, block_TK, workers_);
    for (const double sum : sums_K)
      if (!std::isfinite(sum)) return false;
    std::copy(sums_K.begin(), sums_K.end(), magnitude_K_.begin());
    return true;
  }

  // Rows of the block that begins with row `begin`.
  Matrix<T> finite_part(MatrixView<const T> block_TK, Index begin) {
    const std::vector<Index> rows = finite_rows(block_TK, workers_);
    if (count_.first_nonfinite_row < 0) {
      Index kept = 0;
      for (;
           kept < static_cast<Index>(rows.size()) && rows[static_cast<std::size_t>(kept)] == kept;)
        ++kept;
      count_.first_nonfinite_row = begin + kept;
    }
    count_.nonfinite_rows += block_TK.rows() - static_cast<Index>(rows.size());
    Matrix<T> selection = selected_rows(block_TK, rows);
    add_magnitudes(selection);
    return selection;
  }

  std::span<double> magnitude_K_;
  const Workers& workers_;
  GramCount count_;
};

// Sums in the host's memory.
class HostSums : public GramSum::Sums {
 public:
  HostSums(Index features, const Workers& workers) : workers_(workers) {
    result_.gram_KK = Matrix<float>(features, features);
    result_.magnitude_K.assign(static_cast<std::size_t>(features), 0.0);
  }
  void start_from(MatrixView<const float> gram_KK, std::span<const double> magnitude_K) override {
    result_.gram_KK = Matrix<float>::copy_of(gram_KK);
    result_.magnitude_K.assign(magnitude_K.begin(), magnitude_K.end());
  }
  void add(MatrixView<const float> inputs_TK) override {
    accumulate(inputs_TK,
               [&](MatrixView<const float> rows) { add_gram(rows, result_.gram_KK, workers_); });
  }
  void add(MatrixView<const BFloat16> inputs_TK) override {
    accumulate(inputs_TK, [&](MatrixView<const BFloat16> rows) {
      if (multiplies_bf16_fast()) return add_gram(rows, result_.gram_KK, workers_);
      add_gram(widened_rows(rows, workers_).view(), result_.gram_KK, workers_);
    });
  }
  void add(const DeviceRows&) override {
    throw Error(ErrorKind::kInternal, "",
                "GramSum: rows on a device were given to the host's sums");
  }
  GramSum::Result finish() override { return std::move(result_); }

 private:
  template <typename T, typename AddProducts>
  void accumulate(MatrixView<const T> inputs_TK, const AddProducts& add_products) {
    const GramCount count =
        Accumulation<T>(result_.magnitude_K, workers_).run(inputs_TK, add_products);
    if (result_.count.first_nonfinite_row < 0 && count.first_nonfinite_row >= 0)
      result_.count.first_nonfinite_row =
          result_.count.rows + result_.count.nonfinite_rows + count.first_nonfinite_row;
    result_.count.rows += count.rows;
    result_.count.nonfinite_rows += count.nonfinite_rows;
  }

  const Workers& workers_;
  GramSum::Result result_;
};

// ---- Energies

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

std::unique_ptr<GramSum::Sums> gram(Index features, const Exec::Backend& backend) {
  return std::make_unique<HostSums>(features, backend.workers);
}

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
