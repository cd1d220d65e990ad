#include <cmath>
#include <cstring>
#include <limits>

#include "calque/core/error.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "io/safetensors_bytes.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr DType kAllTypes[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                               DType::kI32, DType::kI16, DType::kI8,  DType::kU8,   DType::kBool};

std::string some_bytes(std::size_t count, char first) {
  std::string bytes(count, '\0');
  // Bits 6 and 2 are never set, so that no pattern is an infinity or NaN in any type.
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>((first + 3 * i) & 0xbb);
  return bytes;
}

io::Json index_of(const TempFolder& folder) {
  return io::parse_json(content_of(folder / "model.safetensors.index.json"));
}

// Four tensors of 40 bytes.
std::vector<TensorDeclaration> four_tensors() {
  return {{"a", DType::kF32, {2, 5}},
          {"b", DType::kF16, {20}},
          {"c", DType::kI8, {40}},
          {"d", DType::kI64, {5}}};
}

void write_four(SafetensorsWriter& writer) {
  for (const char* name : {"c", "a", "d", "b"}) writer.write(name, bytes_of(some_bytes(40, *name)));
}

TEST(SafetensorsWriter, KeepsEveryType) {
  const TempFolder folder;
  std::vector<TensorDeclaration> declarations;
  for (const DType dtype : kAllTypes)
    declarations.push_back({std::string(name_of(dtype)), dtype, {3, 7}});
  SafetensorsWriter writer(folder.path(), declarations);
  for (const TensorDeclaration& tensor : declarations)
    writer.write(tensor.name, bytes_of(some_bytes(tensor.byte_count(), tensor.name[0])));
  writer.finish();

  const SafetensorsFile file(folder / "model.safetensors");
  ASSERT_EQ(file.tensors().size(), 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    const TensorRef& tensor = file.tensors()[i];
    EXPECT_EQ(tensor.name, declarations[i].name);
    EXPECT_EQ(tensor.dtype, declarations[i].dtype);
    EXPECT_EQ(tensor.shape, declarations[i].shape);
    EXPECT_EQ(text_of(tensor.bytes), some_bytes(21 * size_of(tensor.dtype), tensor.name[0]));
  }
}

// The header as the format's definition gives it, by hand.
TEST(SafetensorsWriter, WritesTheBytesOfTheFormat) {
  const TempFolder folder;
  SafetensorsWriter writer(folder.path(), {{"b", DType::kU8, {3}}, {"a", DType::kF32, {}}});
  writer.write("a", bytes_of("wxyz"));
  writer.write("b", bytes_of("123"));
  writer.finish();
  std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[3,7]}})";
  header.resize(192 - 8, ' ');  // 8 + 138 bytes, up to the next multiple of 64
  EXPECT_EQ(content_of(folder / "model.safetensors"), safetensors(header, "123wxyz"));
}

TEST(SafetensorsWriter, StartsTheDataAtMultiplesOf64) {
  const TempFolder folder;
  for (std::size_t length = 1; length < 70; ++length) {
    SafetensorsWriter writer(folder.path(), {{std::string(length, 'n'), DType::kU8, {1}}});
    writer.write(std::string(length, 'n'), bytes_of("x"));
    writer.finish();
    EXPECT_EQ((content_of(folder / "model.safetensors").size() - 1) % 64, 0u);
  }
}

