#include "calque/kernels/pack_bits.h"

#include <gtest/gtest.h>

#include <random>

#include "kernels/cuda/both_devices.h"
#include "support/samples.h"

namespace calque {
namespace {

using CudaPackBits = test::BothDevices;

TEST_F(CudaPackBits, GivesTheWordsOfTheCpu) {
  std::mt19937 generator(211);
  for (int bits = 1; bits <= 8; ++bits)
    for (const auto& [rows, columns] :
         {std::pair<Index, Index>{1, 1}, {33, 257}, {64, 32}, {31, 300}}) {
      Matrix<std::uint8_t> codes(rows, columns);
      for (Index i = 0; i < codes.size(); ++i)
        codes.data()[i] = static_cast<std::uint8_t>(generator() & ((1u << bits) - 1));
      Matrix<std::int32_t> expected(packed_words(rows, bits), columns);
      Matrix<std::int32_t> words = expected.clone();
      pack_columns(codes, bits, expected, cpu_);
      pack_columns(codes, bits, words, gpu_);
      EXPECT_TRUE(test::same_bytes(words, expected)) << "columns, " << bits << " bits";
      expected = Matrix<std::int32_t>(rows, packed_words(columns, bits));
      words = expected.clone();
      pack_rows(codes, bits, expected, cpu_);
      pack_rows(codes, bits, words, gpu_);
      EXPECT_TRUE(test::same_bytes(words, expected)) << "rows, " << bits << " bits";
    }
}

}  // namespace
}  // namespace calque
