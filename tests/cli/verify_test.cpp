#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/json.h"
#include "cli/run_program.h"
#include "support/paths.h"

namespace calque::cli {
namespace {

using json = io::Json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(VerifyCommand, PrintsOneLineACheck) {
  const Outcome outcome = run("verify " + test::fixtures() + "/artifacts/gptqmodel_w4g128_sym_v1");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("warning  checksums  there is no SHA256SUMS"));
  for (const char* check :
       {"\nok       index ", "\nok       layout ", "\nok       config ", "\nok       values "})
    EXPECT_THAT(outcome.out, HasSubstr(check));
}

TEST(VerifyCommand, ExitsWith6ForADamagedArtifact) {
  const testing::TempFolder folder;
  write(folder / "model.safetensors", "nonsense");
  write(folder / "config.json", "{}");
  const Outcome outcome = run("verify " + shell_quoted(folder.path()));
  EXPECT_EQ(outcome.exit_code, 6);
  EXPECT_THAT(outcome.out, HasSubstr("FAULT    layout "));
  EXPECT_THAT(outcome.err, HasSubstr("fault"));
}

TEST(VerifyCommand, PrintsJson) {
  const testing::TempFolder folder;
  write(folder / "model.safetensors", "nonsense");
  const Outcome outcome = run("verify --json " + shell_quoted(folder.path()));
  EXPECT_EQ(outcome.exit_code, 6);
  const json findings = io::parse_json(outcome.out);
  ASSERT_GE(findings.size(), 3u);
  for (const json& finding : findings.elements()) {
    EXPECT_FALSE(finding.at("message").get<std::string>().empty());
    EXPECT_FALSE(finding.at("check").get<std::string>().empty());
  }
}

TEST(VerifyCommand, ExitsWith3IfThereIsNothing) {
  const Outcome outcome = run("verify nowhere");
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("'nowhere' does not exist"));
}

}  // namespace
}  // namespace calque::cli
