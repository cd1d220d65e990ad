// Codes to the bit stream of calque/kernels/pack_bits.h, one thread a word. Reference:
// cpu/pack_bits.cpp.

#include "calque/kernels/pack_bits.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/port.h"

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

// ---- Launchers

using Kernel = void (*)(Packing);

void pack(Kernel kernel, MatrixView<const std::uint8_t> codes, int bits,
          MatrixView<std::int32_t> words, const Exec::Backend& backend) {
  if (words.empty()) return;
  const Session session(backend);
  const auto device_codes = DeviceMatrix<std::uint8_t>::from(codes, session);
  DeviceMatrix<std::int32_t> device_words(words.rows(), words.cols());
  const Packing task = {.codes = device_codes.data(),
                        .words = device_words.data(),
                        .code_rows = codes.rows(),
                        .code_cols = codes.cols(),
                        .word_cols = words.cols(),
                        .bits = bits};
  launch(kernel, dim3(static_cast<unsigned>(words.rows())), dim3(kThreads), 0, session.stream(),
         task);
  device_words.download(words, session);
}

}  // namespace

// ---- The operations

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN, const Exec::Backend& backend) {
  pack(pack_word_row_of_columns, codes_KN, bits, words_PN, backend);
}

void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits, MatrixView<std::int32_t> words_RP,
               const Exec::Backend& backend) {
  pack(pack_row, codes_RC, bits, words_RP, backend);
}

}  // namespace calque::cuda
