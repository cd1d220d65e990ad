#include <gtest/gtest.h>

#include <string>

#include "calque/formats/plan.h"
#include "calque/quant/methods.h"
#include "config/keys.h"

// The job file spells out methods and formats for its messages; these are the registries.

namespace calque::config {
namespace {

std::string type_of(const char* section, const char* key) {
  return find_section(section)->find(key)->type;
}

TEST(JobFile, OffersTheMethodsThereAre) {
  std::string names;
  for (const quant::MethodInfo& method : quant::methods()) {
    names += (names.empty() ? "" : ", ");
    names += method.name;
    EXPECT_EQ(needs_calibration(method.name), method.needs_calibration) << method.name;
  }
  EXPECT_EQ(type_of("quantization", "method"), names);
}

TEST(JobFile, OffersTheFormatsThereAre) {
  std::string names;
  for (const formats::FormatInfo& format : formats::formats()) {
    names += (names.empty() ? "" : ", ");
    names += format.name;
  }
  EXPECT_EQ(type_of("export", "format"), names);
}

}  // namespace
}  // namespace calque::config
