#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/salient_channels.h"
#include "support/demo_job.h"
#include "support/paths.h"
#include "support/random_tokens.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;

class AwqOnEveryFamily : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, AwqOnEveryFamily, ::testing::ValuesIn(kFoldingFamilies));

// Scales are found and folded (norms of either kind, fused rows, biases, routers, experts), and at
// 8 bits the model stays closer to itself than with rounding to nearest without scales (0.4 to 0.6
// of its error when measured). A fold that misses one side changes logits by their own size.
TEST_P(AwqOnEveryFamily, KeepsTheModelItself) {
  const TempFolder out;
  job::Job job;
  job.name = "family";
  job.model.path = out / "model";
  plant_salient_channels(fs::path(test::fixtures()) / "families" / GetParam(), job.model.path);
  job.calibration.tokens = random_tokens(out / "ids", 40, 96, 320, 1);
  job.calibration.packing.n_samples = 40;
  job.calibration.packing.seqlen = 96;
  job.runtime.forward_dtype = "float32";
  job.quantization.grid = {.bits = 8, .group_size = 32, .sym = true};
  job.quantization.set_method("awq");
  job.quantization.rounding = &quant::kRtn;
  job.quantization.fallback_max_modules = 100;
  job.exports = {folder_export("compressed-tensors", out / "awq")};
  job.exports[0].scale_dtype = "float16";
  run(job);
  job.quantization.set_method("rtn");
  job.quantization.scale_rule = ScaleRule::kMinMax;
  job.exports[0].path = out / "rtn";
  run(job);
  const std::vector<std::int32_t> ids = random_ids(96, 320, 2);
  const double awq = typical_logit_error(out / "awq", job.model.path, ids);
  const double rtn = typical_logit_error(out / "rtn", job.model.path, ids);
  std::printf("%s: awq %.4f, rtn %.4f\n", GetParam(), awq, rtn);
  EXPECT_LT(awq, 0.8 * rtn);
  EXPECT_GT(awq, 0.0);
}

}  // namespace
}  // namespace calque::pipeline
