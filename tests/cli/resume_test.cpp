#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <thread>

#include "calque/io/json.h"
#include "cli/resume_job.h"
#include "support/paths.h"

// Runs that are interrupted and resumed, each in a separate process.

namespace calque::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Environment for a library that fails or kills at the n-th change to the disk (failing_disk.cpp).
std::string failing_at(int call, const std::string& how) {
  return fmt::format("FAIL_AT={} FAIL_HOW={} LD_PRELOAD={} ", call, how,
                     shell_quoted(failing_disk()));
}

class ResumeJob : public ::testing::Test {
 protected:
  ResumeJob() {
    write_small_model(folder_ / "model");
    write_small_tokens(folder_ / "tokens");
  }

  // Takes the place of the small model.
  void use_family(const std::string& name) {
    for (const char* const file : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(std::filesystem::path(test::fixtures()) / "families" / name / file,
                                 folder_ / "model" / file,
                                 std::filesystem::copy_options::overwrite_existing);
  }

  std::filesystem::path new_job(const SmallJob& job, const std::string& checkpoint = "block") {
    const std::filesystem::path folder = folder_ / fmt::format("job{}", jobs_++);
    write_job(folder, job, checkpoint);
    return folder;
  }

  std::map<std::string, std::string> uninterrupted(const SmallJob& job) {
    const std::filesystem::path folder = new_job(job);
    const auto begin = std::chrono::steady_clock::now();
    const Outcome outcome = run(run_arguments(folder));
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return results_of(folder);
  }

  // Starts `job` and kills it when its journal has such a record: its first block has been saved.
  std::filesystem::path stopped_job(const SmallJob& job, const std::string& record = "pass") {
    const std::filesystem::path folder = new_job(job);
    const pid_t process = start({"run", (folder / "job.yaml").string()});
    while (::waitpid(process, nullptr, WNOHANG) == 0 && !has_saved(folder, record)) ::usleep(500);
    ::kill(process, SIGKILL);
    ::waitpid(process, nullptr, 0);
    EXPECT_TRUE(has_saved(folder, record));
    return folder;
  }

  // The same, of a job that was stopped before its folder got its name, which it does soon after.
  std::filesystem::path stopped_with_partial_folder() {
    std::filesystem::path folder;
    do folder = stopped_job(gptq_job());
    while (!std::filesystem::exists(folder / "out/folder.partial"));
    return folder;
  }

  static bool has_saved(const std::filesystem::path& folder, const std::string& record = "pass") {
    return contents_of(folder / "run/state/journal").find("\"record\":\"" + record + "\"") !=
           std::string::npos;
  }

  void expect_same(const std::filesystem::path& folder,
                   const std::map<std::string, std::string>& expected, const std::string& what) {
    const auto results = results_of(folder);
    for (const auto& [name, bytes] : expected)
      EXPECT_TRUE(results.count(name) > 0 && results.at(name) == bytes) << name << ", " << what;
    for (const auto& [name, bytes] : results) EXPECT_EQ(expected.count(name), 1u) << name;
    EXPECT_FALSE(std::filesystem::exists(folder / "run/state/journal")) << what;
  }

  // A process that dies while it cleans up has already finished its run.
  void finish(const std::filesystem::path& folder, const std::string& what) {
    if (std::filesystem::exists(folder / "run/metrics.json") &&
        !std::filesystem::exists(folder / "run/state/journal"))
      return;
    const Outcome outcome = go_on(folder);
    ASSERT_EQ(outcome.exit_code, 0) << what << ": " << outcome.err;
  }

  // Kills runs `kills` times, at moments that each start a chain of interruptions or continue one.
  void survives_kills(const SmallJob& job, int kills, unsigned seed) {
    const auto expected = uninterrupted(job);
    std::mt19937 random(seed);
    const auto moment = [&] {
      return seconds_ * 1.1 * static_cast<double>(random() % 1000) / 1000;
    };
    int killed = 0;
    while (killed < kills && !HasFailure()) {
      const std::filesystem::path folder = new_job(job);
      std::vector<std::string> arguments = {"run", (folder / "job.yaml").string()};
      for (int round = 0; round < 3; ++round) {
        if (run_and_kill(arguments, moment())) ++killed;
        if (std::filesystem::exists(folder / "run/job.resolved.yaml"))
          arguments = {"resume", (folder / "run").string()};
      }
      finish(folder, fmt::format("after {} kills", killed));
      expect_same(folder, expected, fmt::format("after {} kills", killed));
      std::filesystem::remove_all(folder);
    }
    std::printf("%d kills\n", killed);
  }

  // Makes every `step`-th change to the disk the last one of a process.
  void survives_failures(const SmallJob& job, const std::string& how, int first, int step) {
#if defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "the sanitizer has to be loaded first";
#endif
    if (const char* every = std::getenv("CALQUE_TEST_EVERY")) step = std::atoi(every);
    const auto expected = uninterrupted(job);
    for (int call = first; !HasFailure(); call += step) {
      const std::filesystem::path folder = new_job(job);
      const Outcome failed = run(run_arguments(folder), failing_at(call, how));
      if (failed.exit_code == 0) break;
      if (how == "full") {
        ASSERT_EQ(failed.exit_code, 4) << "call " << call << ": " << failed.err;
        EXPECT_THAT(failed.err, HasSubstr("error[E302]: ")) << "call " << call;
        const bool tells = failed.err.find("calque resume ") != std::string::npos;
        EXPECT_EQ(tells, has_saved(folder)) << "call " << call << ": " << failed.err;
        const bool left = std::filesystem::exists(folder / "out/q4.gguf.partial");
        EXPECT_TRUE(tells || !left) << "call " << call;
      }
      finish(folder, fmt::format("call {}", call));
      expect_same(folder, expected, fmt::format("{} at call {}", how, call));
      std::filesystem::remove_all(folder);
    }
  }

  testing::TempFolder folder_;
  int jobs_ = 0;
  double seconds_ = 0;
};

TEST_F(ResumeJob, GptqIsTheSameAfterKillsAtAnyMoment) { survives_kills(gptq_job(), 18, 1); }
TEST_F(ResumeJob, AwqIsTheSameAfterKillsAtAnyMoment) { survives_kills(awq_job(), 17, 2); }
TEST_F(ResumeJob, TwoPassesBesideTheOriginalAreTheSameAfterKillsAtAnyMoment) {
  survives_kills(upstream_job(), 17, 3);
}
// Rows that layers leave for later ones, and the embeddings that layers have, are part of what is
// saved, for the original model as well.
TEST_F(ResumeJob, LayersThatShareKeysAreTheSameAfterKillsAtAnyMoment) {
  use_family("gemma4_e");
  survives_kills(family_job(), 12, 4);
}
TEST_F(ResumeJob, DeltaNetsAreTheSameAfterKillsAtAnyMoment) {
  use_family("qwen3_5_vl");
  survives_kills(family_job(), 12, 5);
}

// Strides have no common factor with the writes of a tensor; CALQUE_TEST_EVERY=1 tries all changes.
TEST_F(ResumeJob, AKillAtAnyChangeToTheDiskLosesNothing) {
  survives_failures(gptq_job(), "kill", 5, 29);
}
TEST_F(ResumeJob, ADiskThatIsFullAtAnyChangeLosesNothing) {
  survives_failures(gptq_job(), "full", 3, 31);
}

TEST_F(ResumeJob, RunGoesOnAndTheReportSaysSo) {
  const std::filesystem::path folder = stopped_job(gptq_job());
  const Outcome again = run(run_arguments(folder));  // `run` resumes, too
  EXPECT_EQ(again.exit_code, 0) << again.err;
  const auto metrics = io::parse_json(contents_of(folder / "run/metrics.json"));
  EXPECT_EQ(metrics.at("resumed"), 1);
}

TEST_F(ResumeJob, AFinishedTextIsNotEvaluatedAgain) {
  const auto evaluations_of = [](const std::filesystem::path& folder) {
    return io::parse_json(contents_of(folder / "run/metrics.json")).at("evaluations").dump(1);
  };
  const std::filesystem::path whole = new_job(evaluated_job());
  ASSERT_EQ(run(run_arguments(whole)).exit_code, 0);
  const std::filesystem::path folder = stopped_job(evaluated_job(), "evaluation");
  ASSERT_EQ(run(resume_arguments(folder)).exit_code, 0);
  EXPECT_EQ(evaluations_of(folder), evaluations_of(whole));
  const std::string log = contents_of(folder / "run/log.jsonl"), phase = "evaluate first";
  const std::size_t once = log.find(phase);
  ASSERT_NE(once, std::string::npos);
  EXPECT_EQ(log.find(phase, once + 1), std::string::npos);
}

TEST_F(ResumeJob, AnotherSettingIsRefusedWithBothValues) {
  const std::filesystem::path folder = stopped_job(gptq_job());
  const Outcome outcome = run(run_arguments(folder) + " --set quantization.damp_percent=0.05");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("error[E305]: cannot resume: quantization.damp_percent "
                                           "is 0.05, was 0.01"),
                                 HasSubstr("--resume never")));
  EXPECT_EQ(run(run_arguments(folder) + " --set runtime.threads=1").exit_code, 0);
}

