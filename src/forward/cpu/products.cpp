#include "forward/cpu/products.h"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/parallel.h"
#include "calque/forward/input_rounding.h"
#include "forward/cpu/loops.h"

namespace calque::forward {
namespace {

[[noreturn]] void throw_product_error(int dnnl_status) {
  const std::string reason = fmt::format("matrix product failed (oneDNN status {})", dnnl_status);
  if (dnnl_status == dnnl_out_of_memory)
    throw Error(ErrorKind::kResource, "E304", "out of memory: " + reason);
  throw Error(ErrorKind::kInternal, "", reason);
}

// A T of the calling thread's own, which a later thread takes over: threads live for one loop over
// sequences, and what they have prepared is wanted again in the next.
template <typename T>
T& inherited() {
  struct Pool {
    std::mutex mutex;
    std::vector<std::unique_ptr<T>> left;
  };
  static Pool& pool = *new Pool;  // not destroyed: threads may end after the program's statics
  struct Owner {
    std::unique_ptr<T> value;
    Owner() {
      const std::lock_guard lock(pool.mutex);
      if (pool.left.empty()) return;
      value = std::move(pool.left.back());
      pool.left.pop_back();
    }
    ~Owner() {
      const std::lock_guard lock(pool.mutex);
      pool.left.push_back(std::move(value));
    }
  };
  thread_local Owner owner;
  if (!owner.value) owner.value = std::make_unique<T>();
  return *owner.value;
}

// The product of oneDNN for `shape`, ready to run: making one costs as much as a small product
// takes. A thread runs few shapes: the rows of a chunk, and of the ends of sequences.
template <typename Product, typename Shape>
Product& kept_product(const Shape& shape) {
  constexpr std::size_t kMost = 512;  // experts' rows come in every number
  auto& products = inherited<std::map<Shape, Product>>();
  if (products.size() >= kMost && !products.contains(shape)) products.clear();
  return products.try_emplace(shape, shape).first->second;
}

// Products of matrices as they are.

void check(dnnl_status_t status) {
  if (status != dnnl_success) throw_product_error(status);
}

struct PlainShape {
  Index rows, inner, cols;
  Index left_stride, right_stride, result_stride;
  bool transposed;  // the right one is stored as [cols, inner]
  auto operator<=>(const PlainShape&) const = default;
};

template <typename T>
constexpr auto kStoredAs = dnnl::memory::data_type::f32;
template <>
constexpr auto kStoredAs<BFloat16> = dnnl::memory::data_type::bf16;

// A product of matrices of one shape.
template <typename T>
class PlainProduct {
 public:
  explicit PlainProduct(const PlainShape& shape)
      : engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        left_(operand(shape.rows, shape.inner, shape.left_stride, 1)),
        right_(shape.transposed ? operand(shape.inner, shape.cols, 1, shape.right_stride)
                                : operand(shape.inner, shape.cols, shape.right_stride, 1)),
        result_({{shape.rows, shape.cols},
                 dnnl::memory::data_type::f32,
                 dnnl::memory::dims{shape.result_stride, 1}},
                engine_, nullptr),
        matmul_({{left_.get_desc(), right_.get_desc(), result_.get_desc()}, engine_}) {}

  void run(const T* left, const T* right, float* result) {
    left_.set_data_handle(const_cast<T*>(left));  // oneDNN's handles are mutable; it reads
    right_.set_data_handle(const_cast<T*>(right));
    result_.set_data_handle(result);
    matmul_.execute(stream_,
                    {{DNNL_ARG_SRC, left_}, {DNNL_ARG_WEIGHTS, right_}, {DNNL_ARG_DST, result_}});
    stream_.wait();
  }

