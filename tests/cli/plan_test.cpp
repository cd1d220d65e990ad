#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "calque/io/json.h"
#include "cli/run_program.h"
#include "support/paths.h"

// `calque plan` and `calque run --dry-run`: what they print, and that nothing else comes of them.

namespace calque::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Plan : public ::testing::Test {
 protected:
  Plan() {
    write(folder_ / "job.yaml",
          "version: 1\nname: small\nmodel: {path: " + test::demo_model() +
              "}\n"
              "calibration: {n_samples: 8, seqlen: 64, sources: [{path: text.txt}]}\n"
              "quantization: {method: gptq, bits: 4, group_size: 128}\n"
              "export:\n  - {format: gptq, path: out/gptq}\n"
              "  - {format: gguf, path: out/k.gguf, type: Q4_K_M}\n"
              "run_dir: run\n");
    write(folder_ / "text.txt", std::string(20000, 'a') + "\n");
  }
  std::string job() const { return shell_quoted(folder_ / "job.yaml"); }
  std::size_t files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path()))
      count += entry.exists() ? 1 : 0;
    return count;
  }

  testing::TempFolder folder_;
};

TEST_F(Plan, SaysWhatWouldBeWrittenAndWritesNothing) {
  const Outcome outcome = run("plan " + job());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("model.layers.{0-5}.self_attn.{q,k,v,o}_proj"),
                    HasSubstr("GPTQ 4 bit g128 sym  gptq, act order"), HasSubstr("Q6_K"),
                    HasSubstr("bits/weight"), HasSubstr("Peak memory: "), HasSubstr("Disk: "),
                    HasSubstr("Time: "), HasSubstr("estimate"), HasSubstr("Warnings: ")));
  EXPECT_EQ(files(), 2u);
  std::istringstream lines(outcome.out.substr(0, outcome.out.find("Warnings: ")));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
}

TEST_F(Plan, IsTheDryRunOfARun) {
  const Outcome dry = run("run --dry-run --json " + job());
  const Outcome plan = run("plan --json " + job());
  ASSERT_EQ(dry.exit_code, 0) << dry.err;
  auto of_run = io::parse_json(dry.out), of_plan = io::parse_json(plan.out);
  of_run["time"] = nullptr;
  of_plan["time"] = nullptr;  // differs between runs
  EXPECT_EQ(of_run, of_plan);
  EXPECT_EQ(files(), 2u);
}

TEST_F(Plan, IsJsonWithSizesSettingsMemoryDiskAndTime) {
  const Outcome outcome = run("plan --json --set quantization.bits=8 " + job());
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto plan = io::parse_json(outcome.out);
  EXPECT_EQ(plan.at("job"), "small");
  const auto& first = plan.at("exports").at(0);
  std::uint64_t weights = 0;
  for (const auto& file : first.at("files").elements())
    if (file.at("weights").boolean()) weights += file.at("bytes").get<std::uint64_t>();
  EXPECT_EQ(first.at("weights_file_bytes"), weights);
  EXPECT_GT(weights, first.at("tensor_bytes").get<std::uint64_t>());
  bool found = false;
  for (const auto& modules : first.at("modules").elements()) {
    if (modules.at("modules") != "model.layers.{0-5}.mlp.{gate,up,down}_proj") continue;
    found = true;
    EXPECT_EQ(modules.at("count"), 18);
    EXPECT_EQ(modules.at("bits"), 8);
    EXPECT_EQ(modules.at("group_size"), 128);
    EXPECT_EQ(modules.at("sym"), true);
    EXPECT_EQ(modules.at("method"), "gptq");
    EXPECT_EQ(modules.at("order"), "static act order");
  }
  EXPECT_TRUE(found);
  EXPECT_GT(plan.at("memory").at("peak_bytes").integer(), 0);
  EXPECT_GT(plan.at("disk").at("state_bytes").integer(), 0);
  EXPECT_EQ(plan.at("time").at("from"), "estimate");
  EXPECT_GT(plan.at("time").at("stage_seconds").at("forward").number(), 0);
  EXPECT_TRUE(plan.at("warnings").is_array());
}

TEST_F(Plan, RefusesWhatARunWouldRefuse) {
  const Outcome outcome = run("plan --set quantization.group_size=96 " + job());
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("E131"));
}

}  // namespace
}  // namespace calque::cli