TEST_F(ResumeJob, AnotherModelIsRefusedWithBothHashes) {
  const std::filesystem::path folder = stopped_job(gptq_job());
  std::fstream(folder_ / "model/model.safetensors", std::ios::in | std::ios::out)
          .seekp(-1, std::ios::end)
      << 'x';
  const Outcome outcome = run(resume_arguments(folder));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("error[E305]: cannot resume: model shard model.safetensors "
                                     "changed (sha256 "));
}

// Exports carry them, so they are part of the model.
TEST_F(ResumeJob, AnotherNamedChatTemplateIsRefused) {
  std::filesystem::create_directories(folder_ / "model/additional_chat_templates");
  write(folder_ / "model/additional_chat_templates/tool.jinja", "{{ messages }}");
  const std::filesystem::path folder = stopped_job(gptq_job());
  write(folder_ / "model/additional_chat_templates/tool.jinja", "{{ other }}");
  const Outcome outcome = run(resume_arguments(folder));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("error[E305]: cannot resume: model file "
                                     "additional_chat_templates/tool.jinja changed (sha256 "));
}

TEST_F(ResumeJob, OtherCalibrationTokensAreRefused) {
  const std::filesystem::path folder = stopped_job(gptq_job());
  write_small_tokens(folder_ / "tokens", 7907);
  const Outcome outcome = run(resume_arguments(folder));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("error[E305]: cannot resume: "),
                                 HasSubstr("calibration"), HasSubstr("changed (sha256 ")));
}

