#include "calque/core/finite.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace calque {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// `count` ones as a file stores them, from an odd address on, with `value` in place `at`.
class Stored {
 public:
  Stored(DType dtype, std::size_t count, std::size_t at, float value) : dtype_(dtype) {
    std::vector<float> values(count, 1.0f);
    if (at < count) values[at] = value;
    bytes_.resize(1 + count * size_of(dtype));
    convert_from_float(values.data(), dtype, count, bytes_.data() + 1);
  }
  std::optional<std::size_t> first() const {
    return first_nonfinite(std::span(bytes_).subspan(1), dtype_);
  }

 private:
  DType dtype_;
  std::vector<std::byte> bytes_;
};

TEST(FirstNonfinite, IsThePlaceInEveryFloatingType) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16})
    for (const float value : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()})
      for (const std::size_t at :
           {std::size_t{0}, std::size_t{4095}, std::size_t{4096}, std::size_t{9999}})
        EXPECT_EQ(Stored(dtype, 10000, at, value).first(), at) << name_of(dtype) << " " << value;
}

// 65504, the largest number of binary16, is one bit below infinity.
TEST(FirstNonfinite, IsNoneAmongTheLargestNumbers) {
  EXPECT_EQ(Stored(DType::kF16, 100, 50, 65504.0f).first(), std::nullopt);
  EXPECT_EQ(Stored(DType::kF16, 100, 50, -65504.0f).first(), std::nullopt);
  EXPECT_EQ(Stored(DType::kBF16, 100, 50, 0x1.fep127f).first(), std::nullopt);
  EXPECT_EQ(Stored(DType::kF32, 100, 50, std::numeric_limits<float>::max()).first(), std::nullopt);
  EXPECT_EQ(Stored(DType::kF32, 0, 0, 0).first(), std::nullopt);
}

TEST(FirstNonfinite, IsNoneAmongIntegers) {
  const std::vector<std::byte> ones(64, std::byte{0xff});
  for (const DType dtype : {DType::kI64, DType::kI32, DType::kU8})
    EXPECT_EQ(first_nonfinite(ones, dtype), std::nullopt);
}

}  // namespace
}  // namespace calque
