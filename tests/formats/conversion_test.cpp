#include "calque/formats/conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "calque/core/error.h"

namespace calque::formats {
namespace {

// 3 x 4 ones with `value` at [2, 1]; the message, or "" if it can be stored.
std::string message_for(float value, DType dtype) {
  Matrix<float> values(3, 4);
  for (Index i = 0; i < 12; ++i) values.data()[i] = 1;
  values(2, 1) = value;
  std::vector<std::byte> stored(12 * size_of(dtype));
  convert_from_float(values.data(), dtype, 12, stored.data());
  try {
    require_stored("norm.weight", values, dtype, stored, "Use another");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E402");
    return error.what();
  }
  return "";
}

// 65520 is half way from 65504, the largest binary16, to where the next would be; bfloat16 ends at
// 255 * 2^120 = 3.38953e38, and rounds up from 3.3962e38 on, which fp32 has.
TEST(RequireStored, NamesThePlaceTheValueAndTheLimit) {
  EXPECT_EQ(message_for(65519.0f, DType::kF16), "");
  EXPECT_EQ(message_for(-65520.0f, DType::kF16),
            "tensor 'norm.weight': row 2, column 1 is -65520, beyond what F16 can store (65504). "
            "Use another");
  EXPECT_EQ(message_for(3.395e38f, DType::kBF16), "");
  EXPECT_THAT(message_for(3.4e38f, DType::kBF16),
              ::testing::HasSubstr("row 2, column 1 is 3.4e+38, beyond what BF16 can store "
                                   "(3.38953e+38)"));
  EXPECT_EQ(message_for(3.4e38f, DType::kF32), "");
}

}  // namespace
}  // namespace calque::formats