TEST_F(ResumeJob, APartialFileThatIsGoneIsRefusedAndNeverStartsAnew) {
  const std::filesystem::path folder = stopped_with_partial_folder();
  std::filesystem::remove_all(folder / "out/folder.partial");
  const Outcome outcome = run(resume_arguments(folder));
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("error[E308]: cannot resume: "),
                                 HasSubstr("folder.partial is missing")));
  EXPECT_EQ(run(run_arguments(folder) + " --resume never").exit_code, 0);
}

TEST_F(ResumeJob, AFreshRunRemovesWhatAnInterruptedOneLeftAtOtherPaths) {
  const std::filesystem::path folder = stopped_with_partial_folder();
  std::string yaml = contents_of(folder / "job.yaml");
  for (std::size_t at = yaml.find("out/"); at != std::string::npos; at = yaml.find("out/", at + 6))
    yaml.replace(at, 4, "other/");
  write(folder / "job.yaml", yaml);
  const Outcome outcome = run(run_arguments(folder) + " --resume never");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(std::filesystem::exists(folder / "other/folder"));
  EXPECT_TRUE(std::filesystem::is_empty(folder / "out"));
}

TEST_F(ResumeJob, AJournalThatWasCutOffGoesBackARecord) {
  const auto expected = uninterrupted(gptq_job());
  const std::filesystem::path folder = stopped_job(gptq_job());
  std::ofstream(folder / "run/state/journal", std::ios::app) << "1234 0123456789abcdef {\"rec";
  EXPECT_EQ(run(resume_arguments(folder)).exit_code, 0);
  expect_same(folder, expected, "after a cut");
}

