#include "forward/cpu/packed_weights.h"

#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>

#include "forward/cpu/gemm.h"
#include "forward/cpu/kept_products.h"
#include "forward/cpu/workspace.h"

namespace calque::forward {
namespace {

using Memory = dnnl::memory;

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Memory::desc rows_of(Index rows, Index cols, Index stride, Memory::data_type type) {
  return {{rows, cols}, type, Memory::dims{stride, 1}};
}

// What oneDNN likes best for as many rows as there usually are; other numbers take the same.
Memory::desc packed_layout(Index in_features, Index out_features) {
  constexpr auto kType = Memory::data_type::bf16;
  const Memory::desc any({in_features, out_features}, kType, Memory::format_tag::any);
  const dnnl::matmul::desc product(rows_of(kChunkRows, in_features, in_features, kType), any,
                                   rows_of(kChunkRows, out_features, out_features, kType));
  return dnnl::matmul::primitive_desc(product, cpu()).weights_desc();
}

struct Shape {
  Index rows, in_features, out_features, input_stride, output_stride;
  bool biased;
  auto operator<=>(const Shape&) const = default;
};

class Product {
 public:
  explicit Product(const Shape& shape)
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

std::shared_ptr<BFloat16> allocate(std::size_t bytes) {
  return {static_cast<BFloat16*>(allocate_array(bytes)), free_array};
}

}  // namespace

PackedWeights::PackedWeights(MatrixView<const float> weight_NK)
    : out_features_(weight_NK.rows()), in_features_(weight_NK.cols()) {
  try {
    const Memory::desc from({in_features_, out_features_}, Memory::data_type::f32,
                            Memory::dims{1, weight_NK.stride()});
    const Memory::desc to = packed_layout(in_features_, out_features_);
    packed_ = allocate(to.get_size());
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
  const Shape shape{inputs_TK.rows(),   in_features_,        out_features_,
                    inputs_TK.stride(), outputs_TN.stride(), !bias_1N.empty()};
  try {
    kept_product<Product>(shape).run(inputs_TK.data(), packed_.get(), bias_1N.data(),
                                     outputs_TN.data());
  } catch (const dnnl::error& error) {
    throw_product_error(error.status);
  }
}

}  // namespace calque::forward
