#include "calque/io/json.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "io/io_test_support.h"

namespace calque::io {
namespace {

using namespace calque::testing;

std::string nested(int levels) {
  const auto count = static_cast<std::size_t>(levels);
  return std::string(count, '[') + std::string(count, ']');
}

TEST(Json, ParsesWhatIsWellFormed) {
  const Json json = parse_json(R"({"a": [1, {"b": "x"}, {"b": "y"}], "b": 2})");
  EXPECT_EQ(json.at("a").at(1).at("b"), "x");
  EXPECT_EQ(json.at("a").at(2).at("b"), "y");
  EXPECT_EQ(json.at("b"), 2);
}

TEST(Json, RefusesANameGivenTwice) {
  for (const char* text : {R"({"a": 1, "a": 1})", R"([0, {"x": {"a": 1, "b": {}, "a": 2}}])"})
    EXPECT_THAT(error_of([&] { parse_json(text); }),
                IsError(ErrorKind::kInput, "the JSON name 'a' is given twice"));
}

TEST(Json, RefusesDeepNesting) {
  EXPECT_NO_THROW(parse_json(nested(64)));
  EXPECT_THAT(error_of([&] { parse_json(nested(65)); }),
              IsError(ErrorKind::kInput, "nested deeper than 64"));
  EXPECT_THAT(error_of([&] { parse_json(std::string(5'000'000, '[')); }),
              IsError(ErrorKind::kInput, "nested deeper than 64"));
}

TEST(Json, SaysWhereBadJsonIs) {
  EXPECT_THAT(error_of([&] { parse_json("{\n\"a\": }"); }),
              IsError(ErrorKind::kInput, "line 2, column 6"));
  EXPECT_EQ(parse_json_if_valid("{"), std::nullopt);
}

// The truth is nlohmann::ordered_json, which wrote these files before.
TEST(Json, PrintsAsNlohmannDoes) {
  const std::string text =
      R"({"z":[],"a":{},"n":null,"t":true,"list":[1,-2,18446744073709551615,-9223372036854775808],)"
      R"("real":[0.1,1.0,1e-7,-0.0,1e300,123456789.125,3.4028234663852886e+38],)"
      R"("text":"é\n\"\\/\u0001😀","deep":[[{"x":[{}]}]]})";
  const auto truth = nlohmann::ordered_json::parse(text);
  const Json json = parse_json(text);
  EXPECT_EQ(json.dump(), truth.dump());
  EXPECT_EQ(json.dump(2), truth.dump(2));
  EXPECT_EQ(json.dump(-1, true), truth.dump(-1, ' ', true));
}

TEST(Json, PrintsWhatJsonCannotHold) {
  EXPECT_EQ(Json(std::nan("")).dump(), "null");
  EXPECT_EQ(Json(std::numeric_limits<double>::infinity()).dump(), "null");
  EXPECT_EQ(Json("a\xff").dump(), "\"a\xef\xbf\xbd\"");
  EXPECT_EQ(json_string("a\"b\n"), R"("a\"b\n")");
}

TEST(Json, BracesAreAnObjectInTheirOrder) {
  const std::vector<std::string> names = {"x", "y"};
  Json json = {{"b", 1}, {"a", {{"names", names}}}, {"pair", Json::array({1, "two"})}};
  json["c"] = std::optional<int>();
  json["b"] = 3u;
  EXPECT_EQ(json.dump(), R"({"b":3,"a":{"names":["x","y"]},"pair":[1,"two"],"c":null})");
}

TEST(Json, ReadsBackWhatItWasMadeFrom) {
  const std::map<std::string, std::vector<int>> map = {{"a", {1, 2}}, {"b", {}}};
  EXPECT_EQ((Json(map).get<std::map<std::string, std::vector<int>>>()), map);
  EXPECT_EQ(Json(UINT64_MAX).get<std::uint64_t>(), UINT64_MAX);
  EXPECT_EQ(Json(7).get<double>(), 7.0);
}

TEST(Json, RefusesAnotherKind) {
  EXPECT_THAT(error_of([] { Json("x").number(); }),
              IsError(ErrorKind::kInput, "is string, not a number"));
  EXPECT_THAT(error_of([] { Json(300).get<std::uint8_t>(); }),
              IsError(ErrorKind::kInput, "is 300, not an integer that fits"));
  EXPECT_THAT(error_of([] { Json(-1).get<std::uint64_t>(); }),
              IsError(ErrorKind::kInput, "is -1, not an integer that fits"));
  EXPECT_THAT(error_of([] { Json(1.5).get<int>(); }),
              IsError(ErrorKind::kInput, "is 1.5, not an integer that fits"));
  EXPECT_THAT(error_of([] { Json{{"a", 1}}.at("b"); }), IsError(ErrorKind::kInput, "has no 'b'"));
}

TEST(JsonNode, SaysWhichValueIsMeant) {
  const Json json = {{"a", Json::array({{{"b", -1}}})}, {"null", nullptr}};
  const JsonNode root(json, "file.json", "E162");
  EXPECT_THAT(error_of([&] { root.at("a").at(0).at("b").integer(0, 9); }),
              IsError(ErrorKind::kInput, "file.json: a[0].b: is -1, outside [0, 9]"));
  EXPECT_THAT(error_of([&] { root.at("a").at(0).size("b", 9); }),
              IsError(ErrorKind::kInput,
                      "file.json: a[0]: 'b' must be a whole number from 1 to 9, found -1"));
  EXPECT_THAT(error_of([&] { root.object("null"); }),
              IsError(ErrorKind::kInput, "file.json: 'null' is missing"));
  EXPECT_EQ(root.text_or("null", "absent"), "absent");
}

}  // namespace
}  // namespace calque::io