TEST_F(ResumeJob, AJournalThatIsDamagedIsRefused) {
  const std::filesystem::path folder = stopped_job(gptq_job());
  std::string journal = contents_of(folder / "run/state/journal");
  journal[journal.size() / 2] ^= 1;
  write(folder / "run/state/journal", journal);
  const Outcome outcome = run(resume_arguments(folder));
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("error[E307]: "));
}

TEST_F(ResumeJob, AFolderOrAnExportInUseIsRefusedNamingTheProcess) {
  for (const char* name : {"run/state/lock", "out/q4.gguf.partial.lock"}) {
    const std::filesystem::path folder = new_job(gptq_job());
    std::filesystem::create_directories((folder / name).parent_path());
    write(folder / name, "4711\nother\n");
    const int lock = ::open((folder / name).c_str(), O_RDWR);
    ASSERT_EQ(::flock(lock, LOCK_EX | LOCK_NB), 0);
    const Outcome outcome = run(run_arguments(folder));
    ::close(lock);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("error[E306]: "), HasSubstr("(process 4711)")));
  }
}

// A folder below a file cannot be created, even by root.
TEST_F(ResumeJob, AnOutputFolderThatCannotBeWrittenIsFour) {
  const std::filesystem::path folder = new_job(gptq_job());
  write(folder / "out", "a file");
  const Outcome outcome = run(run_arguments(folder));
  EXPECT_EQ(outcome.exit_code, 4) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "run/state"));
}

TEST_F(ResumeJob, AFinishedRunIsNotResumed) {
  const std::filesystem::path folder = new_job(awq_job());
  ASSERT_EQ(run(run_arguments(folder)).exit_code, 0);
  const Outcome outcome = run(resume_arguments(folder));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("is finished"));
  EXPECT_THAT(run(run_arguments(folder)).err, HasSubstr("already exists"));
}

TEST_F(ResumeJob, OffSavesNothing) {
  const std::filesystem::path folder = new_job(gptq_job(), "off");
  const Outcome outcome = run(run_arguments(folder), failing_at(40, "full"));
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_FALSE(std::filesystem::exists(folder / "run/state/journal"));
  EXPECT_FALSE(std::filesystem::exists(folder / "out/folder.partial"));
}

// Waits until the journal records a saved block.
TEST_F(ResumeJob, ATerminatedRunSavesAndTellsHowToGoOn) {
  const std::filesystem::path folder = new_job(upstream_job());
  std::jthread terminator([&] {
    for (int i = 0; i < 3000; ++i) {
      ::usleep(1000);
      if (!has_saved(folder)) continue;
      const std::string lock = contents_of(folder / "run/state/lock");
      ::kill(std::stoi(lock), SIGTERM);
      return;
    }
  });
  const Outcome outcome = run(run_arguments(folder));
  EXPECT_EQ(outcome.exit_code, 143);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("interrupted; "), HasSubstr(" saved: calque resume ")));
  EXPECT_EQ(go_on(folder).exit_code, 0);
}

}  // namespace
}  // namespace calque::cli
