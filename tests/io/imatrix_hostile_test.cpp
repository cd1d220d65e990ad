// Importance matrices that are damaged, or lie.
#include <algorithm>
#include <limits>

#include "calque/io/gguf.h"
#include "calque/io/imatrix.h"
#include "io/io_test_support.h"
#include "support/damage.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;

std::string text(const std::string& value) {
  return raw(static_cast<std::int32_t>(value.size())) + value;
}

std::string dat_entry(const std::string& name, std::int32_t chunks, std::vector<float> values) {
  std::string bytes = text(name) + raw(chunks) + raw(static_cast<std::int32_t>(values.size()));
  for (const float value : values) bytes += raw(value);
  return bytes;
}

class HostileImatrix : public ::testing::Test {
 protected:
  Error reading(const std::string& content, const std::string& name = "a.dat") {
    put(folder_ / name, content);
    return error_of([&] { read_imatrix(folder_ / name); });
  }

  // A file of one entry "q" with these values.
  Error reading_gguf(const std::vector<float>& sums, const std::vector<float>& counts) {
    const auto size = [](const auto& values) { return std::uint64_t{values.size()}; };
    GgufWriter writer(folder_ / "a.gguf",
                      {{"general.type", GgufValue::Scalar(std::string("imatrix"))}},
                      {{"q.in_sum2", ggml::Type::kF32, {2, size(sums) / 2}},
                       {"q.counts", ggml::Type::kF32, {1, size(counts)}}});
    const std::vector<float> zeros(std::max(sums.size(), counts.size()));
    writer.write("q.in_sum2", std::as_bytes(std::span(zeros).first(sums.size())));
    writer.write("q.counts", std::as_bytes(std::span(zeros).first(counts.size())));
    writer.finish();
    test::overwrite_gguf(folder_ / "a.gguf", "q.in_sum2", 0, std::as_bytes(std::span(sums)));
    test::overwrite_gguf(folder_ / "a.gguf", "q.counts", 0, std::as_bytes(std::span(counts)));
    return error_of([&] { read_imatrix(folder_ / "a.gguf"); });
  }

  TempFolder folder_;
};

// The shortest files are those without a tail, which are complete.
TEST_F(HostileImatrix, RefusesTheOlderFormatCutAnywhere) {
  const std::string entries = raw(2) + dat_entry("q", 1, {1, 2}) + dat_entry("k", 1, {3});
  const std::string whole = entries + raw(7) + text("text.txt");
  put(folder_ / "whole.dat", whole);
  EXPECT_EQ(read_imatrix(folder_ / "whole.dat").chunks, 7);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    if (size == entries.size() || size == entries.size() + 4) continue;  // very old files
    const Error error = reading(whole.substr(0, size));
    EXPECT_EQ(error.kind(), ErrorKind::kInput) << size;
    EXPECT_NE(std::string(error.what()).find("a.dat: "), std::string::npos) << error.what();
  }
}

TEST_F(HostileImatrix, RefusesGgufCutAnywhere) {
  const std::string whole = content_of(test::fixtures() + "/gguf/tiny-imatrix.gguf");
  // Every byte of the header, then every 61st.
  for (std::size_t size = 0; size + 32 < whole.size(); size += size < 1888 ? 1 : 61)
    EXPECT_EQ(reading(whole.substr(0, size), "a.gguf").kind(), ErrorKind::kInput) << size;
}

TEST_F(HostileImatrix, RefusesCountsThatTheFileCannotHold) {
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  const std::string q = dat_entry("q", 1, {1});
  EXPECT_THAT(reading(raw(kMost) + q), IsError(ErrorKind::kInput, "a count of 2147483647 needs"));
  EXPECT_THAT(reading(raw(-1) + q),
              IsError(ErrorKind::kInput, "the number of entries: a count of -1"));
  EXPECT_THAT(reading(raw(0)), IsError(ErrorKind::kInput, "0 entries"));
  EXPECT_THAT(reading(raw(1) + raw(kMost) + "qqqqqqqqqqqqqqqqqqqq"),
              IsError(ErrorKind::kInput, "the name of entry 1 of 1: a count of 2147483647"));
  EXPECT_THAT(reading(raw(1) + text("qqqq") + raw(1) + raw(kMost) + raw(1.0f)),
              IsError(ErrorKind::kInput, "entry 'qqqq': a count of 2147483647"));
  EXPECT_THAT(reading(raw(1) + text("qqqq") + raw(-3) + raw(1) + raw(1.0f)),
              IsError(ErrorKind::kInput, "entry 'qqqq': -3 chunks"));
}

TEST_F(HostileImatrix, RefusesWhatIsNoImatrix) {
  EXPECT_THAT(reading(std::string(64, 'x')), IsError(ErrorKind::kInput, "the number of entries"));
  EXPECT_THAT(reading(raw(1) + dat_entry("q", 1, {1}) + raw(1) + text("t") + "more"),
              IsError(ErrorKind::kInput, "4 bytes follow"));
  EXPECT_THAT(reading(raw(2) + dat_entry("q", 1, {1}) + dat_entry("q", 1, {1})),
              IsError(ErrorKind::kInput, "entry 'q' occurs twice"));
  EXPECT_THAT(
      error_of([] { read_imatrix(test::fixtures() + "/gguf/tiny-1layer-Q4_0.gguf"); }),
      IsError(ErrorKind::kInput, "key 'general.type' is 'model', not 'imatrix' (it is a model)"));
}

TEST_F(HostileImatrix, RefusesSumsThatAreNegativeOrNotFinite) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kNan, kInfinity, -1.0f}) {
    EXPECT_THAT(reading(raw(1) + dat_entry("q", 1, {1, bad})),
                IsError(ErrorKind::kInput, "entry 'q': the sum at 1 is "));
    EXPECT_THAT(reading_gguf({1, bad}, {1}),
                IsError(ErrorKind::kInput, "entry 'q': the sum at 1 is "));
    EXPECT_THAT(reading_gguf({1, 1}, {bad}),
                IsError(ErrorKind::kInput, "entry 'q': the count at 0 is "));
  }
}

TEST_F(HostileImatrix, RefusesCountsThatDoNotFitTheSums) {
  EXPECT_THAT(reading_gguf({1, 1, 1, 1}, {1}), IsError(ErrorKind::kInput, "one count per row"));
  EXPECT_THAT(reading_gguf({1, 1}, {1, 1}), IsError(ErrorKind::kInput, "one count per row"));
  EXPECT_THAT(reading_gguf({}, {}), IsError(ErrorKind::kInput, "entry 'q' has no sums"));
}

}  // namespace
}  // namespace calque::io
