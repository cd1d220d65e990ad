#include "cli/manual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/config/job_file.h"
#include "cli/commands.h"

namespace calque::cli {
namespace {

using ::testing::HasSubstr;

TEST(Roff, ShowsEveryCharacterAsItIs) {
  EXPECT_EQ(roff("a-b"), "a\\-b");
  EXPECT_EQ(roff("'quoted' \"too\""), "\\(aqquoted\\(aq \\(dqtoo\\(dq");
  EXPECT_EQ(roff("C:\\x ^ ~"), "C:\\ex \\(ha \\(ti");
  EXPECT_EQ(roff(".txt"), "\\&.txt");
  EXPECT_EQ(roff("use `calque run`, then"), "use \\fBcalque run\\fR, then");
}

TEST(Manual, HasEveryCommandAndOption) {
  resume::SavedRun saved;
  const auto commands = all_commands({saved});
  const std::string page = program_manual(commands, "2026-11-30");
  EXPECT_THAT(page, HasSubstr(".TH CALQUE 1 \"2026\\-11\\-30\" \"calque "));
  for (const Command& command : commands) {
    EXPECT_THAT(page, HasSubstr("\n.SS \"calque " + command.name));
    for (const Option& option : command.options)
      EXPECT_THAT(page, HasSubstr(roff(option.help))) << command.name << ' ' << option.names;
  }
  EXPECT_THAT(page, HasSubstr(".SS \"calque quantize MODEL [TARGET ...] [options]\""));
  EXPECT_THAT(page, HasSubstr("\\fB\\-\\-out\\fR, \\fB\\-o\\fR \\fIFOLDER\\fR\n"));
}

TEST(Manual, HasEveryKeyOfTheJobFile) {
  const std::string page = job_file_manual("");
  for (const config::SectionFacts& section : config::sections_of_job_file())
    for (const config::KeyFacts& key : section.keys)
      EXPECT_THAT(page, HasSubstr(roff(key.doc))) << key.path;
}

}  // namespace
}  // namespace calque::cli
