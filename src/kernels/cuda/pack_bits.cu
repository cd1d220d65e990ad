// Codes to the bit stream of calque/kernels/pack_bits.h, one thread a word. Reference:
// cpu/pack_bits.cpp.

#include "calque/kernels/pack_bits.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/port.h"
#include "kernels/kernel_table.h"

namespace calque::cuda {
namespace {

// ---- Kernels

constexpr int kThreads = 256;

// Word `word` of the stream of `count` codes, code i at codes[i * stride].
__device__ std::int32_t word_of_stream(const std::uint8_t* codes, Index stride, Index count,
                                       int bits, Index word) {
  const Index first_bit = word * 32;
  std::uint32_t value = 0;
  for (Index i = first_bit / bits; i < count && i * bits < first_bit + 32; ++i) {
    const int shift = static_cast<int>(i * bits - first_bit);
    const std::uint32_t code = codes[i * stride];
    value |= shift >= 0 ? code << shift : code >> -shift;
  }
  return static_cast<std::int32_t>(value);
}

struct Packing {
  const std::uint8_t* codes;
  std::int32_t* words;
  Index code_rows, code_cols, word_cols;
  int bits;
};

// A block a row of words.
__global__ void __launch_bounds__(kThreads) pack_word_row_of_columns(Packing task) {
  const Index p = blockIdx.x;
  for (Index n = threadIdx.x; n < task.word_cols; n += kThreads)
    task.words[p * task.word_cols + n] =
        word_of_stream(task.codes + n, task.code_cols, task.code_rows, task.bits, p);
}

// A block a row of codes.
__global__ void __launch_bounds__(kThreads) pack_row(Packing task) {
  const Index r = blockIdx.x;
  for (Index p = threadIdx.x; p < task.word_cols; p += kThreads)
    task.words[r * task.word_cols + p] =
        word_of_stream(task.codes + r * task.code_cols, 1, task.code_cols, task.bits, p);
}

}  // namespace

// ---- The operation

void pack_bits(const PackBits& task, const Exec::Backend& backend) {
  if (task.words.empty()) return;
  const Session session(backend);
  const auto codes = DeviceMatrix<std::uint8_t>::from(task.codes, session);
  DeviceMatrix<std::int32_t> words(task.words.rows(), task.words.cols());
  const Packing packing = {.codes = codes.data(),
                           .words = words.data(),
                           .code_rows = codes.rows(),
                           .code_cols = codes.cols(),
                           .word_cols = words.cols(),
                           .bits = task.bits};
  const auto kernel = task.vectors == PackedVectors::kColumns ? pack_word_row_of_columns : pack_row;
  launch(kernel, dim3(static_cast<unsigned>(words.rows())), dim3(kThreads), 0, session.stream(),
         packing);
  words.download(task.words, session);
}

}  // namespace calque::cuda