 private:
  dnnl::memory operand(Index rows, Index cols, Index row_stride, Index col_stride) const {
    return {
        {{rows, cols}, kStoredAs<T>, dnnl::memory::dims{row_stride, col_stride}}, engine_, nullptr};
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::memory left_, right_, result_;
  dnnl::matmul matmul_;
};

template <typename T>
void run_product(const PlainShape& shape, const T* left, const T* right, float* result) {
  if (shape.rows == 0 || shape.cols == 0) return;
  try {
    kept_product<PlainProduct<T>>(shape).run(left, right, result);
  } catch (const dnnl::error& error) {
    throw_product_error(error.status);
  }
}

// Products with weights in oneDNN's order.

using Memory = dnnl::memory;

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Memory::desc rows_of(Index rows, Index cols, Index stride, Memory::data_type type) {
  return {{rows, cols}, type, Memory::dims{stride, 1}};
}

// oneDNN likes this order best for as many rows as there usually are; other numbers take the same.
Memory::desc packed_layout(Index in_features, Index out_features) {
  constexpr auto kType = Memory::data_type::bf16;
  const Memory::desc any({in_features, out_features}, kType, Memory::format_tag::any);
  const dnnl::matmul::desc product(rows_of(kChunkRows, in_features, in_features, kType), any,
                                   rows_of(kChunkRows, out_features, out_features, kType));
  return dnnl::matmul::primitive_desc(product, cpu()).weights_desc();
}

// The rows of a strip, if `layout` is [strips of rows][pairs of columns][rows of a strip][2] with
// zeros up to whole strips and 32 columns; else 0.
Index strip_rows(const Memory::desc& layout, Index in_features, Index out_features) {
  using Tag = Memory::format_tag;
  constexpr std::array<std::pair<Tag, Index>, 4> kStrips{
      {{Tag::BA16a64b2a, 64}, {Tag::BA16a48b2a, 48}, {Tag::BA16a32b2a, 32}, {Tag::BA16a16b2a, 16}}};
  for (const auto& [tag, rows] : kStrips)
    if (layout == Memory::desc({in_features, out_features}, Memory::data_type::bf16, tag))
      return rows;
  return 0;
}

struct PackedShape {
  Index rows, in_features, out_features, input_stride, output_stride;
  bool biased;
  auto operator<=>(const PackedShape&) const = default;
};

class PackedProduct {
 public:
  explicit PackedProduct(const PackedShape& shape)
      : stream_(cpu()),
        inputs_(rows_of(shape.rows, shape.in_features, shape.input_stride, Memory::data_type::bf16),
                cpu(), nullptr),
        weights_(packed_layout(shape.in_features, shape.out_features), cpu(), nullptr),
        bias_(rows_of(1, shape.out_features, shape.out_features, Memory::data_type::f32), cpu(),
              nullptr),
        outputs_(
            rows_of(shape.rows, shape.out_features, shape.output_stride, Memory::data_type::bf16),
            cpu(), nullptr),
        matmul_(description(shape.biased)) {}

  // oneDNN's handles are mutable; it reads.
  void run(const BFloat16* inputs, const BFloat16* weights, const float* bias, BFloat16* outputs) {
    inputs_.set_data_handle(const_cast<BFloat16*>(inputs));
    weights_.set_data_handle(const_cast<BFloat16*>(weights));
    bias_.set_data_handle(const_cast<float*>(bias));
    outputs_.set_data_handle(outputs);
    std::unordered_map<int, Memory> arguments = {
        {DNNL_ARG_SRC, inputs_}, {DNNL_ARG_WEIGHTS, weights_}, {DNNL_ARG_DST, outputs_}};
    if (bias != nullptr) arguments.emplace(DNNL_ARG_BIAS, bias_);
    matmul_.execute(stream_, arguments);
    stream_.wait();
  }

 private:
  dnnl::matmul::primitive_desc description(bool biased) const {
    const Memory::desc inputs = inputs_.get_desc(), weights = weights_.get_desc(),
                       outputs = outputs_.get_desc();
    return {biased ? dnnl::matmul::desc(inputs, weights, bias_.get_desc(), outputs)
                   : dnnl::matmul::desc(inputs, weights, outputs),
            cpu()};
  }

