#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/json.h"
#include "cli/run_program.h"
#include "support/paths.h"

// Compares a job's planned memory with its real memory, in a separate process.

namespace calque::cli {
namespace {

using json = io::Json;
using ::testing::HasSubstr;

// 65,536 tokens: activations are half of the job's memory.
const std::string kJob =
    "version: 1\n"
    "name: memory\n"
    "model: {path: " +
    test::demo_model() +
    "}\n"
    "calibration:\n"
    "  n_samples: 128\n"
    "  seqlen: 512\n"
    "  sources: [{path: " +
    test::calibration_data() +
    "/prose.txt}]\n"
    "quantization: {method: gptq, bits: 4, group_size: 64, refine_passes: 0}\n"
    "export:\n"
    "  - {format: gptq, path: gptq}\n"
    "run_dir: run\n";

json answer(const std::string& arguments) {
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return io::parse_json(outcome.out);
}

TEST(Memory, IsWhatValidateSaidWithinFifteenPercent) {
  const testing::TempFolder folder;
  write(folder / "job.yaml", kJob);
  const std::string job = shell_quoted(folder / "job.yaml");
  const json planned = answer("validate --json " + job).at("memory");
  const json report = answer("run --quiet --json " + job);
  EXPECT_EQ(report.at("predicted_peak_bytes"), planned.at("peak_bytes"));
  const double ratio =
      report.at("peak_bytes").get<double>() / planned.at("peak_bytes").get<double>();
  EXPECT_NEAR(ratio, 1, 0.15);
  ASSERT_EQ(report.at("stage_peaks").size(), planned.at("stages").size());
  double largest = 0;
  for (const json& stage : report.at("stage_peaks").elements())
    largest = std::max(largest, stage.at("measured_bytes").get<double>());
  EXPECT_EQ(largest, report.at("peak_bytes").get<double>());
}

TEST(Memory, IsShownByValidate) {
  const testing::TempFolder folder;
  write(folder / "job.yaml", kJob);
  const Outcome outcome = run("validate " + shell_quoted(folder / "job.yaml"));
  EXPECT_THAT(outcome.out, HasSubstr("\nmemory of stage  "));
  EXPECT_THAT(outcome.out, HasSubstr("\nquantize  "));
  EXPECT_THAT(outcome.out, HasSubstr("\nPeak memory: "));
  EXPECT_THAT(outcome.out, HasSubstr("(all activations in memory)"));
}

}  // namespace
}  // namespace calque::cli
