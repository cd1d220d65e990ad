#include "calque/io/safetensors.h"

#include <cstring>
#include <limits>

#include "io/safetensors_bytes.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::ElementsAre;

// Made by the reference library; its README has the values.
class ReferenceFile : public ::testing::Test {
 protected:
  template <typename T>
  std::vector<T> values(const std::string& name, DType dtype) const {
    const TensorRef& tensor = *file_.find(name);
    EXPECT_EQ(tensor.dtype, dtype);
    std::vector<T> result(tensor.bytes.size() / sizeof(T));
    std::memcpy(result.data(), tensor.bytes.data(), tensor.bytes.size());
    return result;
  }
  SafetensorsFile file_{test::fixtures() + "/safetensors/ten_dtypes.safetensors"};
};

TEST_F(ReferenceFile, HoldsIntegersOfEveryWidth) {
  constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  EXPECT_THAT(values<std::int64_t>("i64", DType::kI64), ElementsAre(kMin, kMax));
  EXPECT_THAT(values<std::int32_t>("i32", DType::kI32), ElementsAre(-7, 2147483647));
  EXPECT_THAT(values<std::int16_t>("i16", DType::kI16), ElementsAre(-32768, 5));
  EXPECT_THAT(values<std::int8_t>("i8", DType::kI8), ElementsAre(-128, 127));
  EXPECT_THAT(values<std::uint8_t>("u8", DType::kU8), ElementsAre(0, 255));
  EXPECT_THAT(values<std::uint8_t>("bool", DType::kBool), ElementsAre(1, 0));
}

TEST_F(ReferenceFile, WidensFloatsToFp32) {
  EXPECT_THAT(to_vector(*file_.find("f64")), ElementsAre(1.5f, -0.1f));
  EXPECT_THAT(to_vector(*file_.find("bf16")), ElementsAre(1.0f, -3.0f));
  const auto f16 = to_matrix(*file_.find("f16"));
  EXPECT_EQ(f16.rows(), 2);
  EXPECT_EQ(f16.cols(), 1);
  EXPECT_EQ(f16(0, 0), 0.0999755859375f);
  EXPECT_EQ(f16(1, 0), 65504.0f);
  const auto f32 = to_matrix(*file_.find("f32"));
  EXPECT_EQ(f32.rows(), 1);
  EXPECT_EQ(f32(0, 1), -3.0f);
}

TEST_F(ReferenceFile, HasScalarsAndEmptyTensors) {
  const TensorRef& scalar = *file_.find("scalar");
  EXPECT_EQ(scalar.shape_text(), "[]");
  EXPECT_EQ(scalar.element_count(), 1);
  EXPECT_EQ(values<float>("scalar", DType::kF32), std::vector<float>{42.0f});
  const TensorRef& empty = *file_.find("empty");
  EXPECT_EQ(empty.shape_text(), "[0, 3]");
  EXPECT_EQ(empty.element_count(), 0);
  EXPECT_TRUE(empty.bytes.empty());
  EXPECT_EQ(to_matrix(empty).cols(), 3);
}

TEST_F(ReferenceFile, ListsItsTensorsByOffset) {
  ASSERT_EQ(file_.tensors().size(), 12u);
  for (std::size_t i = 1; i < 12; ++i)
    EXPECT_EQ(file_.tensors()[i].bytes.data(),
              file_.tensors()[i - 1].bytes.data() + file_.tensors()[i - 1].bytes.size());
}

TEST_F(ReferenceFile, HasMetadata) {
  EXPECT_THAT(file_.metadata(),
              ElementsAre(std::pair("format", "pt"), std::pair("made by", "safetensors")));
}

TEST_F(ReferenceFile, DoesNotFindOtherNames) { EXPECT_EQ(file_.find("f"), nullptr); }

TEST_F(ReferenceFile, RefusesToWidenIntegers) {
  EXPECT_THAT(error_of([&] { to_vector(*file_.find("i16")); }),
              IsError(ErrorKind::kInput, "tensor 'i16' (I16 [2]): floating-point"));
}

TEST_F(ReferenceFile, RefusesAnotherRank) {
  EXPECT_THAT(error_of([&] { to_matrix(*file_.find("f64")); }),
              IsError(ErrorKind::kInput, "tensor 'f64' (F64 [2]): 2 dimensions are needed"));
  EXPECT_THAT(error_of([&] { to_vector(*file_.find("f32")); }),
              IsError(ErrorKind::kInput, "tensor 'f32' (F32 [1, 2]): 1 dimension is needed"));
}

TEST(Safetensors, AcceptsAFileWithoutTensors) {
  const TempFolder folder;
  put(folder / "a", safetensors("{}"));
  EXPECT_TRUE(SafetensorsFile(folder / "a").tensors().empty());
}

TEST(Safetensors, SortsEntriesByOffset) {
  const TempFolder folder;
  put(folder / "a", safetensors(object_of({entry("late", "U8", "[2]", "[1,3]"),
                                           entry("early", "U8", "[1]", "[0,1]")}),
                                "xyz"));
  const SafetensorsFile file(folder / "a");
  EXPECT_EQ(file.tensors()[0].name, "early");
  EXPECT_EQ(text_of(file.tensors()[1].bytes), "yz");
}

}  // namespace
}  // namespace calque::io
