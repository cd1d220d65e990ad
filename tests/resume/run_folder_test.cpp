// A run with checkpoint: auto: the records of its journal, and when they are written.
#include "calque/resume/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace calque::resume {
namespace {

using namespace pipeline;

using ::testing::HasSubstr;
using ::testing::Not;

class AutomaticSaves : public ::testing::Test {
 protected:
  AutomaticSaves() {
    write_tiny_model(folder_ / "model");
    job_.model.path = folder_ / "model";
    job_.run_dir = folder_ / "run";
    job_.exports = {folder_export("gptq", folder_ / "out")};
  }
  std::string journal() const { return io::read_file(folder_ / "run/state/journal"); }
  static void save_a_block(RunFolder& folder) {
    folder.set_totals([] { return RunTotals{}; });
    PassProgress progress;
    progress.blocks = 1;
    folder.save(0, progress, 1, 0);
  }

  const testing::TempFolder folder_;
  job::Job job_;
  SavedRun saved_;
};

TEST_F(AutomaticSaves, HashTheModelForTheFirstSaveOnly) {
  RunFolder folder(job_, Resume::kAuto, {{"name", "test"}}, saved_);
  EXPECT_THAT(journal(), Not(HasSubstr("fields")));
  save_a_block(folder);
  EXPECT_THAT(journal(), HasSubstr("model shard model.safetensors"));
  EXPECT_THAT(journal(), HasSubstr("\"group\":\"settings\""));
}

TEST_F(AutomaticSaves, EndAShortRunWithoutOne) {
  RunFolder folder(job_, Resume::kAuto, {}, saved_);
  EXPECT_FALSE(folder.is_end_due(1 << 20, false));
  EXPECT_TRUE(folder.is_end_due(1 << 20, true)) << "more work follows";
  folder.export_finished(0);
  EXPECT_THAT(journal(), Not(HasSubstr("\"record\":\"export\"")))
      << "a run that goes on would look for partial files";
}

TEST_F(AutomaticSaves, EndARunThatHasBegunToSave) {
  RunFolder folder(job_, Resume::kAuto, {}, saved_);
  save_a_block(folder);
  EXPECT_TRUE(folder.is_end_due(1 << 20, false));
}

TEST_F(AutomaticSaves, DoNotContinueAModelThatChangedBeforeTheFirst) {
  {
    RunFolder folder(job_, Resume::kAuto, {}, saved_);
    io::write_file(folder_ / "model/tokenizer_config.json", "{\"changed\": true}");
    save_a_block(folder);
  }
  try {
    RunFolder(job_, Resume::kAuto, {}, saved_);
    FAIL() << "went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E305");
    EXPECT_THAT(error.what(), HasSubstr("changed during the run"));
  }
}

}  // namespace
}  // namespace calque::resume
