#include "calque/job/stage_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "job/stage_needs.h"
#include "support/demo_job.h"
#include "support/temp_folder.h"

namespace calque::job {
namespace {

using namespace pipeline;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

formats::ExportPlan plan_with(const std::string& format, std::vector<quant::Grid> linears) {
  formats::ExportPlan plan;
  plan.request.format = format;
  for (const quant::Grid& grid : linears) {
    formats::TensorPlan& tensor = plan.tensors.emplace_back();
    tensor.in_block_linear = true;
    tensor.grid = grid;
  }
  return plan;
}

Job gptq_job() {
  Job job;
  job.calibration.tokens = "ids.safetensors";
  return job;
}

// A machine with these devices, all of which lack `missing`.
Machine machine_with(std::vector<std::string> devices, std::set<Operation> missing = {},
                     int forward_gpus = 0) {
  return {.devices = std::move(devices),
          .why_no_gpu = "no NVIDIA driver",
          .provides =
              [missing](const std::string& device, Operation operation) {
                return device == "cpu" || missing.count(operation) == 0;
              },
          .forward_gpus = [forward_gpus] { return forward_gpus; }};
}

StageDevices chosen(const Job& job, const Machine& machine) {
  return choose_devices(job, {plan_with("gptq", {{}})}, machine);
}

std::string refusal(const Job& job, const Machine& machine) {
  try {
    chosen(job, machine);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    return error.code() + ": " + error.what();
  }
  return "not refused";
}

TEST(StageNeeds, OfGptqAreWhatItsRounderCalls) {
  const StageNeeds needs = stage_needs(gptq_job(), {plan_with("gptq", {{}})});
  EXPECT_TRUE(needs.forward);
  EXPECT_THAT(needs.statistics, ElementsAre(Operation::kGram));
  EXPECT_THAT(needs.transform, IsEmpty());
  EXPECT_THAT(needs.quantize, ElementsAre(Operation::kGramEnergy, Operation::kInverseCholesky,
                                          Operation::kRoundToGrid, Operation::kGptqSweep,
                                          Operation::kScaleSearch, Operation::kRefineGrid));
  EXPECT_THAT(needs.pack, ElementsAre(Operation::kPackBits));
}

TEST(StageNeeds, LeaveOutRefinementThatIsNotAskedFor) {
  Job job = gptq_job();
  job.quantization.refine_passes = 0;
  job.quantization.scale_rule = ScaleRule::kBlockSearch;
  const StageNeeds needs = stage_needs(job, {plan_with("awq", {{}})});
  EXPECT_THAT(needs.quantize, ElementsAre(Operation::kGramEnergy, Operation::kInverseCholesky,
                                          Operation::kRoundToGrid, Operation::kGptqSweep,
                                          Operation::kScaleSearch, Operation::kBlockScaleSearch));
  EXPECT_THAT(needs.pack, IsEmpty());  // AWQ's own order of fields
}

TEST(StageNeeds, OfRtnWithoutTextAreSearchAndRounding) {
  Job job;
  job.quantization.set_method("rtn");
  const StageNeeds needs = stage_needs(job, {plan_with("gptq", {{}})});
  EXPECT_FALSE(needs.forward);
  EXPECT_THAT(needs.statistics, IsEmpty());
  EXPECT_THAT(needs.quantize, ElementsAre(Operation::kRoundToGrid, Operation::kScaleSearch));
}

TEST(StageNeeds, OfGgufBlocksAreWhatMovesTheirScaleCodes) {
  const StageNeeds needs =
      stage_needs(gptq_job(), {plan_with("gguf", {quant::block_grid(ggml::Type::kQ4_K)})});
  EXPECT_THAT(needs.quantize, ElementsAre(Operation::kGramEnergy, Operation::kInverseCholesky,
                                          Operation::kGptqSweep, Operation::kRefineBlocks));
  EXPECT_THAT(needs.pack, IsEmpty());
}

TEST(StageNeeds, OfAwqHaveASearchForChannelScales) {
  Job job = gptq_job();
  job.quantization.set_method("awq");
  const StageNeeds needs = stage_needs(job, {plan_with("awq", {{}})});
  EXPECT_THAT(needs.transform, ElementsAre(Operation::kGramEnergy, Operation::kRoundToGrid,
                                           Operation::kScaleSearch));
}

TEST(StageNeeds, OfFewBitsHaveTheCorrectionsFactor) {
  quant::Grid two_bits;
  two_bits.bits = 2;
  const StageNeeds needs = stage_needs(gptq_job(), {plan_with("gptq", {two_bits})});
  EXPECT_THAT(needs.transform, ElementsAre(Operation::kInverseCholesky));
}

TEST(StageDevices, AreTheCpuWhereThereIsNothingElse) {
  const StageDevices devices = chosen(gptq_job(), machine_with({"cpu"}));
  EXPECT_EQ(devices.forward, "cpu");
  EXPECT_EQ(devices.statistics, "cpu");
  EXPECT_EQ(devices.quantize, "cpu");
}

TEST(StageDevices, AutoTakesAGpuThatCanDoTheStage) {
  const StageDevices devices =
      chosen(gptq_job(), machine_with({"cpu", "cuda:0"}, {Operation::kRefineGrid}, 1));
  EXPECT_EQ(devices.forward, "cuda:0");
  EXPECT_EQ(devices.statistics, "cuda:0");
  EXPECT_EQ(devices.transform, "cpu");  // nothing to do
  EXPECT_EQ(devices.quantize, "cpu");   // lacks refine_grid
  EXPECT_EQ(devices.pack, "cuda:0");
}

TEST(StageDevices, AStageMayDifferFromTheJob) {
  Job job = gptq_job();
  job.runtime.device = "cuda:1";
  job.runtime.stages.quantize = "cpu";
  job.runtime.stages.pack = "cuda";
  const StageDevices devices = chosen(job, machine_with({"cpu", "cuda:0", "cuda:1"}, {}, 2));
  EXPECT_EQ(devices.forward, "cuda:1");
  EXPECT_EQ(devices.statistics, "cuda:1");
  EXPECT_EQ(devices.quantize, "cpu");
  EXPECT_EQ(devices.pack, "cuda:0");
}

TEST(StageDevices, RefuseADeviceThatLacksAnOperation) {
  Job job = gptq_job();
  job.runtime.stages.quantize = "cuda:0";
  EXPECT_THAT(refusal(job, machine_with({"cpu", "cuda:0"}, {Operation::kRefineGrid})),
              AllOf(HasSubstr("E127"), HasSubstr("'cuda:0' does not provide refine_grid"),
                    HasSubstr("stage 'quantize'"), HasSubstr("method gptq"),
                    HasSubstr("Set runtime.stages.quantize: cpu")));
}

TEST(StageDevices, RefuseADeviceThatIsNotThere) {
  Job job = gptq_job();
  job.runtime.stages.statistics = "cuda:3";
  EXPECT_THAT(refusal(job, machine_with({"cpu", "cuda:0"})),
              AllOf(HasSubstr("E128"), HasSubstr("runtime.stages.statistics"),
                    HasSubstr("device 'cuda:3' for stage 'statistics' does not exist"),
                    HasSubstr("Devices: cpu, cuda:0.")));
  job.runtime = {};
  job.runtime.device = "cuda";
  EXPECT_THAT(refusal(job, machine_with({"cpu"})),
              AllOf(HasSubstr("E128"), HasSubstr("no NVIDIA driver"), HasSubstr("Devices: cpu."),
                    HasSubstr("Set runtime.device: cpu")));
}

TEST(StageDevices, RefuseAForwardPassThatLibTorchCannotRun) {
  Job job = gptq_job();
  job.runtime.device = "cuda:0";
  EXPECT_THAT(refusal(job, machine_with({"cpu", "cuda:0"}, {}, 0)),
              AllOf(HasSubstr("E128"), HasSubstr("stage 'forward'"), HasSubstr("LibTorch"),
                    HasSubstr("Set runtime.stages.forward: cpu")));
}

TEST(StageDevices, LeaveLibTorchAloneWhereNothingIsRun) {
  Job job;
  job.quantization.set_method("rtn");
  job.runtime.device = "cuda:0";
  Machine machine = machine_with({"cpu", "cuda:0"});
  machine.forward_gpus = []() -> int { throw Error(ErrorKind::kInternal, "", "asked"); };
  EXPECT_EQ(chosen(job, machine).forward, "cpu");
}

TEST(StageDevices, OpenSharesEqualOnes) {
  const StageExecs execs = job::open_devices(
      {.forward = "cpu", .statistics = "cpu", .transform = "cpu", .quantize = "cpu", .pack = "cpu"},
      this_machine(1));
  EXPECT_EQ(&execs.statistics.backend(), &execs.pack.backend());
  EXPECT_EQ(execs.forward, "cpu");
}

// The GPU's forward pass on the CPU. Ranges and codes of this job depend on the weights alone, so
// the two runs' errors, ratios of Gram energies, differ only by their fp32 sums: K * 2^-24 < 1e-4
// of an activation in each of some ten products in a row, sqrt(10) of that as their errors are
// independent, twice in a square: below 1e-3.
TEST(StageDevices, LetAJobRunOnTensors) {
  const calque::testing::TempFolder out;
  Job job = demo_job();
  job.calibration.packing.n_samples = 2;
  job.quantization.set_method("rtn");
  job.quantization.scale_rule = ScaleRule::kMinMax;
  job.quantization.propagate_error = false;
  job.exports = {folder_export("gptq", out / "cpu")};
  const record::Report cpu = run(job);
  job.exports = {folder_export("gptq", out / "tensors")};
  job.runtime.stages.forward = "tensors";
  job.run_dir = out / "run";
  const record::Report tensors = run(job);
  EXPECT_EQ(cpu.stage_devices.forward, "cpu");
  EXPECT_EQ(tensors.stage_devices.forward, "tensors");
  EXPECT_THAT(io::read_file(job.run_dir / "log.jsonl"),
              HasSubstr("devices: forward tensors, statistics cpu"));
  const std::vector<record::ModuleReport>& expected = cpu.artifacts.at(0).modules;
  const std::vector<record::ModuleReport>& given = tensors.artifacts.at(0).modules;
  ASSERT_EQ(given.size(), expected.size());
  for (std::size_t m = 0; m < given.size(); ++m) {
    EXPECT_EQ(given[m].tokens, expected[m].tokens) << given[m].module;
    EXPECT_NEAR(given[m].rounding.relative_error / expected[m].rounding.relative_error, 1, 1e-3)
        << given[m].module;
  }
}

}  // namespace
}  // namespace calque::job