TEST(SafetensorsWriter, MarksTheFormatAsPyTorch) {
  const TempFolder folder;
  SafetensorsWriter writer(folder.path(), four_tensors(), 80);
  write_four(writer);
  writer.finish();
  for (const char* name : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"})
    EXPECT_EQ(SafetensorsFile(folder / name).metadata().at("format"), "pt");
}

TEST(SafetensorsWriter, EscapesNames) {
  const TempFolder folder;
  const std::string name = "quote\" back\\slash \n \xc3\xa9";
  SafetensorsWriter writer(folder.path(), {{name, DType::kU8, {1}}});
  writer.write(name, bytes_of("x"));
  writer.finish();
  EXPECT_EQ(SafetensorsFile(folder / "model.safetensors").tensors()[0].name, name);
}

TEST(SafetensorsWriter, SplitsAtTheShardLimit) {
  const TempFolder folder;
  SafetensorsWriter writer(folder.path(), four_tensors(), 119);  // two of 40 fit, three do not
  write_four(writer);
  writer.finish();
  EXPECT_THAT(names_in(folder.path()), UnorderedElementsAre("model-00001-of-00002.safetensors",
                                                            "model-00002-of-00002.safetensors",
                                                            "model.safetensors.index.json"));
  const io::Json index = index_of(folder);
  EXPECT_EQ(index.at("metadata").at("total_size"), 160);
  EXPECT_EQ(index.at("weight_map"), (io::Json{{"a", "model-00001-of-00002.safetensors"},
                                              {"b", "model-00001-of-00002.safetensors"},
                                              {"c", "model-00002-of-00002.safetensors"},
                                              {"d", "model-00002-of-00002.safetensors"}}));
  const SafetensorsCheckpoint checkpoint(folder.path());
  for (const char* name : {"a", "b", "c", "d"})
    EXPECT_EQ(text_of(checkpoint.at(name).bytes), some_bytes(40, *name));
}

TEST(SafetensorsWriter, GivesALargerTensorAShardOfItsOwn) {
  const TempFolder folder;
  SafetensorsWriter writer(
      folder.path(), {{"a", DType::kU8, {4}}, {"large", DType::kU8, {50}}, {"b", DType::kU8, {4}}},
      10);
  writer.write("a", bytes_of(some_bytes(4, 1)));
  writer.write("b", bytes_of(some_bytes(4, 2)));
  writer.write("large", bytes_of(some_bytes(50, 3)));
  writer.finish();
  const io::Json map = index_of(folder).at("weight_map");
  EXPECT_EQ(map.at("large"), "model-00002-of-00003.safetensors");
  EXPECT_EQ(map.at("b"), "model-00003-of-00003.safetensors");
}

TEST(SafetensorsWriter, WritesOneFileUpToTheLimit) {
  const TempFolder folder;
  SafetensorsWriter writer(folder.path(), four_tensors(), 160);
  write_four(writer);
  writer.finish();
  EXPECT_THAT(names_in(folder.path()), UnorderedElementsAre("model.safetensors"));
}

TEST(SafetensorsWriter, LeavesNothingBehindWithoutFinish) {
  const TempFolder folder;
  {
    SafetensorsWriter writer(folder.path(), four_tensors(), 80);
    write_four(writer);
  }
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(SafetensorsWriter, ReportsAFullDiskBeforeTheWork) {
  const TempFolder folder;
  const Error error = error_of([&] {
    const FileSizeLimit limit(1'000);
    SafetensorsWriter writer(folder.path(), {{"a", DType::kU8, {5'000}}});
  });
  EXPECT_THAT(error, IsError(ErrorKind::kResource, "model.safetensors.partial: cannot reserve"));
  EXPECT_EQ(error.code(), "E302");
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(SafetensorsWriter, RefusesToFinishWithATensorMissing) {
  const TempFolder folder;
  SafetensorsWriter writer(folder.path(), {{"a", DType::kU8, {1}}, {"b", DType::kU8, {1}}});
  writer.write("a", bytes_of("x"));
  EXPECT_THAT(error_of([&] { writer.finish(); }),
              IsError(ErrorKind::kInternal, "tensor 'b' was declared and never written"));
}

TEST(SafetensorsWriter, RefusesMistakesOfItsCaller) {
  const TempFolder folder;
  const auto declare_twice = [&] {
    SafetensorsWriter writer(folder.path(), {{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}});
  };
  EXPECT_THAT(error_of(declare_twice), IsError(ErrorKind::kInternal, "'a' is declared twice"));
  SafetensorsWriter writer(folder.path(), {{"a", DType::kU8, {1}}});
  EXPECT_THAT(error_of([&] { writer.write("b", bytes_of("x")); }),
              IsError(ErrorKind::kInternal, "'b' was never declared"));
  EXPECT_THAT(error_of([&] { writer.write("a", bytes_of("xy")); }),
              IsError(ErrorKind::kInternal, "declared with 1 bytes, 2 come"));
  writer.write("a", bytes_of("x"));
  EXPECT_THAT(error_of([&] { writer.write("a", bytes_of("x")); }),
              IsError(ErrorKind::kInternal, "'a' is written twice"));
}

// A 3 x 5 tensor of ones in which the number at [1, 2] is `value`.
std::string message_for(DType dtype, float value) {
  const TempFolder folder;
  std::vector<float> values(15, 1.0f);
  values[7] = value;
  std::vector<std::byte> bytes(15 * size_of(dtype));
  convert_from_float(values.data(), dtype, 15, bytes.data());
  SafetensorsWriter writer(folder.path(), {{"norm.weight", dtype, {3, 5}}});
  try {
    writer.write("norm.weight", bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E402");
    EXPECT_EQ(error.kind(), ErrorKind::kNumerical);
    return error.what();
  }
  return "";
}

TEST(SafetensorsWriter, RefusesNumbersThatAreNone) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_THAT(
        message_for(dtype, std::numeric_limits<float>::infinity()),
        ::testing::HasSubstr("tensor 'norm.weight': row 1, column 2 would be stored as inf"));
    EXPECT_THAT(message_for(dtype, std::numeric_limits<float>::quiet_NaN()),
                ::testing::HasSubstr("nan"));
    EXPECT_EQ(message_for(dtype, 65504.0f), "");
  }
  EXPECT_THAT(message_for(DType::kF16, 65520.0f), ::testing::HasSubstr("stored as inf in F16"));
}

}  // namespace
}  // namespace calque::io