  dnnl::stream stream_;
  Memory inputs_, weights_, bias_, outputs_;
  dnnl::matmul matmul_;
};

// oneDNN 2.6 multiplies matrices of bf16 with AVX-512 only. Elsewhere they are widened, which is
// exact, and multiplied in fp32: products are exact either way and sums fp32, in another order.
bool multiplies_bf16() {
  static const bool does = (static_cast<int>(dnnl::get_effective_cpu_isa()) &
                            static_cast<int>(dnnl::cpu_isa::avx512_core)) ==
                           static_cast<int>(dnnl::cpu_isa::avx512_core);
  return does;
}

Matrix<float> widened(MatrixView<const BFloat16> values) {
  auto result = Matrix<float>::uninitialized(values.rows(), values.cols());
  loops().of_bfloat16.widen(values, result);
  return result;
}

// outputs_TN = inputs_TK * weight_NK^T + bias_1N, a few rows of the weights at a time.
void apply_widened(MatrixView<const BFloat16> inputs_TK, MatrixView<const BFloat16> weight_NK,
                   const float* bias, MatrixView<BFloat16> outputs_TN) {
  constexpr Index kStrip = 256;
  const Matrix<float> wide_TK = widened(inputs_TK);
  for (Index first = 0; first < weight_NK.rows(); first += kStrip) {
    const Index count = std::min(kStrip, weight_NK.rows() - first);
    auto sums_TS = Matrix<float>::uninitialized(inputs_TK.rows(), count);
    for (Index t = 0; t < sums_TS.rows(); ++t)
      for (Index n = 0; n < count; ++n) sums_TS(t, n) = bias == nullptr ? 0.0f : bias[first + n];
    multiply_transposed(wide_TK.view(), widened(weight_NK.rows(first, count)).view(), sums_TS,
                        /*add=*/true);
    for (Index t = 0; t < sums_TS.rows(); ++t)
      for (Index n = 0; n < count; ++n) outputs_TN(t, first + n) = to_bfloat16(sums_TS(t, n));
  }
}

std::shared_ptr<BFloat16> allocate(std::size_t bytes) {
  return {static_cast<BFloat16*>(allocate_array(bytes)), free_array};
}

}  // namespace

void multiply_transposed(MatrixView<const float> a_MK, MatrixView<const float> b_NK,
                         MatrixView<float> c_MN, bool add) {
  if (c_MN.empty()) return;  // oneDNN refuses products without rows
  check(dnnl_sgemm('N', 'T', c_MN.rows(), c_MN.cols(), a_MK.cols(), 1.0f, a_MK.data(),
                   a_MK.stride(), b_NK.data(), b_NK.stride(), add ? 1.0f : 0.0f, c_MN.data(),
                   c_MN.stride()));
}

void multiply_transposed(MatrixView<const BFloat16> a_MK, MatrixView<const BFloat16> b_NK,
                         MatrixView<float> c_MN) {
  if (!multiplies_bf16())
    return multiply_transposed(widened(a_MK).view(), widened(b_NK).view(), c_MN);
  run_product<BFloat16>(
      {a_MK.rows(), a_MK.cols(), b_NK.rows(), a_MK.stride(), b_NK.stride(), c_MN.stride(),
       /*transposed=*/true},
      a_MK.data(), b_NK.data(), c_MN.data());
}

template <typename T>
void multiply(MatrixView<const T> a_MK, MatrixView<const T> b_KN, MatrixView<float> c_MN) {
  if constexpr (std::is_same_v<T, BFloat16>)
    if (!multiplies_bf16())
      return multiply<float>(widened(a_MK).view(), widened(b_KN).view(), c_MN);
  run_product<T>({a_MK.rows(), a_MK.cols(), b_KN.cols(), a_MK.stride(), b_KN.stride(),
                  c_MN.stride(), /*transposed=*/false},
                 a_MK.data(), b_KN.data(), c_MN.data());
}
template void multiply(MatrixView<const float>, MatrixView<const float>, MatrixView<float>);
template void multiply(MatrixView<const BFloat16>, MatrixView<const BFloat16>, MatrixView<float>);

void add_product(MatrixView<const float> a_KM, MatrixView<const float> b_KN, float factor,
                 MatrixView<float> c_MN) {
  if (c_MN.empty()) return;  // oneDNN refuses products without rows
  check(dnnl_sgemm('T', 'N', c_MN.rows(), c_MN.cols(), a_KM.rows(), 1.0f, a_KM.data(),
                   a_KM.stride(), b_KN.data(), b_KN.stride(), factor, c_MN.data(), c_MN.stride()));
}

PackedWeights::PackedWeights(MatrixView<const float> weight_NK)
    : out_features_(weight_NK.rows()), in_features_(weight_NK.cols()) {
  if (!multiplies_bf16()) {
    packed_ = allocate(static_cast<std::size_t>(weight_NK.size()) * sizeof(BFloat16));
    for (Index n = 0; n < out_features_; ++n)
      for (Index k = 0; k < in_features_; ++k)
        packed_.get()[n * in_features_ + k] = to_bfloat16(weight_NK(n, k));
    return;
  }
  try {
    const Memory::desc from({in_features_, out_features_}, Memory::data_type::f32,
                            Memory::dims{1, weight_NK.stride()});
    const Memory::desc to = packed_layout(in_features_, out_features_);
    packed_ = allocate(to.get_size());
    // oneDNN's own reordering runs at 0.4 to 0.8 GB/s, slower than the products of an expert's
    // rows.
    if (const Index strip = strip_rows(to, in_features_, out_features_); strip > 0) {
      loops().pack_pairs(weight_NK, strip, (in_features_ + 31) / 32 * 16, packed_.get());
      return;
    }
    Memory plain(from, cpu(), const_cast<float*>(weight_NK.data()));
    Memory packed(to, cpu(), packed_.get());
    dnnl::stream stream(cpu());
    dnnl::reorder(plain, packed).execute(stream, plain, packed);
    stream.wait();
  } catch (const dnnl::error& error) {
    throw_product_error(error.status);
  }
}

void PackedWeights::apply(MatrixView<const BFloat16> inputs_TK, MatrixView<const float> bias_1N,
                          MatrixView<BFloat16> outputs_TN) const {
  if (outputs_TN.empty()) return;  // oneDNN refuses products without rows
  if (!multiplies_bf16())
    return apply_widened(inputs_TK, {packed_.get(), out_features_, in_features_}, bias_1N.data(),
                         outputs_TN);
  const PackedShape shape{inputs_TK.rows(),   in_features_,        out_features_,
                          inputs_TK.stride(), outputs_TN.stride(), !bias_1N.empty()};
  try {
    kept_product<PackedProduct>(shape).run(inputs_TK.data(), packed_.get(), bias_1N.data(),
                                           outputs_TN.data());
  } catch (const dnnl::error& error) {
    throw_product_error(error.status);
  }
}

namespace {

// The inputs as they are, or widened.
Matrix<float> floats_of(MatrixView<const float> rows_TK) { return Matrix<float>::copy_of(rows_TK); }
Matrix<float> floats_of(MatrixView<const BFloat16> rows_TK) { return widened(rows_TK); }

MatrixView<const float> as_computed(const Matrix<float>& rows_TK, Matrix<float>&) {
  return rows_TK.view();
}
MatrixView<const BFloat16> as_computed(const Matrix<float>& rows_TK, Matrix<BFloat16>& copy_TK) {
  copy_TK = Matrix<BFloat16>::uninitialized(rows_TK.rows(), rows_TK.cols());
  std::transform(rows_TK.data(), rows_TK.data() + rows_TK.size(), copy_TK.data(), to_bfloat16);
  return std::as_const(copy_TK).view();
}

}  // namespace

template <typename T>
void PreparedLinear<T>::apply(MatrixView<const T> inputs_TK, MatrixView<T> outputs_TN) const {
  if (inputs_ == nullptr) return multiply(inputs_TK, outputs_TN);
  Matrix<float> rounded_TK = floats_of(inputs_TK);
  round_inputs(*inputs_, rounded_TK);
  Matrix<T> copy_TK;
  multiply(as_computed(rounded_TK, copy_TK), outputs_TN);
}

template <>
void PreparedLinear<float>::multiply(MatrixView<const float> inputs_TK,
                                     MatrixView<float> outputs_TN) const {
  const bool biased = !bias_1N_.empty();
  if (biased)
    for (Index t = 0; t < outputs_TN.rows(); ++t)
      std::copy_n(bias_1N_.data(), outputs_TN.cols(), outputs_TN.row(t));
  multiply_transposed(inputs_TK, weight_NK_, outputs_TN, biased);
}

template <>
void PreparedLinear<BFloat16>::multiply(MatrixView<const BFloat16> inputs_TK,
                                        MatrixView<BFloat16> outputs_TN) const {
  weight_NK_.apply(inputs_TK, bias_1N_, outputs_TN);
}

// oneDNN would start threads of its own to pack them, as many as it likes.
template <typename T>
std::vector<PreparedLinear<T>> prepare(const model::SiteSpec& site,
                                       const model::BlockWeights& weights, int threads,
                                       const InputGrids* inputs) {
  std::vector<std::optional<PreparedLinear<T>>> linears(site.readers.size());
  parallel_for(static_cast<Index>(linears.size()), threads, [&](Index i) {
    const model::LinearSpec& linear = site.readers[static_cast<std::size_t>(i)];
    MatrixView<const float> bias_1N;
    if (!linear.bias.empty()) bias_1N = weights.at(linear.bias.front().name);
    linears[static_cast<std::size_t>(i)].emplace(weights.at(linear.weight.name), bias_1N,
                                                 find_inputs(inputs, linear.weight.name));
  });
  std::vector<PreparedLinear<T>> result;
  for (std::optional<PreparedLinear<T>>& linear : linears) result.push_back(std::move(*linear));
  return result;
}

template class PreparedLinear<float>;
template class PreparedLinear<BFloat16>;
template std::vector<PreparedLinear<float>> prepare(const model::SiteSpec&,
                                                    const model::BlockWeights&, int,
                                                    const InputGrids*);
template std::vector<PreparedLinear<BFloat16>> prepare(const model::SiteSpec&,
                                                       const model::BlockWeights&, int,
                                                       const InputGrids*);

}  // namespace calque::forward
