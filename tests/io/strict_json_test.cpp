#include "io/strict_json.h"

#include "io/io_test_support.h"

namespace calque::io {
namespace {

using namespace calque::testing;

std::string nested(int levels) {
  const auto count = static_cast<std::size_t>(levels);
  return std::string(count, '[') + std::string(count, ']');
}

TEST(StrictJson, ParsesWhatIsWellFormed) {
  const nlohmann::json json = parse_strict_json(R"({"a": [1, {"b": "x"}, {"b": "y"}], "b": 2})");
  EXPECT_EQ(json["a"][1]["b"], "x");
  EXPECT_EQ(json["a"][2]["b"], "y");
  EXPECT_EQ(json["b"], 2);
}

TEST(StrictJson, RefusesANameGivenTwice) {
  for (const char* text : {R"({"a": 1, "a": 1})", R"([0, {"x": {"a": 1, "b": {}, "a": 2}}])"})
    EXPECT_THAT(error_of([&] { parse_strict_json(text); }),
                IsError(ErrorKind::kInput, "the JSON name 'a' is given twice"));
}

TEST(StrictJson, RefusesDeepNesting) {
  EXPECT_NO_THROW(parse_strict_json(nested(64)));
  EXPECT_THAT(error_of([&] { parse_strict_json(nested(65)); }),
              IsError(ErrorKind::kInput, "nested deeper than 64"));
  EXPECT_THAT(error_of([&] { parse_strict_json(std::string(5'000'000, '[')); }),
              IsError(ErrorKind::kInput, "nested deeper than 64"));
}

TEST(StrictJson, SaysWhereBadJsonIs) {
  EXPECT_THAT(error_of([&] { parse_strict_json("{\n\"a\": }"); }),
              IsError(ErrorKind::kInput, "line 2, column 6"));
}

}  // namespace
}  // namespace calque::io
